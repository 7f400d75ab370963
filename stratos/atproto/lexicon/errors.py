"""What can go wrong with a lexicon document and with a value that is held against one."""

from __future__ import annotations


class InvalidLexicon(ValueError):
    """A lexicon document is malformed, or refers to a definition that is not there; the message says where."""


class LexiconError(ValueError):
    """A value does not conform to its lexicon; the message begins with the path of the offending part."""


class UnknownLexicon(LookupError):
    """No lexicon of the wanted kind has this NSID: a fault of the caller, not of the value."""


class Mismatch(Exception):
    """Why a value does not conform, while the path to it is gathered from the inside out. Never leaves the package."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []

    def at(self, root: str) -> str:
        """The message for a value that is called `root`: `Record/embed/images/0 must be an object`."""
        return f"{'/'.join([root, *reversed(self.path)])} {self.reason}"
