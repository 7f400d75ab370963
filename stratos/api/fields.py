"""Typed reading of checked parameters and bodies; what a lexicon did not check is checked here, by name."""

from __future__ import annotations

from collections.abc import Mapping

from stratos.api.errors import invalid_request
from stratos.atproto.cid import Cid, InvalidCid
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.syntax import Did, InvalidSyntax, parse_did


class Fields:
    """Named values; every method raises XrpcError 400 naming the field that is absent or of the wrong type."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def has(self, name: str) -> bool:
        """Whether the field is given, be it null."""
        return name in self._values

    def text(self, name: str) -> str:
        """A text that must be given."""
        value = self.optional_text(name)
        if value is None:
            raise invalid_request(f"{name} is required")
        return value

    def optional_text(self, name: str) -> str | None:
        """A text, or None."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid_request(f"{name} must be a string")
        return value

    def integer(self, name: str, default: int) -> int:
        """A whole number."""
        value = self._values.get(name, default)
        if type(value) is not int:
            raise invalid_request(f"{name} must be an integer")
        return value

    def boolean(self, name: str, default: bool) -> bool:
        """A truth value."""
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            raise invalid_request(f"{name} must be true or false")
        return value

    def record(self, name: str) -> dict[str, DataModel]:
        """An object that must be given."""
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise invalid_request(f"{name} must be an object")
        return value

    def items(self, name: str) -> list[object] | None:
        """A list; None where the field is absent or something else."""
        value = self._values.get(name)
        return value if isinstance(value, list) else None

    def texts(self, name: str) -> list[str] | None:
        """A list of texts; None where the field is absent or something else."""
        items = self.items(name)
        if items is None or not all(isinstance(item, str) for item in items):
            return None
        return [str(item) for item in items]

    def cid(self, name: str) -> Cid | None:
        """A CID in its text form, or None."""
        text = self.optional_text(name)
        if text is None:
            return None
        try:
            return Cid.parse(text)
        except InvalidCid as error:
            raise invalid_request(f"{name}: {error}") from None

    def did(self, name: str) -> Did:
        """A DID that must be given."""
        try:
            return parse_did(self.text(name))
        except InvalidSyntax as error:
            raise invalid_request(f"{name}: {error}") from None
