"""Compiling schemas to checks: closures over data-model values that do no look-ups of their own.

A check passes silently or raises Mismatch; containers add their part of the path while it travels outwards, so that a conforming
value costs no path at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.lexicon import schema
from stratos.atproto.lexicon.errors import InvalidLexicon, Mismatch
from stratos.atproto.lexicon.strings import Check, string_check


class Compiler:
    """Compiles the definitions of a catalogue, each once; `recursive` tells whether any of them contains itself."""

    def __init__(self, definitions: Mapping[str, schema.Definition]) -> None:
        self._definitions = definitions
        self._compiled: dict[str, Check] = {}
        self._pending: dict[str, _Later] = {}
        self.recursive = False

    def definition(self, name: str, seen_from: str) -> Check:
        """The check of a named definition. Raises InvalidLexicon, naming `seen_from`, if it is absent or has no data."""
        known = self._compiled.get(name)
        if known is not None:
            return known
        if name in self._pending:
            self.recursive = True
            return self._pending[name]
        later = self._pending[name] = _Later()
        later.check = self._compiled[name] = self.check(self._data(name, seen_from), name)
        del self._pending[name]
        return later.check

    def check(self, one: schema.Schema, where: str) -> Check:
        """The check of a schema that stands in the definition `where`. Raises InvalidLexicon."""
        check = self._check(one, where)
        if isinstance(one, schema.Scalar) and one.default is not None:
            try:
                check(one.default)
            except Mismatch as mismatch:
                raise InvalidLexicon(f"{where}: {mismatch.at('default')}") from None
        return check

    def _object_of(self, one: schema.Object, where: str) -> Check:
        """The check of an object schema."""
        members = {
            name: _nullable(self.check(member, f"{where}.{name}"))
            if name in one.nullable
            else self.check(member, f"{where}.{name}")
            for name, member in one.properties.items()
        }
        return _object(members, one.required)

    def _data(self, name: str, seen_from: str) -> schema.Schema:
        found = self._definitions.get(name)
        if found is None:
            raise InvalidLexicon(f"{seen_from}: no lexicon defines {name}")
        if isinstance(found, schema.Record):
            return found.value
        if isinstance(found, schema.Token | schema.Method | schema.PermissionSet):
            raise InvalidLexicon(f"{seen_from}: {name} has no data to refer to")
        return found

    def _check(self, one: schema.Schema, where: str) -> Check:
        match one:
            case schema.Boolean():
                return _boolean(one)
            case schema.Integer():
                return _integer(one)
            case schema.String():
                return string_check(one)
            case schema.Bytes():
                return _bytes(one)
            case schema.CidLink():
                return _link
            case schema.Blob():
                return _blob(one)
            case schema.Unknown():
                return _unknown
            case schema.Array():
                return _array(one, self.check(one.items, where))
            case schema.Object():
                return self._object_of(one, where)
            case schema.Ref():
                return self.definition(one.target, where)
            case schema.Union():
                return _union({target: self._variant(target, where) for target in one.targets}, one.closed)

    def _variant(self, target: str, where: str) -> Check:
        if not isinstance(self._data(target, where), schema.Object):
            raise InvalidLexicon(f"{where}: {target} is in a union but neither an object nor a record")
        return self.definition(target, where)


class _Later:
    """Stands for a definition while it is being compiled, in the places where it contains itself."""

    __slots__ = ("check",)
    check: Check

    def __call__(self, value: DataModel) -> None:
        self.check(value)


def _nullable(check: Check) -> Check:
    def check_unless_null(value: DataModel) -> None:
        if value is not None:
            check(value)

    return check_unless_null


def _object(members: Mapping[str, Check], required: tuple[str, ...]) -> Check:
    find: Callable[[str], Check | None] = dict(members).get

    def check(value: DataModel) -> None:
        if type(value) is not dict:
            raise Mismatch("must be an object")
        for name in required:
            if name not in value:
                raise Mismatch(f'must have the property "{name}"')
        name = ""
        try:
            for name, member in value.items():
                check_member = find(name)
                if check_member is not None:
                    check_member(member)
        except Mismatch as mismatch:
            mismatch.path.append(name)
            raise

    return check


def _array(one: schema.Array, check_item: Check) -> Check:
    least, most = one.min_length or 0, float("inf") if one.max_length is None else one.max_length

    def check(value: DataModel) -> None:
        if type(value) is not list:
            raise Mismatch("must be an array")
        if len(value) > most:
            raise Mismatch(f"must not have more than {one.max_length} elements")
        if len(value) < least:
            raise Mismatch(f"must not have fewer than {least} elements")
        index = 0
        try:
            for item in value:
                check_item(item)
                index += 1
        except Mismatch as mismatch:
            mismatch.path.append(str(index))
            raise

    return check


def _union(variants: Mapping[str, Check], closed: bool) -> Check:
    find: Callable[[str], Check | None] = dict(variants).get
    allowed = ", ".join(variants)

    def check(value: DataModel) -> None:
        if type(value) is not dict:
            raise Mismatch("must be an object")
        kind = value.get("$type")
        if type(kind) is not str or not kind:
            raise Mismatch('must have the property "$type"' if kind is None else "must have text as its $type")
        check_variant = find(kind)
        if check_variant is not None:
            check_variant(value)
        elif closed:
            raise Mismatch(f"must have as its $type one of ({allowed})")

    return check


def _boolean(one: schema.Boolean) -> Check:
    const = one.const

    def check(value: DataModel) -> None:
        if type(value) is not bool:
            raise Mismatch("must be a boolean")
        if const is not None and value is not const:
            raise Mismatch(f"must be {str(const).lower()}")

    return check


def _integer(one: schema.Integer) -> Check:
    least = float("-inf") if one.minimum is None else one.minimum
    most = float("inf") if one.maximum is None else one.maximum
    allowed = one.enum if one.const is None else frozenset({one.const})

    def check(value: DataModel) -> None:
        if type(value) is not int:
            raise Mismatch("must be an integer")
        if value < least:
            raise Mismatch(f"must not be less than {least}")
        if value > most:
            raise Mismatch(f"must not be greater than {most}")
        if allowed is not None and value not in allowed:
            raise Mismatch(f"must be one of ({', '.join(map(str, sorted(allowed)))})")

    return check


def _bytes(one: schema.Bytes) -> Check:
    least, most = one.min_length or 0, float("inf") if one.max_length is None else one.max_length

    def check(value: DataModel) -> None:
        if type(value) is not bytes:
            raise Mismatch("must be a byte string")
        if len(value) > most:
            raise Mismatch(f"must not be longer than {one.max_length} bytes")
        if len(value) < least:
            raise Mismatch(f"must not be shorter than {least} bytes")

    return check


def _link(value: DataModel) -> None:
    if type(value) is not Cid:
        raise Mismatch("must be a CID link")


def _unknown(value: DataModel) -> None:
    if type(value) is not dict:
        raise Mismatch("must be an object")
    if value.get("$type") == "blob":
        raise Mismatch("must be an object that is not a blob")


def _blob(one: schema.Blob) -> Check:
    accepted, most = one.accept, one.max_size

    def check(value: DataModel) -> None:
        if type(value) is not dict or value.get("$type") != "blob":
            raise Mismatch("must be a blob")
        mime_type, size = value.get("mimeType"), value.get("size")
        if type(value.get("ref")) is not Cid or type(mime_type) is not str or type(size) is not int or size < 0:
            raise Mismatch("must be a blob with ref, mimeType and size")
        if accepted is not None and not accepts(accepted, mime_type):
            raise Mismatch(f"must be a blob of type {' or '.join(accepted)}, not {mime_type}")
        if most is not None and size > most:
            raise Mismatch(f"must be a blob of at most {most} bytes")

    return check


def accepts(patterns: tuple[str, ...], mime_type: str) -> bool:
    """Whether a MIME type matches one of `type/subtype`, `type/*` or `*/*`; case is ignored."""
    wanted = mime_type.lower()
    for pattern in patterns:
        lowered = pattern.lower()
        if lowered == "*/*" or lowered == wanted or (lowered.endswith("/*") and wanted.startswith(lowered[:-1])):
            return True
    return False
