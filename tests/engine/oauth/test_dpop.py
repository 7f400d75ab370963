"""Proofs of possession, and the nonces that servers demand in them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from stratos.engine.identity import Answer
from stratos.engine.oauth.dpop import MAX_NONCES, DpopHttp, DpopKey
from tests.engine.oauth.authorization_server import json_answer, unpadded
from tests.engine.oauth.memory import WallClock

NOW = datetime(2026, 5, 28, 12, 0, 0, 700_000, tzinfo=UTC)
DEMAND = {"error": "use_dpop_nonce"}


def parts(proof: str) -> tuple[dict[str, object], dict[str, object]]:
    header, claims, _ = proof.split(".")
    return orjson.loads(unpadded(header)), orjson.loads(unpadded(claims))


def proof(key: DpopKey, url: str = "https://pds.test/xrpc/a.b.c", nonce: str | None = None, token: str | None = None) -> str:
    return key.proof("GET", url, jti="once", issued_at=NOW, nonce=nonce, token=token)


def test_a_proof_says_what_it_is_for_and_by_which_key() -> None:
    key = DpopKey.generate()
    header, claims = parts(proof(key))
    assert (header["typ"], header["alg"]) == ("dpop+jwt", "ES256")
    assert claims == {"jti": "once", "htm": "GET", "htu": "https://pds.test/xrpc/a.b.c", "iat": 1_779_969_600}
    jwk = header["jwk"]
    assert isinstance(jwk, dict)
    assert sorted(jwk) == ["crv", "kty", "x", "y"]
    public = ECKey.import_key(jwk)
    assert public.thumbprint() == key.thumbprint
    jwt.decode(proof(key), public, algorithms=["ES256"])


def test_query_and_fragment_are_not_part_of_the_address_that_is_proven() -> None:
    _, claims = parts(proof(DpopKey.generate(), "https://pds.test:8443/xrpc/a.b.c?repo=did%3Aplc%3Arei#top"))
    assert claims["htu"] == "https://pds.test:8443/xrpc/a.b.c"


def test_a_proof_for_a_token_names_its_hash() -> None:
    # The example of RFC 9449 §7.1.
    _, claims = parts(proof(DpopKey.generate(), token="Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"))
    assert claims["ath"] == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


def test_a_key_comes_back_from_its_stored_form_and_hides_in_logs() -> None:
    key = DpopKey.generate()
    stored = key.as_jwk()
    assert DpopKey.from_jwk(orjson.loads(orjson.dumps(stored))).thumbprint == key.thumbprint
    assert stored["d"] not in repr(key)


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        {},
        {"kty": "EC"},
        {"kty": "EC", "crv": "P-256", "x": 1, "y": 2, "d": 3},
        ECKey.generate_key("P-256", private=True).as_dict(private=False),
        ECKey.generate_key("P-384", private=True).as_dict(private=True),
        {"kty": "oct", "k": "c2VjcmV0"},
    ],
)
def test_what_is_no_private_p_256_key_is_refused(jwk: object) -> None:
    with pytest.raises(ValueError, match="key"):
        DpopKey.from_jwk(jwk)


class Server:
    """An `Http` that gives prepared answers and keeps the nonces that it was shown."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.shown: list[object] = []
        self.jtis: set[object] = set()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int | None = None,
        max_redirects: int | None = None,
        total_timeout: float | None = None,
    ) -> Answer:
        _, claims = parts((headers or {})["DPoP"])
        self.shown.append(claims.get("nonce"))
        self.jtis.add(claims["jti"])
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def sender(server: Server) -> DpopHttp:
    numbers = iter(range(1, 10_000))
    return DpopHttp(server, clock=WallClock(), random_bytes=lambda size: next(numbers).to_bytes(size, "big"))


@pytest.mark.parametrize(
    "demand",
    [
        json_answer(400, DEMAND, {"dpop-nonce": "new"}),
        Answer(401, {"dpop-nonce": "new", "www-authenticate": 'DPoP error="use_dpop_nonce"'}, b"", ""),
    ],
    ids=["by the body", "by the header"],
)
async def test_a_demanded_nonce_is_used_at_once_and_from_then_on(demand: Answer) -> None:
    server = Server(demand, json_answer(200, {}))
    dpop, key = sender(server), DpopKey.generate()
    answers = [await dpop.request(key, "GET", "https://pds.test/a", max_bytes=9) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert server.shown == [None, "new", "new"]
    assert len(server.jtis) == 3
    assert dpop.statistics()["nonce_retries_total"] == 1


async def test_a_nonce_that_comes_with_any_answer_is_used_next() -> None:
    server = Server(
        json_answer(200, {}, {"dpop-nonce": "one"}), json_answer(404, {}, {"dpop-nonce": "two"}), json_answer(200, {})
    )
    dpop, key = sender(server), DpopKey.generate()
    for _ in range(3):
        await dpop.request(key, "GET", "https://pds.test/a")
    assert server.shown == [None, "one", "two"]


async def test_a_server_that_always_demands_another_nonce_is_asked_twice() -> None:
    server = Server(json_answer(400, DEMAND, {"dpop-nonce": "new"}))
    answer = await sender(server).request(DpopKey.generate(), "GET", "https://pds.test/a")
    assert answer.status == 400
    assert len(server.shown) == 2


@pytest.mark.parametrize(
    "answer",
    [
        json_answer(400, DEMAND),
        json_answer(400, {"error": "invalid_request"}, {"dpop-nonce": "new"}),
        json_answer(403, DEMAND, {"dpop-nonce": "new"}),
        Answer(401, {"dpop-nonce": "new"}, b"not json", ""),
    ],
)
async def test_other_refusals_are_not_repeated(answer: Answer) -> None:
    server = Server(answer)
    assert await sender(server).request(DpopKey.generate(), "GET", "https://pds.test/a") == answer
    assert len(server.shown) == 1


async def test_a_nonce_is_shown_only_to_the_server_that_gave_it() -> None:
    server = Server(json_answer(200, {}, {"dpop-nonce": "of a"}), json_answer(200, {}))
    dpop, key = sender(server), DpopKey.generate()
    for url in ("https://a.test/x", "https://b.test/x", "https://a.test:444/x", "HTTPS://A.test/y"):
        await dpop.request(key, "GET", url)
    assert server.shown == [None, None, None, "of a"]


async def test_only_so_many_nonces_are_remembered_and_none_of_any_length() -> None:
    server = Server(json_answer(200, {}, {"dpop-nonce": "n"}))
    dpop, key = sender(server), DpopKey.generate()
    for number in range(MAX_NONCES + 10):
        await dpop.request(key, "GET", f"https://{number}.test/x")
    assert dpop.statistics()["nonces"] == MAX_NONCES
    server = Server(json_answer(200, {}, {"dpop-nonce": "n" * 513}))
    dpop = sender(server)
    for _ in range(2):
        await dpop.request(key, "GET", "https://a.test/x")
    assert server.shown == [None, None]
