"""Identities looked up on a small internet: DIDs, handles, both ways, with outages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import orjson
import pytest
import trio

from stratos.atproto.keys import SigningKey
from stratos.atproto.resolved_document import MAX_DOCUMENT_BYTES
from stratos.atproto.syntax import Did
from stratos.engine.identity import (
    CacheLimits,
    DidDocument,
    DidNotFound,
    IdentityResolver,
    IdentityUnavailable,
    open_identity,
)
from tests.engine.identity.internet import PLC_URL, QUICK, REI, REI_HANDLE, SAKURA, Internet, did_document
from tests.engine.identity.web_server import Handler, Request, answer, hang_up, redirect, silence

PLC = "plc.garden.net"
WEB = Did("did:web:mirror.garden.net")
TXT = f"_atproto.{REI_HANDLE}"
WELL_KNOWN = "/.well-known/atproto-did"
PRIVATE = replace(QUICK, allow_private=True)
HOUR = 3600.0


@pytest.fixture
async def resolver(internet: Internet) -> IdentityResolver:
    """A resolver of an internet where the directory knows Rei."""
    internet.web.on(PLC, f"/{REI}", answer(did_document(REI)))
    return await internet.resolver()


def document(did: Did, handle: str | None) -> DidDocument:
    return DidDocument.parse(did, orjson.dumps(did_document(did, handle)))


def hosted(internet: Internet, body: str | bytes | Handler) -> None:
    """Let Rei's host say this of her handle."""
    internet.web.on(REI_HANDLE, WELL_KNOWN, body if callable(body) else answer(body))


# DIDs.


async def test_a_did_plc_is_resolved_by_the_directory(internet: Internet, resolver: IdentityResolver) -> None:
    found = await resolver.resolve_did(REI)
    assert (found.did, found.also_known_as, found.pds) == (REI, ("at://rei.garden.net",), "https://pds.garden.net")
    assert await resolver.pds_endpoint(REI) == "https://pds.garden.net"


async def test_a_did_web_is_resolved_by_its_host(internet: Internet, resolver: IdentityResolver) -> None:
    internet.web.on("mirror.garden.net", "/.well-known/did.json", answer(did_document(WEB)))
    assert (await resolver.resolve_did(WEB)).did == WEB


async def test_a_did_web_may_redirect_to_another_public_address(internet: Internet, resolver: IdentityResolver) -> None:
    internet.web.on("mirror.garden.net", "/.well-known/did.json", redirect("https://pds.garden.net/did"))
    internet.web.on("pds.garden.net", "/did", answer(did_document(WEB)))
    assert (await resolver.resolve_did(WEB)).did == WEB


async def test_a_did_web_of_localhost_is_resolved_over_plain_http_for_developers(internet: Internet) -> None:
    did = Did(f"did:web:localhost%3A{internet.plain.port}")
    internet.plain.on("localhost", "/.well-known/did.json", answer(did_document(did)))
    async with open_identity(plc_url=PLC_URL, policy=PRIVATE, user_agent="x", clock=internet.clock) as opened:
        assert (await opened.resolver.resolve_did(did)).did == did
    async with open_identity(plc_url=PLC_URL, policy=QUICK, user_agent="x", clock=internet.clock) as opened:
        with pytest.raises(DidNotFound):
            await opened.resolver.resolve_did(did)


async def test_a_directory_on_a_private_address_is_the_operators_choice(internet: Internet) -> None:
    internet.plain.on("127.0.0.1", f"/{REI}", answer(did_document(REI)))
    plc_url = f"http://127.0.0.1:{internet.plain.port}"
    async with open_identity(plc_url=plc_url, policy=QUICK, user_agent="x", clock=internet.clock) as opened:
        assert (await opened.resolver.resolve_did(REI)).did == REI
        assert opened.statistics()["outgoing_plc"]["requests_total"] == 1
        assert opened.statistics()["outgoing"]["requests_total"] == 0
        assert (await opened.members.resolve_did(REI)).did == REI
        told = opened.statistics()
        assert told["outgoing_plc"]["requests_total"] == told["outgoing_members_plc"]["requests_total"] == 1, (
            "each has its own places"
        )


