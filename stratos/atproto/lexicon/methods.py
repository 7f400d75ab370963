"""Methods: what the API needs to know of them, and their query parameters from text to typed values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from stratos.atproto.dag_cbor import MAX_INTEGER, DataModel
from stratos.atproto.lexicon import schema
from stratos.atproto.lexicon.errors import Mismatch
from stratos.atproto.lexicon.schema import MethodKind
from stratos.atproto.lexicon.strings import Check
from stratos.atproto.lexicon.values import Compiler
from stratos.atproto.syntax import Nsid

ParamValue: TypeAlias = "bool | int | str | list[bool] | list[int] | list[str]"
_Scalar: TypeAlias = bool | int | str

_is_decimal = re.compile("-?(?:0|[1-9][0-9]{0,15})").fullmatch
_BOOLEANS: Final[Mapping[str, bool]] = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class MethodDef:
    """A query, procedure or subscription as its lexicon declares it; an absent encoding means no body."""

    nsid: Nsid
    kind: MethodKind
    input_encoding: str | None
    output_encoding: str | None
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CompiledMethod:
    """A method with its checks; a check is None where the lexicon gives no schema."""

    definition: MethodDef
    params: ParamsReader
    input: Check | None
    output: Check | None
    messages: frozenset[str]
    """Names of the definitions that a subscription's message may follow."""


class ParamsReader:
    """Turns the query parameters of one method into typed values."""

    __slots__ = ("_readers", "_required")

    def __init__(self, params: schema.Params, compiler: Compiler, where: str) -> None:
        self._required = params.required
        self._readers = tuple(_Parameter(name, one, compiler, where) for name, one in params.properties.items())

    def read(self, given: Mapping[str, Sequence[str]]) -> dict[str, ParamValue]:
        """The declared parameters that are given or have a default; others are dropped. Raises Mismatch."""
        for name in self._required:
            if not given.get(name):
                raise Mismatch(f'must have the property "{name}"')
        values: dict[str, ParamValue] = {}
        for reader in self._readers:
            texts = given.get(reader.name)
            try:
                value = reader.read(texts) if texts else reader.default
            except Mismatch as mismatch:
                mismatch.path.append(reader.name)
                raise
            if value is not None:
                values[reader.name] = value
        return values


class _Parameter:
    """One declared parameter: how its texts become a value, and what that value must conform to."""

    __slots__ = ("_check", "_convert", "_repeated", "default", "name")

    def __init__(self, name: str, one: schema.Scalar | schema.Array, compiler: Compiler, where: str) -> None:
        self.name = name
        self._check = compiler.check(one, f"{where}.{name}")
        self._repeated = isinstance(one, schema.Array)
        self.default: bool | int | str | None = None
        scalar: schema.Schema = one
        if isinstance(one, schema.Array):
            scalar = one.items
        else:
            self.default = one.default
        self._convert = _converter(scalar)

    def read(self, texts: Sequence[str]) -> ParamValue:
        convert = self._convert
        if self._repeated:
            items: list[DataModel] = [convert(text) for text in texts]
            self._check(items)
            return items  # type: ignore[return-value]  # homogeneous, since one converter made all of them
        if len(texts) != 1:
            raise Mismatch("must be given only once")
        value = convert(texts[0])
        self._check(value)
        return value


def _converter(scalar: schema.Schema) -> Callable[[str], _Scalar]:
    if isinstance(scalar, schema.Boolean):
        return _boolean
    if isinstance(scalar, schema.Integer):
        return _integer
    return str


def _boolean(text: str) -> bool:
    value = _BOOLEANS.get(text)
    if value is None:
        raise Mismatch("must be a boolean: true or false")
    return value


def _integer(text: str) -> int:
    if not _is_decimal(text) or abs(value := int(text)) > MAX_INTEGER:
        raise Mismatch("must be an integer")
    return value


def compile_method(nsid: Nsid, method: schema.Method, compiler: Compiler) -> CompiledMethod:
    """Compile a method's parameters, bodies and messages. Raises InvalidLexicon."""
    messages = method.message.targets if method.message is not None else ()
    for target in messages:
        compiler.definition(target, nsid)
    return CompiledMethod(
        MethodDef(nsid, method.kind, _encoding(method.input), _encoding(method.output), method.errors),
        ParamsReader(method.parameters, compiler, nsid),
        _body_check(method.input, compiler, f"{nsid} input"),
        _body_check(method.output, compiler, f"{nsid} output"),
        frozenset(messages),
    )


def _encoding(body: schema.Body | None) -> str | None:
    return None if body is None else body.encoding


def _body_check(body: schema.Body | None, compiler: Compiler, where: str) -> Check | None:
    return None if body is None or body.schema is None else compiler.check(body.schema, where)
