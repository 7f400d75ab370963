"""Who we are as an OAuth client, in each form, and the document that says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qsl

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from joserfc import jwt
from joserfc.jwk import ECKey

from stratos.engine.oauth import ClientSettings, InvalidRegistration, Registration
from tests.engine.oauth.authorization_server import unpadded
from tests.engine.oauth.conftest import PUBLIC

SCOPE = "atproto repo:zone.stratos.actor.enrollment repo:zone.stratos.feed.post"
KEY = ECKey.generate_key("P-256", private=True)
PEM = KEY.as_pem(private=True).decode()
SEC1_PEM = (
    load_pem_private_key(PEM.encode(), None)
    .private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    .decode()
)
NOW = datetime(2026, 5, 28, 12, 0, tzinfo=UTC)


def loopback(public_url: str, **more: str) -> Registration:
    return Registration.of(ClientSettings(public_url=public_url, name="Stratos", allow_loopback=True, **more))


def test_the_document_of_a_public_client_is_that_of_the_spec() -> None:
    assert Registration.of(PUBLIC).document == {
        "client_id": "https://stratos.test/client-metadata.json",
        "client_name": "Stratos Service",
        "client_uri": "https://stratos.test",
        "redirect_uris": ["https://stratos.test/oauth/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": SCOPE,
        "token_endpoint_auth_method": "none",
        "dpop_bound_access_tokens": True,
        "application_type": "web",
        "subject_type": "public",
        "authorization_signed_response_alg": "RS256",
    }


def test_addresses_of_logo_and_policies_appear_only_when_configured() -> None:
    settings = replace(PUBLIC, logo_uri="https://stratos.test/assets/logo.png", tos_uri="https://stratos.test/tos")
    document = Registration.of(settings).document
    assert (document["logo_uri"], document["tos_uri"]) == ("https://stratos.test/assets/logo.png", "https://stratos.test/tos")
    assert "policy_uri" not in document


def test_a_configured_client_id_takes_the_place_of_the_usual_one() -> None:
    registration = Registration.of(replace(PUBLIC, client_id="https://ids.test/stratos.json"))
    assert registration.client_id == registration.document["client_id"] == "https://ids.test/stratos.json"


def test_a_slash_at_the_end_of_the_public_url_changes_nothing() -> None:
    assert Registration.of(replace(PUBLIC, public_url="https://stratos.test/")) == Registration.of(PUBLIC)


def test_a_public_client_proves_nothing() -> None:
    fields = Registration.of(PUBLIC).credentials("https://auth.test", jti="once", now=NOW)
    assert fields == {"client_id": "https://stratos.test/client-metadata.json"}


@pytest.mark.parametrize(
    "secret",
    [
        PEM,
        PEM.replace("\n", "\\n"),
        f"\n  {PEM}  \n",
        SEC1_PEM,
        orjson.dumps(KEY.as_dict(private=True)).decode(),
        orjson.dumps({**KEY.as_dict(private=True), "kid": "of its own", "use": "sig"}).decode(),
    ],
    ids=["pem", "pem on one line", "pem with space around it", "older pem", "jwk", "jwk with a name"],
)
def test_a_key_makes_a_confidential_client_whose_document_holds_the_public_half(secret: str) -> None:
    registration = Registration.of(replace(PUBLIC, private_key=secret))
    document = registration.document
    assert document["token_endpoint_auth_method"] == registration.authentication_method == "private_key_jwt"
    assert document["token_endpoint_auth_signing_alg"] == "ES256"
    public = {name: KEY.as_dict(private=False)[name] for name in ("kty", "crv", "x", "y")}
    jwks = document["jwks"]
    assert isinstance(jwks, dict)
    [jwk] = jwks["keys"]
    assert {**public, "kid": "key-1", "alg": "ES256"}.items() <= jwk.items()
    assert "d" not in jwk
    assert str(KEY.as_dict(private=True)["d"]) not in repr(registration) + repr(replace(PUBLIC, private_key=secret))


def test_an_assertion_is_for_one_server_and_one_minute() -> None:
    registration = Registration.of(replace(PUBLIC, private_key=PEM))
    fields = registration.credentials("https://auth.test", jti="once", now=NOW)
    assert fields["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    token = jwt.decode(fields["client_assertion"], KEY, algorithms=["ES256"])
    client_id = registration.client_id
    seconds = int(NOW.timestamp())
    assert token.claims == {
        "iss": client_id, "sub": client_id, "aud": "https://auth.test", "jti": "once", "iat": seconds, "exp": seconds + 60,
    }  # fmt: skip
    header = orjson.loads(unpadded(fields["client_assertion"].split(".")[0]))
    assert (header["alg"], header["kid"]) == ("ES256", "key-1")


@pytest.mark.parametrize(
    "secret",
    [
        "a password",
        "{}",
        "{not json",
        '{"kty":"oct","k":"c2VjcmV0"}',
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        KEY.as_pem(private=False).decode(),
        ECKey.generate_key("P-384", private=True).as_pem(private=True).decode(),
    ],
    ids=["text", "empty", "broken", "symmetric", "broken pem", "public", "another curve"],
)
def test_what_is_no_private_p_256_key_is_refused_by_the_setting_s_name_alone(secret: str) -> None:
    with pytest.raises(InvalidRegistration, match=r"^STRATOS_OAUTH_CLIENT_SECRET: ") as refusal:
        Registration.of(replace(PUBLIC, private_key=secret))
    assert secret not in str(refusal.value)


@pytest.mark.parametrize(
    ("public_url", "redirect_uri"),
    [
        ("http://localhost:3100", "http://127.0.0.1:3100/oauth/callback"),
        ("http://localhost", "http://127.0.0.1/oauth/callback"),
        ("http://127.0.0.1:3100", "http://127.0.0.1:3100/oauth/callback"),
        ("http://127.0.0.1", "http://127.0.0.1/oauth/callback"),
        ("http://[::1]:3100/", "http://[::1]:3100/oauth/callback"),
        ("http://[::1]", "http://[::1]/oauth/callback"),
    ],
)
def test_on_loopback_the_id_says_what_a_document_would(public_url: str, redirect_uri: str) -> None:
    registration = loopback(public_url)
    begin, _, query = registration.client_id.partition("?")
    assert begin == "http://localhost"
    assert dict(parse_qsl(query)) == {"redirect_uri": redirect_uri, "scope": SCOPE}
    assert registration.redirect_uri == redirect_uri
    assert registration.document["redirect_uris"] == [redirect_uri]
    assert registration.document["application_type"] == "native"
    assert registration.authentication_method == "none"


@pytest.mark.parametrize(
    "public_url",
    ["http://stratos.test", "http://10.0.0.1:3100", "stratos.test", "https://stratos.test/base", "https://u@stratos.test", ""],
)
def test_an_address_that_no_server_takes_is_refused_at_the_start(public_url: str) -> None:
    with pytest.raises(InvalidRegistration, match=r"^STRATOS_PUBLIC_URL: "):
        loopback(public_url)


def test_loopback_is_for_developers_and_has_no_key() -> None:
    with pytest.raises(InvalidRegistration, match="dev mode"):
        Registration.of(ClientSettings(public_url="http://localhost:3100", name="Stratos"))
    with pytest.raises(InvalidRegistration, match=r"^STRATOS_OAUTH_CLIENT_SECRET: "):
        loopback("http://localhost:3100", private_key=PEM)