@pytest.mark.parametrize("status", [404, 410])
async def test_a_did_that_its_directory_does_not_know_is_not_found(
    internet: Internet, resolver: IdentityResolver, status: int
) -> None:
    internet.web.on(PLC, f"/{SAKURA}", answer({"message": "gone"}, status))
    for _ in range(2):
        with pytest.raises(DidNotFound):
            await resolver.resolve_did(SAKURA)
    assert internet.web.asked[PLC, f"/{SAKURA}"] == 1


@pytest.mark.parametrize(
    "did", ["did:key:zQ3sh", "did:plc:short", "did:web:garden.net:rei", "did:web:127.0.0.1", "did:web:inside.garden.net"]
)
async def test_a_did_that_we_do_not_ask_for_is_not_found(internet: Internet, resolver: IdentityResolver, did: str) -> None:
    with pytest.raises(DidNotFound):
        await resolver.resolve_did(Did(did))
    assert internet.wires.went_to == []


@pytest.mark.parametrize(
    "handler",
    [
        answer({"message": "busy"}, 500),
        answer({"message": "slow down"}, 429),
        answer({"message": "forbidden"}, 403),
        answer(did_document(SAKURA)),
        answer("<html>"),
        answer("[]"),
        answer(""),
        answer(b'{"id": "' + REI.encode() + b'", "x": "' + b"a" * MAX_DOCUMENT_BYTES + b'"}'),
        redirect("https://inside.garden.net/"),
        redirect("/round-and-round"),
        hang_up,
    ],
    ids=range(11),
)
async def test_an_answer_out_of_order_is_no_statement_about_the_did(
    internet: Internet, resolver: IdentityResolver, handler: Handler
) -> None:
    internet.web.on(PLC, "/round-and-round", redirect("/round-and-round"))
    internet.web.on(PLC, f"/{REI}", handler)
    with pytest.raises(IdentityUnavailable) as raised:
        await resolver.resolve_did(REI)
    assert REI in str(raised.value)


async def test_an_outage_of_the_directory_degrades_to_what_is_known(internet: Internet, resolver: IdentityResolver) -> None:
    first = await resolver.resolve_did(REI)
    internet.web.down = True
    internet.clock.now += 23 * HOUR
    assert await resolver.resolve_did(REI) is first
    with pytest.raises(IdentityUnavailable):
        await resolver.resolve_did(SAKURA)
    internet.clock.now += HOUR
    with pytest.raises(IdentityUnavailable):
        await resolver.resolve_did(REI)
    internet.web.down = False
    internet.clock.now += 60
    assert (await resolver.resolve_did(REI)).did == REI


async def test_an_outage_is_not_felt_while_answers_are_fresh(internet: Internet, resolver: IdentityResolver) -> None:
    first = await resolver.resolve_did(REI)
    internet.web.down = True
    internet.clock.now += HOUR - 1
    assert await resolver.resolve_did(REI) is first
    assert internet.web.asked[PLC, f"/{REI}"] == 1


async def test_an_outage_of_name_servers_degrades_to_what_is_known(internet: Internet) -> None:
    internet.web.on("mirror.garden.net", "/.well-known/did.json", answer(did_document(WEB), headers={"Connection": "close"}))
    resolver = await internet.resolver(policy=replace(QUICK, max_idle=0))
    await resolver.resolve_did(WEB)
    internet.clock.now += 2 * HOUR
    internet.dns.broken = True
    assert (await resolver.resolve_did(WEB)).did == WEB
    internet.dns.broken = False
    internet.dns.records.clear()
    internet.clock.now += 60
    assert (await resolver.resolve_did(WEB)).did == WEB


async def test_a_deleted_did_is_forgotten_at_the_next_asking(internet: Internet, resolver: IdentityResolver) -> None:
    await resolver.resolve_did(REI)
    internet.web.on(PLC, f"/{REI}", answer({"message": "tombstone"}, 410))
    internet.clock.now += HOUR
    with pytest.raises(DidNotFound):
        await resolver.resolve_did(REI)


