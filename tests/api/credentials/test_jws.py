"""Tokens and keys taken apart: strict, and with nothing but asymmetric algorithms."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from stratos.api.credentials.jws import (
    MAX_TOKEN_CHARACTERS,
    MalformedToken,
    PublicKey,
    Token,
    UnusableKey,
    decode_base64url,
    encode_base64url,
    parse_token,
)
from stratos.api.credentials.origins import web_origin
from tests.api.credentials.builders import b64, part

P256 = ECKey.generate_key("P-256")
K256 = ECKey.generate_key("secp256k1")
RSA = RSAKey.generate_key(2048)


def signed(key: ECKey | RSAKey, algorithm: str) -> Token:
    """A token that joserfc has signed."""
    return parse_token(jws.serialize_compact({"alg": algorithm}, json.dumps({"a": 1}), key, algorithms=[algorithm]))


@pytest.mark.parametrize(("key", "algorithm"), [(P256, "ES256"), (K256, "ES256K"), (RSA, "RS256"), (RSA, "PS256")])
def test_signature_holds_for_its_key_and_algorithm_only(key: ECKey | RSAKey, algorithm: str) -> None:
    token = signed(key, algorithm)
    public = PublicKey(key.as_dict(private=False))
    assert public.signed(token)
    for other in (P256, K256, RSA, ECKey.generate_key("P-256"), ECKey.generate_key("secp256k1"), RSAKey.generate_key(2048)):
        assert PublicKey(other.as_dict(private=False)).signed(token) is (other is key)
    for stated in ("ES256", "ES256K", "RS256", "PS256", "HS256", "none", "", None, 7):
        if stated != algorithm:
            assert not public.signed(Token({"alg": stated}, token.claims, token.signing_input, token.signature))


def test_thumbprint_is_that_of_rfc_7638(subtests: pytest.Subtests) -> None:
    for key in (P256, K256, RSA):
        with subtests.test(key.key_type):
            public = {**key.as_dict(private=False), "kid": "k", "alg": None}
            assert PublicKey({name: value for name, value in public.items() if value}).thumbprint == key.thumbprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"use": "enc"},
        {"use": ["sig"]},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"alg": "HS256"},
        {"alg": "ES256K"},
        {"alg": 7},
        {"kty": "RSA"},
        {"kty": None},
        {"crv": "P-384"},
        {"crv": ["P-256"]},
        {"x": None},
        {"x": "!!"},
        {"x": b64(bytes(31))},
        {"y": b64(bytes(33))},
        {"y": b64(bytes(32))},
    ],
)
def test_jwk_that_is_not_a_signature_key_of_ours_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UnusableKey):
        PublicKey({**P256.as_dict(private=False), **changes})


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        OctKey.generate_key(256).as_dict(private=True),
        OKPKey.generate_key("Ed25519").as_dict(private=False),
        ECKey.generate_key("P-521").as_dict(private=False),
        {"kty": "RSA", "n": b64((2**1023 + 1).to_bytes(128, "big")), "e": "AQAB"},
        {"kty": "RSA", "n": b64((2**5000 + 1).to_bytes(626, "big")), "e": "AQAB"},
        {"kty": "RSA", "n": b64((2**2047 + 1).to_bytes(256, "big")), "e": b64((2**64 + 1).to_bytes(9, "big"))},
        {"kty": "RSA", "n": b64((2**2047 + 1).to_bytes(256, "big")), "e": b64(b"\x02")},
    ],
)
def test_key_of_another_kind_or_size_is_refused(jwk: dict[str, object]) -> None:
    with pytest.raises(UnusableKey):
        PublicKey(jwk)


@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "use", "key_ops", "alg", "kid", "d"]),
        st.one_of(
            st.sampled_from(["EC", "RSA", "oct", "P-256", "secp256k1", "sig", "AQAB", "ES256"]),
            st.text(max_size=50),
            st.none(),
            st.integers(),
            st.lists(st.text(max_size=5), max_size=3),
        ),
    )
)
def test_no_json_makes_reading_a_key_fail_in_another_way(jwk: dict[str, object]) -> None:
    try:
        PublicKey(jwk)
    except UnusableKey:
        return


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Invalid JWT format"),
        ("a.b", "Invalid JWT format"),
        ("a.b.c.d", "Invalid JWT format"),
        ("é.b.c", "Invalid JWT format"),
        ("a" * MAX_TOKEN_CHARACTERS + ".b.c", "Invalid JWT format"),
        ("..", "Invalid JWT encoding"),
        (f"{part([])}.{part({})}.", "Invalid JWT encoding"),
        (f"{part({})}.{part(None)}.", "Invalid JWT encoding"),
        (f"{part({})}.{b64(b'{')}.", "Invalid JWT encoding"),
        (f"{part({})}.{b64(b'NaN')}.", "Invalid JWT encoding"),
        (f"{part({})}.{part({})}=.", "Invalid JWT encoding"),
        (f" {part({})}.{part({})}.", "Invalid JWT encoding"),
        (f"{part({})}.{part({})}.+/", "Invalid JWT encoding"),
        (f"{part({})}.{part({})}.a", "Invalid JWT encoding"),
        (f"{part({'crit': ['b64']})}.{part({})}.", "Invalid JWT encoding"),
    ],
)
def test_what_is_not_a_token_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(MalformedToken, match=f"^{message}$"):
        parse_token(text)


@given(st.text(alphabet="ABab01-_+/=. \n", max_size=40))
def test_base64url_has_one_form_for_each_value(text: str) -> None:
    try:
        raw = decode_base64url(text)
    except MalformedToken:
        return
    assert encode_base64url(raw) == text


def test_token_prints_neither_signature_nor_signing_input() -> None:
    token = parse_token(f"{part({'alg': 'ES256'})}.{part({'iss': 'x'})}.{b64(b'secret signature')}")
    assert "secret" not in repr(token)
    assert part({"iss": "x"}) not in repr(token)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://A.test/x?y#z", "https://a.test"),
        ("https://a.test:443", "https://a.test"),
        ("http://a.test:443", "http://a.test:443"),
        ("http://[::1]:80/", "http://[::1]"),
        ("HTTPS://a.test", "https://a.test"),
        ("https://u@a.test", None),
        ("https://@a.test", None),
        ("https://a.test:x", None),
        ("https://[::1", None),
        ("ftp://a.test", None),
        ("//a.test", None),
        ("a.test", None),
        ("null", None),
        ("", None),
    ],
)
def test_origin_of_an_address(url: str, origin: str | None) -> None:
    assert web_origin(url) == origin
