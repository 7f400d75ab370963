"""Keys and signatures on both curves."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st
from multiformats import multibase, multicodec

from stratos.atproto.car import read_car
from stratos.atproto.dag_cbor import decode, encode
from stratos.atproto.did_document import verification_key
from stratos.atproto.keys import Curve, InvalidKey, SigningKey, VerifyingKey
from tests.vectors import interop, reference

KEYS = {
    Curve.P256: SigningKey.from_raw(
        Curve.P256, bytes.fromhex("d0b4611b6ccf20e5e387d2ddc8fff8148bdc4004994cb63db0fc54777c983028")
    ),
    Curve.SECP256K1: SigningKey.from_raw(
        Curve.SECP256K1, bytes.fromhex("b8d7dbe3c5fff2a01f8316bf9b7362e026e214a470d9ab52c5d4e4b9795ff3f0")
    ),
}
curves = st.sampled_from(Curve)
each_curve = pytest.mark.parametrize("curve", Curve)


def with_high_s(signature: bytes, curve: Curve) -> bytes:
    return signature[:32] + (curve.order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")


# --- published and recorded vectors ---


def test_published_signatures_get_their_verdict() -> None:
    for case in json.loads(interop("crypto/signature-fixtures.json").read_text()):
        key = VerifyingKey.from_did_key(case["publicKeyDid"])
        message, signature = b64decode(case["messageBase64"] + "=="), b64decode(case["signatureBase64"] + "==")
        assert key.verify(message, signature) is case["validSignature"], case["comment"]
        assert key.did_key == case["publicKeyDid"]


def test_published_keys_in_the_older_document_form_are_the_same_keys() -> None:
    for case in json.loads(interop("crypto/signature-fixtures.json").read_text()):
        method = {"id": "#atproto", "type": case["didDocSuite"], "publicKeyMultibase": case["publicKeyMultibase"]}
        assert verification_key({"verificationMethod": [method]}, "atproto") == VerifyingKey.from_did_key(case["publicKeyDid"])


def test_published_private_keys_have_their_did_key() -> None:
    for case in json.loads(interop("crypto/w3c_didkey_K256.json").read_text()):
        assert SigningKey.from_raw(Curve.SECP256K1, bytes.fromhex(case["privateKeyBytesHex"])).did_key == case["publicDidKey"]
    for case in json.loads(interop("crypto/w3c_didkey_P256.json").read_text()):
        raw = multibase.decode("z" + case["privateKeyBytesBase58"])
        assert SigningKey.from_raw(Curve.P256, raw).did_key == case["publicDidKey"]


def test_the_reference_attestation_verifies_and_is_what_we_sign() -> None:
    recorded = json.loads(reference("attestation.json").read_text())
    payload, signature = bytes.fromhex(recorded["payloadDagCborHex"]), bytes.fromhex(recorded["sigHex"])
    key = VerifyingKey.from_did_key(recorded["serviceSigningKeyDid"])
    assert key.verify(payload, signature)
    assert not key.verify(payload + b"\0", signature)
    assert not VerifyingKey.from_did_key(recorded["userSigningKeyDid"]).verify(payload, signature)
    ours = SigningKey.from_raw(Curve.SECP256K1, bytes.fromhex(recorded["serviceSigningKeyPrivHex_secp256k1"]))
    assert ours.verifying_key == key
    assert ours.sign(payload) == signature


def test_commits_of_the_reference_verify_and_are_what_we_sign() -> None:
    recorded = json.loads(reference("valid/keys.json").read_text())
    key = SigningKey.from_raw(Curve.P256, bytes.fromhex(recorded["privHexP256"]))
    assert key.did_key == recorded["signingKeyDid"]
    commits = 0
    for block in read_car(reference("valid/repo-after-step3.car").read_bytes()).blocks.values():
        commit = decode(block)
        assert isinstance(commit, dict)
        signature = commit.pop("sig", None)
        if isinstance(signature, bytes):
            assert key.verifying_key.verify(encode(commit), signature)
            assert key.sign(encode(commit)) == signature
            commits += 1
    assert commits == 3


@pytest.mark.parametrize(
    ("message", "r", "s"),
    [
        (
            b"sample",
            "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
            "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
        ),
        (
            b"test",
            "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
            "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
        ),
    ],
)
def test_p256_signs_as_rfc_6979_says_with_low_s(message: bytes, r: str, s: str) -> None:
    key = SigningKey.from_raw(Curve.P256, bytes.fromhex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"))
    published = bytes.fromhex(r + s)
    low = min(published, with_high_s(published, Curve.P256), key=lambda signature: signature[32:])
    assert key.sign(message) == low


# --- signatures ---


@given(curves, st.binary(max_size=200))
def test_a_signature_verifies_is_compact_and_has_low_s(curve: Curve, message: bytes) -> None:
    signature = KEYS[curve].sign(message)
    assert len(signature) == 64
    assert int.from_bytes(signature[32:], "big") <= curve.order // 2
    assert KEYS[curve].verifying_key.verify(message, signature)
    assert KEYS[curve].sign(message) == signature


@given(curves, st.binary(max_size=50))
def test_the_same_signature_with_high_s_is_refused(curve: Curve, message: bytes) -> None:
    signature = with_high_s(KEYS[curve].sign(message), curve)
    assert not KEYS[curve].verifying_key.verify(message, signature)


@given(st.binary(max_size=50))
def test_a_second_library_accepts_our_secp256k1_signatures_and_we_accept_its_own(message: bytes) -> None:
    ours = KEYS[Curve.SECP256K1]
    theirs = ec.derive_private_key(int.from_bytes(ours.raw, "big"), ec.SECP256K1())
    signature = ours.sign(message)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        theirs.public_key().verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        pytest.fail("the second library refuses our signature")
    r, s = decode_dss_signature(theirs.sign(message, ec.ECDSA(SHA256())))
    s = min(s, Curve.SECP256K1.order - s)
    assert ours.verifying_key.verify(message, r.to_bytes(32, "big") + s.to_bytes(32, "big"))


@given(curves, st.binary(max_size=50), st.integers(0, 511))
def test_a_signature_with_any_bit_changed_is_refused(curve: Curve, message: bytes, bit: int) -> None:
    signature = bytearray(KEYS[curve].sign(message))
    signature[bit // 8] ^= 1 << bit % 8
    assert not KEYS[curve].verifying_key.verify(message, bytes(signature))


@given(curves, st.binary(max_size=80) | st.binary(min_size=64, max_size=64))
def test_random_bytes_are_no_signature_and_no_exception(curve: Curve, signature: bytes) -> None:
    assert not KEYS[curve].verifying_key.verify(b"message", signature)


@each_curve
def test_numbers_at_the_edges_of_the_range_are_no_signature(curve: Curve) -> None:
    numbers = [0, 1, curve.order // 2, curve.order - 1, curve.order, 2**256 - 1]
    for r in numbers:
        for s in numbers:
            assert not KEYS[curve].verifying_key.verify(b"message", r.to_bytes(32, "big") + s.to_bytes(32, "big"))


@each_curve
def test_der_and_truncated_and_prolonged_signatures_are_refused(curve: Curve) -> None:
    signature = KEYS[curve].sign(b"message")
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    for other in (der, signature[:-1], signature + b"\0", b""):
        assert not KEYS[curve].verifying_key.verify(b"message", other)


def test_a_signature_is_refused_by_a_key_on_the_other_curve() -> None:
    p256, secp256k1 = KEYS.values()
    assert not secp256k1.verifying_key.verify(b"message", p256.sign(b"message"))
    assert not p256.verifying_key.verify(b"message", secp256k1.sign(b"message"))


# --- keys ---


@pytest.mark.parametrize("generate", [SigningKey.generate_p256, SigningKey.generate_secp256k1])
def test_a_generated_key_reads_back_from_its_bytes(generate: Callable[[], SigningKey]) -> None:
    key, other = generate(), generate()
    again = SigningKey.from_raw(key.curve, key.raw)
    assert len(key.raw) == 32
    assert again.verifying_key == key.verifying_key
    assert again.sign(b"message") == key.sign(b"message")
    assert other.verifying_key != key.verifying_key


def test_generated_keys_are_on_the_curve_they_are_named_after() -> None:
    assert SigningKey.generate_p256().did_key.startswith("did:key:zDn")
    assert SigningKey.generate_secp256k1().did_key.startswith("did:key:zQ3s")


@given(curves, st.binary(min_size=31, max_size=31))
def test_the_public_forms_are_those_of_multiformats_and_read_back(curve: Curve, scalar: bytes) -> None:
    key = SigningKey.from_raw(curve, b"\x01" + scalar).verifying_key
    codec = "p256-pub" if curve is Curve.P256 else "secp256k1-pub"
    assert key.multibase == multibase.encode(multicodec.wrap(codec, key.compressed), "base58btc")
    assert key.did_key == f"did:key:{key.multibase}"
    for same in (
        VerifyingKey.from_did_key(key.did_key),
        VerifyingKey.from_multibase(key.multibase),
        VerifyingKey.from_compressed(curve, key.compressed),
    ):
        assert same == key
        assert hash(same) == hash(key)
        assert same.curve is curve


@each_curve
@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_private_key_of_another_length_is_refused(curve: Curve, length: int) -> None:
    with pytest.raises(InvalidKey, match="32 bytes"):
        SigningKey.from_raw(curve, b"\x01" * length)


@each_curve
def test_a_private_scalar_out_of_range_is_refused(curve: Curve) -> None:
    for scalar in (0, curve.order, curve.order + 1, 2**256 - 1):
        with pytest.raises(InvalidKey, match="order"):
            SigningKey.from_raw(curve, scalar.to_bytes(32, "big"))
    assert SigningKey.from_raw(curve, (curve.order - 1).to_bytes(32, "big")).raw[0] == 0xFF


@each_curve
def test_printing_a_private_key_shows_its_public_part_only(curve: Curve) -> None:
    key = KEYS[curve]
    for text in (repr(key), str(key)):
        assert key.raw.hex() not in text
        assert repr(key.raw) not in text
        assert key.did_key in text
    assert key.did_key in repr(key.verifying_key)


@each_curve
@pytest.mark.parametrize(
    "point",
    [
        b"",
        b"\x02",
        b"\x00" * 33,
        b"\x04" + b"\x01" * 32,
        b"\x05" + b"\x01" * 32,
        b"\x02" + b"\xff" * 32,
        b"\x02" + b"\x01" * 33,
        b"\x02" + b"\x01" * 64,
        b"\x04" + b"\x01" * 64,
        b"\x06" + b"\x01" * 64,
    ],
)
def test_bytes_that_are_no_point_are_refused(curve: Curve, point: bytes) -> None:
    with pytest.raises(InvalidKey):
        VerifyingKey(curve, point)
    with pytest.raises(InvalidKey):
        VerifyingKey.from_compressed(curve, point)


def test_a_point_whose_abscissa_is_not_on_the_curve_is_refused() -> None:
    for curve in Curve:
        off_curve = 0
        for x in range(1, 20):
            try:
                VerifyingKey.from_compressed(curve, b"\x02" + x.to_bytes(32, "big"))
            except InvalidKey:
                off_curve += 1
        assert 0 < off_curve < 19


P256_TEXT, SECP256K1_TEXT = (key.verifying_key.multibase for key in KEYS.values())
ED25519_TEXT = "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "z",
        "z1",
        "z" + "1" * 50,
        ED25519_TEXT,
        P256_TEXT[1:],
        "u" + P256_TEXT[1:],
        P256_TEXT[:-1],
        P256_TEXT + "1",
        "z1" + P256_TEXT[1:],
        P256_TEXT.replace("a", "0"),
        P256_TEXT[:-1] + "l",
        P256_TEXT + "é",
        P256_TEXT + "\ud800",
        P256_TEXT + "\n",
        "z" + "2" * 1_000_000,
        "z" + multibase.encode(multicodec.wrap("p256-pub", b"\x04" + b"\x01" * 64), "base58btc")[1:],
        "z" + multibase.encode(multicodec.wrap("secp256k1-pub", b"\x02" + b"\xff" * 32), "base58btc")[1:],
    ],
    ids=lambda text: text[:12].encode("ascii", "backslashreplace").decode(),
)
def test_text_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidKey):
        VerifyingKey.from_multibase(text)
    with pytest.raises(InvalidKey):
        VerifyingKey.from_did_key(f"did:key:{text}")


@given(
    st.text(max_size=60)
    | st.text("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", max_size=60).map(lambda text: "z" + text)
)
def test_random_text_is_refused_or_is_the_only_text_of_its_key(text: str) -> None:
    try:
        key = VerifyingKey.from_multibase(text)
    except InvalidKey:
        return
    assert key.multibase == text


@pytest.mark.parametrize(
    "text", [P256_TEXT, f"did:web:{P256_TEXT}", f"DID:KEY:{P256_TEXT}", f" did:key:{P256_TEXT}", "did:key:", ""]
)
def test_another_did_is_no_did_key(text: str) -> None:
    with pytest.raises(InvalidKey):
        VerifyingKey.from_did_key(text)
