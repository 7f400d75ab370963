"""Reading lexicon documents: from parsed JSON to checked schema values.

Source: https://atproto.com/specs/lexicon. Members that the language does not know are ignored, so that later versions of a
document still load; what it does know must have its right form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from stratos.atproto.lexicon import schema
from stratos.atproto.lexicon.errors import InvalidLexicon
from stratos.atproto.lexicon.fields import Fields
from stratos.atproto.lexicon.strings import FORMATS
from stratos.atproto.syntax import InvalidSyntax, Nsid, check_language, parse_nsid, parse_rkey

LANGUAGE_VERSION: Final = 1
_MAIN: Final = "main"
_is_definition_name = re.compile("[a-zA-Z][a-zA-Z0-9_-]{0,127}").fullmatch
_is_mime_pattern = re.compile(r"\*/\*|[a-zA-Z0-9!#$&^_.+-]+/(?:\*|[a-zA-Z0-9!#$&^_.+-]+)").fullmatch


def parse_document(value: object) -> schema.Document:
    """Read one lexicon document from parsed JSON.

    Raises InvalidLexicon, naming the place, for anything malformed. References are made absolute, not followed.
    """
    top = Fields(value, "lexicon document")
    if top.optional_int("lexicon") != LANGUAGE_VERSION:
        raise top.fault(f"lexicon must be {LANGUAGE_VERSION}")
    try:
        nsid = parse_nsid(top.text("id"))
    except InvalidSyntax as error:
        raise top.fault(f"id: {error}") from None
    reader = _Reader(nsid)
    definitions: dict[str, schema.Definition] = {}
    for name, fields in Fields(value, nsid).children("defs"):
        if not _is_definition_name(name):
            raise fields.fault("not a name for a definition")
        definitions[nsid if name == _MAIN else f"{nsid}#{name}"] = reader.definition(name, fields)
    if not definitions:
        raise InvalidLexicon(f"{nsid}: defs is empty")
    return schema.Document(nsid, MappingProxyType(definitions))


class _Reader:
    """Reads the definitions of one document, whose NSID makes its local references absolute."""

    def __init__(self, nsid: Nsid) -> None:
        self._nsid = nsid
        self._fields: Mapping[str, Callable[[Fields], schema.Schema]] = {
            "boolean": _boolean,
            "integer": _integer,
            "string": _string,
            "bytes": _bytes,
            "cid-link": lambda _: schema.CidLink(),
            "blob": _blob,
            "unknown": lambda _: schema.Unknown(),
            "array": self._array,
            "object": self._object,
            "ref": self._ref,
            "union": self._union,
        }

    def definition(self, name: str, fields: Fields) -> schema.Definition:
        """A member of `defs`: sub-types, unknown, ref and union cannot be named; primary types must be `main`."""
        kind = fields.text("type")
        if kind == "token":
            return schema.Token()
        if kind in _NAMELESS:
            raise fields.fault(f"{kind} cannot be a definition of its own")
        if kind in self._fields:
            read = self._schema(fields)
            assert not isinstance(read, schema.Ref | schema.Union | schema.Unknown)  # noqa: S101 - _NAMELESS has them
            return read
        primary = self._primary(kind, fields)
        if name != _MAIN:
            raise fields.fault(f"a {kind} must be the main definition")
        return primary

    def _primary(self, kind: str, fields: Fields) -> schema.Record | schema.Method | schema.PermissionSet:
        if kind == "record":
            return self._record(fields)
        if kind == "permission-set":
            return _permission_set(fields)
        if kind in tuple(schema.MethodKind):
            return self._method(schema.MethodKind(kind), fields)
        raise fields.fault(f"unknown type {kind!r}")

    def _schema(self, fields: Fields) -> schema.Schema:
        kind = fields.text("type")
        read = self._fields.get(kind)
        if read is None:
            raise fields.fault(f"unknown type {kind!r}" if kind not in _NOT_FIELDS else f"{kind} cannot stand here")
        return read(fields)

    def _record(self, fields: Fields) -> schema.Record:
        key = fields.text("key")
        if key not in ("tid", "nsid", "any"):
            try:
                parse_rkey(key.removeprefix("literal:") if key.startswith("literal:") else "")
            except InvalidSyntax:
                raise fields.fault(f"key {key!r} must be tid, nsid, any or literal:<record key>") from None
        value = self._schema(fields.child("record"))
        if not isinstance(value, schema.Object):
            raise fields.fault("record must be of type object")
        return schema.Record(key, value)

    def _method(self, kind: schema.MethodKind, fields: Fields) -> schema.Method:
        return schema.Method(
            kind,
            self._params(fields.child("parameters")) if fields.has("parameters") else schema.Params(),
            input=self._body(fields, "input") if kind is schema.MethodKind.PROCEDURE else None,
            output=self._body(fields, "output") if kind is not schema.MethodKind.SUBSCRIPTION else None,
            message=self._message(fields) if kind is schema.MethodKind.SUBSCRIPTION else None,
            errors=tuple(_error_name(error) for error in fields.objects("errors") or ()),
        )

    def _params(self, fields: Fields) -> schema.Params:
        if fields.text("type") != "params":
            raise fields.fault("must be of type params")
        properties: dict[str, schema.Scalar | schema.Array] = {}
        for name, child in fields.children("properties"):
            value = self._schema(child)
            scalar = value.items if isinstance(value, schema.Array) else value
            if not isinstance(scalar, schema.Scalar) or not isinstance(value, schema.Scalar | schema.Array):
                raise child.fault("a parameter must be boolean, integer or string, or an array of these")
            properties[name] = value
        return schema.Params(MappingProxyType(properties), _subset(fields, "required", properties))

    def _body(self, fields: Fields, name: str) -> schema.Body | None:
        if not fields.has(name):
            return None
        body = fields.child(name)
        encoding = body.text("encoding")
        if not body.has("schema"):
            return schema.Body(encoding)
        value = self._schema(body.child("schema"))
        if not isinstance(value, schema.Object | schema.Ref | schema.Union):
            raise body.fault("schema must be an object, a ref or a union")
        return schema.Body(encoding, value)

    def _message(self, fields: Fields) -> schema.Union:
        value = self._schema(fields.child("message").child("schema"))
        if not isinstance(value, schema.Union):
            raise fields.fault("message.schema must be a union")
        return value

    def _array(self, fields: Fields) -> schema.Array:
        least, most = fields.bounds("minLength", "maxLength", fields.size)
        return schema.Array(self._schema(fields.child("items")), least, most)

    def _object(self, fields: Fields) -> schema.Object:
        properties = {name: self._schema(child) for name, child in fields.children("properties")}
        return schema.Object(
            MappingProxyType(properties),
            _subset(fields, "required", properties),
            frozenset(_subset(fields, "nullable", properties)),
        )

    def _ref(self, fields: Fields) -> schema.Ref:
        return schema.Ref(self._absolute(fields.text("ref"), fields))

    def _union(self, fields: Fields) -> schema.Union:
        refs = fields.texts("refs")
        if refs is None:
            raise fields.fault("refs is missing")
        closed = fields.optional_bool("closed") or False
        if closed and not refs:
            raise fields.fault("a closed union must have refs")
        return schema.Union(tuple(self._absolute(ref, fields) for ref in refs), closed)

    def _absolute(self, ref: str, fields: Fields) -> str:
        nsid, hash_sign, name = ref.partition("#")
        try:
            nsid = parse_nsid(nsid) if nsid else self._nsid
        except InvalidSyntax as error:
            raise fields.fault(f"reference {ref!r}: {error}") from None
        if hash_sign and not _is_definition_name(name):
            raise fields.fault(f"reference {ref!r}: not a name for a definition")
        return nsid if name in ("", _MAIN) else f"{nsid}#{name}"


_NAMELESS: Final = frozenset({"ref", "union", "unknown", "params", "permission"})
_NOT_FIELDS: Final = frozenset({"token", "params", "permission", "record", "permission-set", *schema.MethodKind})


def _subset(fields: Fields, name: str, properties: Mapping[str, object]) -> tuple[str, ...]:
    names = fields.texts(name) or ()
    for one in names:
        if one not in properties:
            raise fields.fault(f"{name} names {one!r}, which is not among the properties")
    return names


def _boolean(fields: Fields) -> schema.Boolean:
    return schema.Boolean(fields.optional_bool("const"), fields.optional_bool("default"))


def _integer(fields: Fields) -> schema.Integer:
    least, most = fields.bounds("minimum", "maximum", fields.optional_int)
    enum = fields.ints("enum")
    return schema.Integer(
        least,
        most,
        None if enum is None else frozenset(enum),
        fields.optional_int("const"),
        fields.optional_int("default"),
    )


def _string(fields: Fields) -> schema.String:
    form = fields.optional_text("format")
    if form is not None and form not in FORMATS:
        raise fields.fault(f"unknown format {form!r}")
    shortest, longest = fields.bounds("minLength", "maxLength", fields.size)
    fewest, most = fields.bounds("minGraphemes", "maxGraphemes", fields.size)
    fields.texts("knownValues")
    enum = fields.texts("enum")
    return schema.String(
        form,
        shortest,
        longest,
        fewest,
        most,
        None if enum is None else frozenset(enum),
        fields.optional_text("const"),
        fields.optional_text("default"),
    )


def _bytes(fields: Fields) -> schema.Bytes:
    return schema.Bytes(*fields.bounds("minLength", "maxLength", fields.size))


def _blob(fields: Fields) -> schema.Blob:
    accept = fields.texts("accept")
    for pattern in accept or ():
        if not _is_mime_pattern(pattern):
            raise fields.fault(f"accept: {pattern!r} is not a MIME type, type/* or */*")
    return schema.Blob(accept, fields.size("maxSize"))


def _error_name(fields: Fields) -> str:
    name = fields.text("name")
    if not name or any(character.isspace() for character in name):
        raise fields.fault("name must be without white space")
    return name


def _permission_set(fields: Fields) -> schema.PermissionSet:
    for name in ("title", "detail"):
        fields.optional_text(name)
        if fields.has(f"{name}:lang"):
            _check_translations(fields.child(f"{name}:lang"))
    permissions = fields.objects("permissions")
    if permissions is None:
        raise fields.fault("permissions is missing")
    return schema.PermissionSet(tuple(_permission(one) for one in permissions))


def _check_translations(fields: Fields) -> None:
    for language in fields.names():
        fields.text(language)
        try:
            check_language(language)
        except InvalidSyntax as error:
            raise fields.fault(str(error)) from None


def _permission(fields: Fields) -> schema.Permission:
    if fields.text("type") != "permission":
        raise fields.fault("must be of type permission")
    resource = fields.text("resource")
    member = {"repo": "collection", "rpc": "lxm"}.get(resource)
    if member is None:
        return schema.Permission(resource)
    names = fields.texts(member)
    if not names:
        raise fields.fault(f"{member} must be a list that is not empty")
    for action in (resource == "repo" and fields.texts("action")) or ():
        if action not in ("create", "update", "delete"):
            raise fields.fault(f"unknown action {action!r}")
    return schema.Permission(resource, names)