async def test_a_slow_directory_is_given_up_within_the_time_out(internet: Internet) -> None:
    internet.web.on(PLC, f"/{REI}", silence)
    resolver = await internet.resolver(seconds=0.2)
    started = trio.current_time()
    with pytest.raises(IdentityUnavailable):
        await resolver.resolve_did(REI)
    assert trio.current_time() - started < 1.5


async def test_after_a_rotation_a_refresh_finds_the_new_key(internet: Internet) -> None:
    old, new = SigningKey.generate_p256().verifying_key, SigningKey.generate_secp256k1().verifying_key

    def publish(multibase: str) -> None:
        method = {"id": f"{REI}#atproto", "type": "Multikey", "controller": REI, "publicKeyMultibase": multibase}
        internet.web.on(PLC, f"/{REI}", answer(did_document(REI, verificationMethod=[method])))

    publish(old.multibase)
    resolver = await internet.resolver(documents=CacheLimits(refresh=30))
    await resolver.resolve_did(REI)
    publish(new.multibase)
    internet.clock.now += 29
    assert _key(await resolver.resolve_did(REI, refresh=True)) == old.did_key
    internet.clock.now += 1
    assert _key(await resolver.resolve_did(REI)) == old.did_key
    assert _key(await resolver.resolve_did(REI, refresh=True)) == new.did_key
    assert internet.web.asked[PLC, f"/{REI}"] == 2


def _key(found: DidDocument) -> str | None:
    key = found.verification_key("atproto")
    return None if key is None else key.did_key


async def test_a_hundred_callers_at_once_are_one_request(internet: Internet, resolver: IdentityResolver) -> None:
    found: list[DidDocument] = []

    async def resolve() -> None:
        found.append(await resolver.resolve_did(REI))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(resolve)
    assert len(found) == 100
    assert internet.web.asked[PLC, f"/{REI}"] == 1


async def test_slow_hosts_do_not_take_the_directorys_places(internet: Internet, nursery: trio.Nursery) -> None:
    internet.web.on(PLC, f"/{REI}", answer(did_document(REI)))
    internet.web.on("mirror.garden.net", "/.well-known/did.json", silence)
    resolver = await internet.resolver(policy=replace(QUICK, max_concurrent=1))

    async def wait_in_vain() -> None:
        with pytest.raises(IdentityUnavailable):
            await resolver.resolve_did(WEB)

    nursery.start_soon(wait_in_vain)
    await internet.web.arrivals(1)
    assert (await resolver.resolve_did(REI)).did == REI


async def test_hosts_that_strangers_make_us_wait_for_take_no_places_of_sessions(nursery: trio.Nursery) -> None:
    async def converse(stream: trio.SocketStream) -> None:
        head = await stream.receive_some()
        if b" /quick " in head:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        else:
            arrived.set()
            await trio.sleep_forever()

    arrived = trio.Event()
    listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, converse, 0, host="127.0.0.1"))
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    policy = replace(PRIVATE, max_concurrent=1)
    async with open_identity(plc_url=PLC_URL, policy=policy, user_agent="x", clock=trio.current_time) as opened:
        async with trio.open_nursery() as strangers:
            strangers.start_soon(opened.http.request, "GET", f"{url}/slow")
            await arrived.wait()
            assert (await opened.session_http.request("GET", f"{url}/quick")).body == b"ok"
            strangers.cancel_scope.cancel()
        figures = opened.statistics()
        assert [figures[name]["requests_total"] for name in ("outgoing", "outgoing_sessions")] == [1, 1]
    nursery.cancel_scope.cancel()


# Handles.


async def test_a_handle_is_resolved_by_dns(internet: Internet, resolver: IdentityResolver) -> None:
    internet.dns.text(TXT, "v=spf1 -all", f"did={REI}")
    assert await resolver.resolve_handle(REI_HANDLE) == REI
    assert internet.web.requests == []


async def test_a_handle_is_resolved_by_its_host(internet: Internet, resolver: IdentityResolver) -> None:
    hosted(internet, f"{REI}\n")
    assert await resolver.resolve_handle(REI_HANDLE) == REI


