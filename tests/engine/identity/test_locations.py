"""Where identities are looked up, and how short answers read."""

from __future__ import annotations

import pytest

from stratos.atproto.did_web import UnsupportedDid, web_document_url
from stratos.atproto.syntax import Did, Handle
from stratos.engine.identity.locations import (
    did_in_body,
    did_in_texts,
    has_reserved_tld,
    is_plc,
    normal_handle,
    plc_document_url,
)

REI = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


def test_did_plc_is_asked_of_the_directory() -> None:
    assert is_plc(Did(REI))
    assert plc_document_url("https://plc.directory/", Did(REI)) == f"https://plc.directory/{REI}"


@pytest.mark.parametrize(
    "did", [REI[:-1], REI + "a", REI.upper(), REI[:-1] + "1", REI[:-1] + "/", "did:plc:../../admin", "did:web:garden.net"]
)
def test_a_did_plc_has_24_characters_of_base32(did: str) -> None:
    assert not is_plc(Did(did))


@pytest.mark.parametrize("allow_private", [False, True])
def test_did_web_is_asked_of_its_host(allow_private: bool) -> None:
    assert web_document_url(Did("did:web:garden.net"), allow_private=allow_private) == "https://garden.net/.well-known/did.json"


@pytest.mark.parametrize(
    ("did", "url"),
    [
        ("did:web:localhost%3A3100", "http://localhost:3100/.well-known/did.json"),
        ("did:web:localhost%3a3100", "http://localhost:3100/.well-known/did.json"),
        ("did:web:localhost", "http://localhost/.well-known/did.json"),
    ],
)
def test_did_web_of_localhost_is_for_developers_only(did: str, url: str) -> None:
    assert web_document_url(Did(did), allow_private=True) == url
    with pytest.raises(UnsupportedDid):
        web_document_url(Did(did), allow_private=False)


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize(
    "did",
    [
        "did:web:garden.net:rei",
        "did:web:garden.net%3A8443",
        "did:web:garden.net%3A8443:rei",
        "did:web:garden.net%2Frei",
        "did:web:localhost%3A3100:rei",
        "did:web:localhost:3100",
        "did:web:localhost%3A",
        "did:web:localhost%3A31%2F00",
        "did:web:127.0.0.1",
        "did:web:2130706433",
        "did:web:%5B%3A%3A1%5D",
        "did:web:rei%40garden.net",
        "did:web:garden..net",
        "did:web:-garden.net",
        "did:web:intranet",
        "did:web:garden.net.",
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
        "did:plc:tooshort",
    ],
)
def test_other_dids_are_not_resolved(did: str, allow_private: bool) -> None:
    with pytest.raises(UnsupportedDid):
        web_document_url(Did(did), allow_private=allow_private)


def test_handles_are_compared_in_lower_case() -> None:
    assert normal_handle("Rei.Garden.NET") == "rei.garden.net"


@pytest.mark.parametrize(
    "text", ["", "rei", "@rei.garden.net", "rei..net", "rei.garden.net/", "rei.garden.123", REI, "a" * 254 + ".net"]
)
def test_what_is_no_handle_is_none(text: str) -> None:
    assert normal_handle(text) is None


def test_reserved_names_are_known() -> None:
    assert has_reserved_tld(Handle("rei.test"))
    assert has_reserved_tld(Handle("handle.invalid"))
    assert not has_reserved_tld(Handle("test.garden.net"))


@pytest.mark.parametrize(
    ("texts", "did"),
    [
        ([], None),
        ([f"did={REI}"], REI),
        (["v=spf1 -all", f"did={REI}"], REI),
        ([f"did={REI}", f"did={REI}"], REI),
        ([f"did={REI}", "did=did:web:garden.net"], None),
        ([f"did={REI}", "did=nonsense"], None),
        (["did="], None),
        ([REI], None),
        ([f"DID={REI}"], None),
        (["did=did:web:garden.net\udcff"], None),
    ],
)
def test_the_did_in_dns_is_the_only_one_after_its_prefix(texts: list[str], did: str | None) -> None:
    assert did_in_texts(texts) == did


@pytest.mark.parametrize(
    ("body", "did"),
    [
        (REI.encode(), REI),
        (f"\n {REI}\r\n".encode(), REI),
        (b"", None),
        (b"<html>did:plc:x</html>", None),
        (f"{REI} {REI}".encode(), None),
        (f"{REI}\nmore".encode(), None),
        (b"did:\xff\xfe", None),
        (b"did:plc:" + b"a" * 3000, None),
    ],
)
def test_the_did_at_a_host_is_the_whole_answer(body: bytes, did: str | None) -> None:
    assert did_in_body(body) == did
