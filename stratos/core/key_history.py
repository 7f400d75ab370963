"""The signing keys that an account has had at a service, and which of them signed a commit: revs tell, not clocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stratos.atproto.data_model import Json
from stratos.atproto.syntax import InvalidSyntax, Tid, parse_tid


class InvalidKeyHistory(ValueError):
    """The JSON is no history of keys."""


@dataclass(frozen=True, slots=True)
class SigningKeyPeriod:
    """One key and when it signed.

    `key` is a did:key. `first_rev` is the rev of its first commit; None for the account's first key where that is not known.
    `created` and `retired` are datetime texts, for people; `retired` is None for the key that signs now.
    """

    key: str
    first_rev: Tid | None
    created: str
    retired: str | None = None

    def as_json(self) -> Json:
        """As `zone.stratos.enrollment.status` tells it."""
        told: dict[str, Json] = {"key": self.key, "createdAt": self.created}
        if self.first_rev is not None:
            told["firstRev"] = self.first_rev
        if self.retired is not None:
            told["retiredAt"] = self.retired
        return told

    @classmethod
    def from_json(cls, value: object) -> SigningKeyPeriod:
        """Read what `as_json` wrote. Raises InvalidKeyHistory."""
        match value:
            case {"key": str(key), "createdAt": str(created), **others}:
                first, retired = others.get("firstRev"), others.get("retiredAt")
                try:
                    rev = None if first is None else parse_tid(str(first))
                except InvalidSyntax as error:
                    raise InvalidKeyHistory(f"firstRev: {error}") from error
                return cls(key, rev, created, None if retired is None else str(retired))
        raise InvalidKeyHistory("a signing key without key or createdAt")


def key_of_commit(history: Iterable[SigningKeyPeriod], rev: Tid) -> str | None:
    """The key that a commit of this rev has to be signed with: the last one whose first rev is not above it.

    None where the history begins later.
    """
    begun = [period for period in history if period.first_rev is None or period.first_rev <= rev]
    return max(begun, key=lambda period: period.first_rev or "").key if begun else None