async def test_handles_are_not_case_sensitive(internet: Internet, resolver: IdentityResolver) -> None:
    hosted(internet, REI)
    assert await resolver.resolve_handle("Rei.Garden.NET") == REI
    assert await resolver.resolve_handle(REI_HANDLE) == REI
    assert internet.web.asked[REI_HANDLE, WELL_KNOWN] == 1


async def test_a_handle_may_be_redirected_to_a_public_address(internet: Internet, resolver: IdentityResolver) -> None:
    hosted(internet, redirect("https://pds.garden.net/handles/rei", 301))
    internet.web.on("pds.garden.net", "/handles/rei", answer(REI))
    assert await resolver.resolve_handle(REI_HANDLE) == REI


async def test_dns_counts_more_than_the_host(internet: Internet, resolver: IdentityResolver) -> None:
    internet.dns.text(TXT, f"did={REI}")
    hosted(internet, SAKURA)
    assert await resolver.resolve_handle(REI_HANDLE) == REI


async def test_slow_dns_counts_more_than_a_quick_host(internet: Internet) -> None:
    asked, said = trio.Event(), trio.Event()

    async def say(request: Request, stream: trio.abc.Stream) -> None:
        asked.set()
        await answer(SAKURA)(request, stream)
        said.set()

    hosted(internet, say)
    resolver = await internet.resolver(dns_head_start=0)
    names = resolver._names

    class SlowTexts:
        addresses = names.addresses

        async def texts(self, name: str) -> list[str]:
            await said.wait()
            return [f"did={REI}"]

    resolver._names = SlowTexts()
    assert await resolver.resolve_handle(REI_HANDLE) == REI
    assert asked.is_set()


async def test_a_host_that_dns_has_overtaken_is_not_waited_for(internet: Internet) -> None:
    internet.dns.text(TXT, f"did={REI}")
    hosted(internet, silence)
    patient = replace(QUICK, read_timeout=30, total_timeout=30)
    resolver = await internet.resolver(policy=patient, dns_head_start=0, seconds=30)
    with trio.fail_after(5):
        assert await resolver.resolve_handle(REI_HANDLE) == REI


async def test_two_dids_in_dns_are_none(internet: Internet, resolver: IdentityResolver) -> None:
    internet.dns.text(TXT, f"did={REI}", f"did={SAKURA}")
    assert await resolver.resolve_handle(REI_HANDLE) is None


async def test_a_handle_that_only_the_directory_knows_is_found_there(internet: Internet, resolver: IdentityResolver) -> None:
    internet.web.on(PLC, f"/did-by-handle/{REI_HANDLE}", answer(REI))
    assert await resolver.resolve_handle(REI_HANDLE) == REI


async def test_a_handle_that_only_a_configured_service_knows_is_found_there(internet: Internet) -> None:
    target = "/xrpc/com.atproto.identity.resolveHandle?handle=rei.test"
    internet.web.on("pds.garden.net", target, answer({"did": REI}))
    developers = await internet.resolver(policy=PRIVATE, handle_services=("https://pds.garden.net/",))
    assert await developers.resolve_handle("rei.test") == REI
    assert not internet.dns.asked["_atproto.rei.test", "TXT"]
    everybody = await internet.resolver(handle_services=("https://pds.garden.net/",))
    assert await everybody.resolve_handle("rei.test") is None


@pytest.mark.parametrize("body", ["", "<!doctype html>", "{}", f"{REI} {REI}", "did:", "x" * 10_000, b"\xff\xfe"])
async def test_a_host_that_says_something_else_says_no(internet: Internet, resolver: IdentityResolver, body: str | bytes) -> None:
    hosted(internet, body)
    assert await resolver.resolve_handle(REI_HANDLE) is None


@pytest.mark.parametrize("status", [400, 403, 404, 410])
async def test_a_host_that_knows_nothing_says_no(internet: Internet, resolver: IdentityResolver, status: int) -> None:
    hosted(internet, answer(REI, status))
    assert await resolver.resolve_handle(REI_HANDLE) is None


@pytest.mark.parametrize("handle", ["nobody.garden.net", "inside.garden.net"])
async def test_a_handle_without_a_public_host_has_no_did(internet: Internet, resolver: IdentityResolver, handle: str) -> None:
    assert await resolver.resolve_handle(handle) is None
    assert internet.dns.asked[f"_atproto.{handle}", "TXT"] == 1


