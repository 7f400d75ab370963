"""All lexicons of the process: loaded and compiled once, then only asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import orjson

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.lexicon import schema
from stratos.atproto.lexicon.document import parse_document
from stratos.atproto.lexicon.errors import InvalidLexicon, LexiconError, Mismatch, UnknownLexicon
from stratos.atproto.lexicon.methods import CompiledMethod, MethodDef, ParamValue, compile_method
from stratos.atproto.lexicon.strings import Check
from stratos.atproto.lexicon.values import Compiler
from stratos.atproto.syntax import InvalidSyntax, Nsid, parse_nsid, parse_rkey, parse_tid

MAX_VALUE_DEPTH: Final = 80
"""Nested lists and maps in a value that is held against a lexicon which contains itself."""


class Lexicons:
    """The loaded lexicons; immutable once made, so it may be shared between threads.

    Values are data-model values (`Cid`, `bytes`), not parsed JSON. Every refusal is a LexiconError whose message begins with
    `Record`, `Input`, `Output`, `Message` or `Params` and the path inside, as `Record/embed/images/0/image must be a blob`;
    messages about parameters and inputs carry the prefix `Error: ` that the reference gives them on the wire.
    """

    def __init__(self, documents: Iterable[schema.Document]) -> None:
        """Compile the documents. Raises InvalidLexicon for a document given twice and for a reference that leads nowhere."""
        definitions: dict[str, schema.Definition] = {}
        for document in documents:
            for name, definition in document.definitions.items():
                if name in definitions:
                    raise InvalidLexicon(f"{document.id}: {name} is defined twice")
                definitions[name] = definition
        compiler = Compiler(definitions)
        self._checks: dict[str, Check] = {}
        self._keys: dict[str, str] = {}
        self._methods: dict[str, CompiledMethod] = {}
        self._others: set[str] = set()
        for name, definition in definitions.items():
            if isinstance(definition, schema.Method):
                self._methods[name] = compile_method(Nsid(name), definition, compiler)
            elif isinstance(definition, schema.Token | schema.PermissionSet):
                self._others.add(name)
            else:
                self._checks[name] = compiler.definition(name, name)
                if isinstance(definition, schema.Record):
                    self._keys[name] = definition.key
        self._recursive = compiler.recursive

    @classmethod
    def from_documents(cls, documents: Iterable[object]) -> Lexicons:
        """Read documents that are already parsed from JSON. Raises InvalidLexicon."""
        return cls([parse_document(document) for document in documents])

    @classmethod
    def load(cls, directory: Path) -> Lexicons:
        """Read every `.json` file below the directory; each must lie at the path that its NSID spells.

        Raises InvalidLexicon, naming the file, for anything malformed, and for a directory without lexicons.
        """
        documents = [_read(path, directory) for path in sorted(directory.rglob("*.json"))]
        if not documents:
            raise InvalidLexicon(f"no lexicons in {directory}")
        return cls(documents)

    def nsids(self) -> tuple[Nsid, ...]:
        """The NSIDs of all methods and records, in order."""
        return tuple(Nsid(name) for name in sorted((*self._methods, *self._keys)))

    def method(self, nsid: str) -> MethodDef | None:
        """The method of that name, or None."""
        found = self._methods.get(nsid)
        return None if found is None else found.definition

    def knows_record(self, nsid: str) -> bool:
        """Whether there is a lexicon for records of that collection."""
        return nsid in self._keys

    def check_record(self, nsid: str, value: DataModel) -> None:
        """Check a record of the collection `nsid`, `$type` included. Raises LexiconError.

        A collection without a lexicon passes: the service takes records of any `zone.stratos.*` collection (spec service §3.2);
        `knows_record` tells the two apart.
        """
        if nsid not in self._keys:
            self._refuse_other_kinds(nsid)
            return
        try:
            if isinstance(value, dict) and value.get("$type") != nsid:
                raise Mismatch(f'must have "{nsid}" as its $type')
            self._run(self._checks[nsid], value)
        except Mismatch as mismatch:
            raise LexiconError(mismatch.at("Record")) from None

    def check_record_key(self, nsid: str, rkey: str) -> None:
        """Check a record key's syntax and the kind of key that the collection's lexicon wants, if any. Raises LexiconError."""
        key = self._keys.get(nsid, "any")
        try:
            parse_rkey(rkey)
            if key == "tid":
                parse_tid(rkey)
            elif key == "nsid":
                parse_nsid(rkey)
        except InvalidSyntax as error:
            raise LexiconError(f"rkey: {error}") from None
        if key.startswith("literal:") and rkey != key.removeprefix("literal:"):
            raise LexiconError(f"rkey: must be {key.removeprefix('literal:')!r} in {nsid}")

    def check_definition(self, name: str, value: DataModel) -> None:
        """Check a value against a named definition, as `zone.stratos.defs#source`. Raises LexiconError or UnknownLexicon."""
        check = self._checks.get(name)
        if check is None:
            raise UnknownLexicon(name)
        try:
            self._run(check, value)
        except Mismatch as mismatch:
            raise LexiconError(mismatch.at("Value")) from None

    def check_params(self, nsid: str, params: Mapping[str, Sequence[str]]) -> dict[str, ParamValue]:
        """Typed values of a method's declared query parameters, defaults applied; undeclared ones are dropped.

        `params` gives every parameter's texts in order. Booleans are `true` or `false`, integers decimal within ±(2^53−1).
        Raises LexiconError, also for a parameter given twice that is not an array; UnknownLexicon.
        """
        method = self._method(nsid)
        try:
            return method.params.read(params)
        except Mismatch as mismatch:
            raise LexiconError(f"Error: {mismatch.at('Params')}") from None

    def check_input(self, nsid: str, value: DataModel) -> None:
        """Check the JSON body of a procedure; one without a schema takes anything. Raises LexiconError, UnknownLexicon."""
        try:
            self._run(self._method(nsid).input, value)
        except Mismatch as mismatch:
            raise LexiconError(f"Error: {mismatch.at('Input')}") from None

    def check_output(self, nsid: str, value: DataModel) -> None:
        """Check the JSON answer of a method; one without a schema gives anything. Raises LexiconError, UnknownLexicon."""
        try:
            self._run(self._method(nsid).output, value)
        except Mismatch as mismatch:
            raise LexiconError(mismatch.at("Output")) from None

    def check_message(self, nsid: str, kind: str, body: DataModel) -> None:
        """Check the body of a subscription's message; `kind` is as in its frame's header, `#commit`.

        Raises LexiconError, also for a kind that the subscription does not have; UnknownLexicon.
        """
        name = f"{nsid}{kind}"
        if name not in self._method(nsid).messages:
            raise LexiconError(f"Message must be one of {nsid}'s, not {kind!r}")
        try:
            self._run(self._checks[name], body)
        except Mismatch as mismatch:
            raise LexiconError(mismatch.at("Message")) from None

    def _run(self, check: Check | None, value: DataModel) -> None:
        if check is None:
            return
        if self._recursive:
            _check_depth(value)
        check(value)

    def _method(self, nsid: str) -> CompiledMethod:
        method = self._methods.get(nsid)
        if method is None:
            raise UnknownLexicon(nsid)
        return method

    def _refuse_other_kinds(self, nsid: str) -> None:
        if nsid in self._methods or nsid in self._checks or nsid in self._others:
            raise LexiconError(f"Record cannot be of type {nsid}, which is not a record")


def _read(path: Path, directory: Path) -> schema.Document:
    try:
        document = parse_document(orjson.loads(path.read_bytes()))
    except ValueError as error:  # InvalidLexicon and what orjson raises
        raise InvalidLexicon(f"{path}: {error}") from error
    if path.relative_to(directory).with_suffix("").parts != tuple(document.id.split(".")):
        raise InvalidLexicon(f"{path}: the file of {document.id} lies elsewhere")
    return document


def _check_depth(value: DataModel) -> None:
    waiting: list[tuple[DataModel, int]] = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if not isinstance(item, dict | list):
            continue
        if depth == MAX_VALUE_DEPTH:
            raise Mismatch(f"must not be nested deeper than {MAX_VALUE_DEPTH}")
        waiting.extend((member, depth + 1) for member in (item.values() if isinstance(item, dict) else item))
