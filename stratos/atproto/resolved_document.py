"""DID documents of others: checked once when they arrive, then only read. Source: https://atproto.com/specs/did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from stratos.atproto.did_document import pds_endpoint, service_endpoint, verification_key
from stratos.atproto.keys import VerifyingKey
from stratos.atproto.syntax import Did

MAX_DOCUMENT_BYTES: Final = 64 * 1024
"""Of a document as it travels; an everyday one has about one kilobyte."""
HANDLE_PREFIX: Final = "at://"


class InvalidDocument(ValueError):
    """What came back is not the DID document that was asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class DidDocument:
    """A DID document whose `id` is `did`. `raw` is all of it, as JSON values, for passing on; never change it."""

    did: Did
    also_known_as: tuple[str, ...]
    raw: Mapping[str, object]
    _keys: dict[str, VerifyingKey] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Keys that were asked for: reading one takes half a millisecond. The document's size bounds them."""

    @classmethod
    def parse(cls, did: Did, body: bytes) -> DidDocument:
        """Read an answer. Raises InvalidDocument when it is too large, no JSON object, or somebody else's document."""
        if len(body) > MAX_DOCUMENT_BYTES:
            raise InvalidDocument(f"larger than {MAX_DOCUMENT_BYTES} bytes")
        try:
            raw = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise InvalidDocument("not JSON") from error
        if not isinstance(raw, dict):
            raise InvalidDocument("not a JSON object")
        if raw.get("id") != did:
            raise InvalidDocument(f"its id is not {did}")
        names = raw.get("alsoKnownAs")
        return cls(did, tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else (), raw)

    @property
    def pds(self) -> str | None:
        """The address of the subject's PDS, as the document states it."""
        return pds_endpoint(self.raw)

    @property
    def claimed_handle(self) -> str | None:
        """The first name beginning with `at://`, as the document states it: unchecked. See `Identity.verified_handle`."""
        return next((name.removeprefix(HANDLE_PREFIX) for name in self.also_known_as if name.startswith(HANDLE_PREFIX)), None)

    def verification_key(self, fragment: str) -> VerifyingKey | None:
        """The key of the first verification method with this fragment; None when there is none or it cannot be read."""
        known = self._keys.get(fragment)
        if known is None:
            known = verification_key(self.raw, fragment)
            if known is not None:
                self._keys[fragment] = known
        return known

    def service_endpoint(self, fragment: str) -> str | None:
        """The endpoint of the first service with this fragment whose endpoint is text; None when there is none."""
        return service_endpoint(self.raw, fragment)