@pytest.mark.parametrize(
    "handle", ["", "rei", "@rei.garden.net", "rei.garden.net/x", "rei.test", "handle.invalid", "rei.local", REI]
)
async def test_what_can_be_no_handle_is_asked_of_nobody(internet: Internet, resolver: IdentityResolver, handle: str) -> None:
    assert await resolver.resolve_handle(handle) is None
    assert not internet.dns.asked
    assert internet.web.requests == []


async def test_that_a_handle_has_no_did_is_believed_briefly(internet: Internet, resolver: IdentityResolver) -> None:
    assert await resolver.resolve_handle(REI_HANDLE) is None
    hosted(internet, REI)
    internet.clock.now += 59
    assert await resolver.resolve_handle(REI_HANDLE) is None
    internet.clock.now += 1
    assert await resolver.resolve_handle(REI_HANDLE) == REI


@pytest.mark.parametrize("handler", [answer("", 500), answer("", 429), hang_up, redirect("https://stranger.garden.net/")])
async def test_a_handle_whose_host_is_out_of_order_cannot_be_told(
    internet: Internet, resolver: IdentityResolver, handler: Handler
) -> None:
    internet.dns.host("stranger.garden.net", "127.0.0.1")
    hosted(internet, handler)
    with pytest.raises(IdentityUnavailable):
        await resolver.resolve_handle(REI_HANDLE)


async def test_a_handle_known_before_an_outage_is_known_during_it(internet: Internet, resolver: IdentityResolver) -> None:
    hosted(internet, REI)
    await resolver.resolve_handle(REI_HANDLE)
    internet.web.down = internet.dns.broken = True
    internet.clock.now += 23 * HOUR
    assert await resolver.resolve_handle(REI_HANDLE) == REI
    internet.clock.now += HOUR
    with pytest.raises(IdentityUnavailable):
        await resolver.resolve_handle(REI_HANDLE)


async def test_silent_name_servers_do_not_hide_what_the_host_says(internet: Internet) -> None:
    internet.dns.silent.add(TXT)
    hosted(internet, REI)
    resolver = await internet.resolver(seconds=0.4, dns_head_start=0.05)
    assert await resolver.resolve_handle(REI_HANDLE) == REI


# Both ways.


async def test_a_handle_that_points_back_is_verified(internet: Internet, resolver: IdentityResolver) -> None:
    internet.dns.text(TXT, f"did={REI}")
    assert await resolver.verified_handle(document(REI, "Rei.garden.net")) == REI_HANDLE


async def test_a_handle_that_points_elsewhere_is_not_verified(internet: Internet, resolver: IdentityResolver) -> None:
    internet.dns.text(TXT, f"did={REI}")
    assert await resolver.verified_handle(document(SAKURA, REI_HANDLE)) is None


@pytest.mark.parametrize("handle", [None, "", "no handle", "handle.invalid", "nobody.garden.net"])
async def test_a_document_without_a_handle_that_resolves_has_none_verified(
    internet: Internet, resolver: IdentityResolver, handle: str | None
) -> None:
    assert await resolver.verified_handle(document(REI, handle)) is None


async def test_in_an_outage_a_handle_is_neither_verified_nor_denied(internet: Internet, resolver: IdentityResolver) -> None:
    internet.web.down = internet.dns.broken = True
    with pytest.raises(IdentityUnavailable):
        await resolver.verified_handle(document(REI, REI_HANDLE))


async def test_what_is_kept_and_asked_is_told(internet: Internet, resolver: IdentityResolver) -> None:
    internet.dns.text(TXT, f"did={REI}")
    await resolver.resolve_did(REI)
    await resolver.resolve_did(REI)
    await resolver.resolve_handle(REI_HANDLE)
    statistics: Mapping[str, int] = resolver.statistics()
    assert statistics["documents_entries"] == statistics["documents_hits_total"] == statistics["handles_entries"] == 1
    assert statistics["documents_bytes"] == len(orjson.dumps(did_document(REI)))
