"""Keys: the service's own, and the sealing of users' keys at rest.

Source: service spec §4.12. What is sealed of a key is `curve(1) ‖ raw key(32)`, bound to its DID.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from stratos.atproto.keys import Curve, SigningKey, VerifyingKey
from stratos.atproto.syntax import Did
from stratos.engine.key_files import KeyFault
from stratos.engine.sealing import ContextSealer

_CURVE_TAGS: Final = {Curve.P256: b"p", Curve.SECP256K1: b"k"}
_CURVES: Final = {tag: curve for curve, tag in _CURVE_TAGS.items()}
_SIGNING_KEY: Final = "signing-key:"


class Keyring:
    """The service key, the user keys' and other values' seal, and a bounded cache of opened user keys."""

    def __init__(
        self,
        service_key: SigningKey,
        master_key: bytes,
        former_master_keys: Sequence[bytes] = (),
        *,
        former_service_key: VerifyingKey | None = None,
        max_cached: int = 1_024,
    ) -> None:
        """Former master keys still open what they sealed; by the former service key there still are attestations."""
        self.service_key = service_key
        self.former_service_key = former_service_key
        self.sealer = ContextSealer(master_key, former_master_keys)
        self._max_cached = max_cached
        self._opened: OrderedDict[bytes, tuple[Did, SigningKey]] = OrderedDict()

    def seal(self, did: Did, key: SigningKey) -> bytes:
        """Encrypt a user's key for storage; only this service's master key and this DID open it."""
        return self.sealer.seal(_CURVE_TAGS[key.curve] + key.raw, _SIGNING_KEY + did)

    def open(self, did: Did, sealed: bytes) -> SigningKey:
        """Decrypt a stored user key. Raises KeyFault where the master key or the DID is another."""
        cached = self._opened.get(sealed)
        if cached is not None and cached[0] == did:
            self._opened.move_to_end(sealed)
            return cached[1]
        if self.sealer.is_first_form(sealed):
            plain = self.sealer.open_first_form(sealed, did)
        else:
            plain = self.sealer.open(sealed, _SIGNING_KEY + did)
        if plain[:1] not in _CURVES:
            raise KeyFault(f"the signing key of {did} is sealed in an unknown form")
        key = SigningKey.from_raw(_CURVES[plain[:1]], plain[1:])
        self._opened[sealed] = (did, key)
        if len(self._opened) > self._max_cached:
            self._opened.popitem(last=False)
        return key

    def forget(self, did: Did) -> None:
        """Drop opened keys of a DID."""
        for sealed in [sealed for sealed, (owner, _) in self._opened.items() if owner == did]:
            del self._opened[sealed]

    def statistics(self) -> Mapping[str, int]:
        """Gauges: opened user keys and their limit."""
        return {"opened": len(self._opened), "opened_limit": self._max_cached}
