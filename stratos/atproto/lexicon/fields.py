"""Reading the members of a lexicon document's objects, each with the type that it must have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar, cast

from stratos.atproto.lexicon.errors import InvalidLexicon

MAX_DOCUMENT_DEPTH: Final = 32
"""Nested objects in one lexicon document; ours and the official ones stay below ten."""

_T = TypeVar("_T")


class Fields:
    """One object of a document, with the place where it stands for messages. Members that are not asked for are ignored."""

    __slots__ = ("_depth", "_members", "where")

    def __init__(self, value: object, where: str, depth: int = 0) -> None:
        """Raises InvalidLexicon unless the value is an object with text keys, nested no deeper than MAX_DOCUMENT_DEPTH."""
        if depth > MAX_DOCUMENT_DEPTH:
            raise InvalidLexicon(f"{where}: nested deeper than {MAX_DOCUMENT_DEPTH}")
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise InvalidLexicon(f"{where}: must be an object")
        self.where = where
        self._members = cast("dict[str, object]", value)
        self._depth = depth

    def fault(self, reason: str) -> InvalidLexicon:
        """An error about this object."""
        return InvalidLexicon(f"{self.where}: {reason}")

    def has(self, name: str) -> bool:
        """Whether the member is there."""
        return name in self._members

    def names(self) -> tuple[str, ...]:
        """The names of all members."""
        return tuple(self._members)

    def child(self, name: str) -> Fields:
        """A member that must be an object."""
        if name not in self._members:
            raise self.fault(f"{name} is missing")
        return Fields(self._members[name], f"{self.where}.{name}", self._depth + 1)

    def children(self, name: str) -> Iterator[tuple[str, Fields]]:
        """The members of a member that must be an object of objects."""
        parent = self.child(name)
        for key in parent.names():
            yield key, parent.child(key)

    def text(self, name: str) -> str:
        """A member that must be text and must be there."""
        value = self.optional_text(name)
        if value is None:
            raise self.fault(f"{name} is missing")
        return value

    def optional_text(self, name: str) -> str | None:
        """A member that must be text if it is there."""
        return self._optional(name, str, "text")

    def optional_bool(self, name: str) -> bool | None:
        """A member that must be true or false if it is there."""
        return self._optional(name, bool, "true or false")

    def optional_int(self, name: str) -> int | None:
        """A member that must be a whole number if it is there."""
        return self._optional(name, int, "a whole number")

    def size(self, name: str) -> int | None:
        """A member that must be a whole number of at least 0 if it is there."""
        value = self.optional_int(name)
        if value is not None and value < 0:
            raise self.fault(f"{name} must not be negative")
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A member that must be a list of text if it is there."""
        return self._list(name, str, "text")

    def ints(self, name: str) -> tuple[int, ...] | None:
        """A member that must be a list of whole numbers if it is there."""
        return self._list(name, int, "whole numbers")

    def objects(self, name: str) -> tuple[Fields, ...] | None:
        """A member that must be a list of objects if it is there."""
        items = self._list(name, dict, "objects")
        if items is None:
            return None
        return tuple(Fields(item, f"{self.where}.{name}[{index}]", self._depth + 1) for index, item in enumerate(items))

    def bounds(self, low: str, high: str, read: Callable[[str], int | None]) -> tuple[int | None, int | None]:
        """Two bounds, read by `size` or `optional_int`, of which the lower must not be above the higher."""
        least, most = read(low), read(high)
        if least is not None and most is not None and least > most:
            raise self.fault(f"{low} is above {high}")
        return least, most

    def _optional(self, name: str, kind: type[_T], what: str) -> _T | None:
        if name not in self._members:
            return None
        value = self._members[name]
        # By exact type, since True is an instance of int too.
        if type(value) is not kind:
            raise self.fault(f"{name} must be {what}")
        return value

    def _list(self, name: str, kind: type[_T], what: str) -> tuple[_T, ...] | None:
        items = self._optional(name, list, f"a list of {what}")
        if items is None:
            return None
        if not all(type(item) is kind for item in items):
            raise self.fault(f"{name} must be a list of {what}")
        return tuple(cast("list[_T]", items))
