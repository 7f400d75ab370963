"""zone.stratos.sync.subscribeRecords over a real websocket. Service spec §7.1–7.3, §7.6; design §4."""

from __future__ import annotations

import pytest
import trio.testing

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import encode
from stratos.atproto.frames import MessageFrame
from stratos.storage.ports import StorageFault
from tests.api.builders import ADMIN_PASSWORD, SUBSCRIBE, SYNC_TOKEN, Api, Subscriber
from tests.engine.builders import EDITORS, KAORUKO, POST, REI, SAKURA, WRITERS, message

NEWCOMER = "did:plc:newcomer"
NO_CREDENTIAL = "syncToken query param or Authorization header required"
OWNER_ONLY = "Service auth or owner authentication required"
SERVICE_ONLY = "Service auth required for service-level subscription"


async def commits(subscriber: Subscriber, count: int) -> list[MessageFrame]:
    """The next messages, which have to be commits."""
    found = [message(await subscriber.frame()) for _ in range(count)]
    assert {frame.kind for frame in found} == {"#commit"}
    return found


def ops(frame: MessageFrame) -> list[tuple[object, object]]:
    """Action and path of each operation."""
    listed = frame.body["ops"]
    assert isinstance(listed, list)
    return [(op["action"], op["path"]) for op in listed if isinstance(op, dict)]


async def upgraded(api: Api, path: str, headers: str = "") -> bytes:
    """The head of the answer to an upgrade, in lower case."""
    async with await api.raw() as stream:
        await stream.send_all(
            f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nx-trace-id: abc\r\n{headers}"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        return (await stream.receive_some(4096)).partition(b"\r\n\r\n")[0].lower()


@pytest.mark.parametrize(
    ("viewer", "params", "error", "text"),
    [
        (None, {"did": REI}, "AuthRequired", NO_CREDENTIAL),
        (None, {}, "AuthRequired", NO_CREDENTIAL),
        (SAKURA, {"did": REI}, "AuthRequired", OWNER_ONLY),
        (REI, {}, "AuthRequired", SERVICE_ONLY),
        (REI, {"includeCommits": "true"}, "AuthRequired", SERVICE_ONLY),
        (None, {"did": REI, "syncToken": "wrong"}, "AuthRequired", "Invalid sync token"),
        (REI, {"did": REI, "syncToken": "wrong"}, "AuthRequired", "Invalid sync token"),
        (None, {"did": REI, "syncToken": ""}, "AuthRequired", "Invalid sync token"),
        ("nonsense", {"did": REI}, "AuthRequired", "Authorization failed"),
        (ADMIN_PASSWORD, {"did": REI}, "AuthRequired", "Authorization failed"),
        (NEWCOMER, {"did": NEWCOMER}, "AuthRequired", "User is not enrolled in this Stratos service"),
        (SYNC_TOKEN, {"did": NEWCOMER}, "NotFound", "Account not found"),
        (SYNC_TOKEN, {"did": REI, "cursor": 2**52}, "FutureCursor", "Cursor is in the future"),
        (SYNC_TOKEN, {"did": "rei.example.com"}, "InvalidRequest", "did"),
        (SYNC_TOKEN, {"cursor": "-1"}, "InvalidRequest", "cursor"),
        (SYNC_TOKEN, {"cursor": "abc"}, "InvalidRequest", "cursor"),
        (SYNC_TOKEN, {"includeCommits": "yes"}, "InvalidRequest", "includeCommits"),
        (SYNC_TOKEN, {"did": REI, "includeCommits": "true"}, "InvalidRequest", "includeCommits"),
        (SYNC_TOKEN, {"domain": "x" * 254}, "InvalidRequest", "domain"),
    ],
)
async def test_refusal_is_one_error_frame_and_a_close_with_its_name(
    api: Api, viewer: str | None, params: dict[str, object], error: str, text: str
) -> None:
    frame, close = await (await api.subscribe(viewer, **params)).refusal()
    assert frame.error == error
    assert text in str(frame.message)
    assert (close.code, close.reason) == (1008, error)


@pytest.mark.parametrize("path", ["/", "/xrpc/com.example.other", "/xrpc/com.atproto.repo.getRecord", f"/xrpc/{SUBSCRIBE}/x"])
async def test_upgrade_on_any_other_path_is_refused(api: Api, path: str) -> None:
    assert (await upgraded(api, path)).startswith(b"http/1.1 404")


async def test_plain_request_is_told_to_upgrade(api: Api) -> None:
    answer = await api.get(SUBSCRIBE, SYNC_TOKEN)
    assert (answer.status, answer.body["error"]) == (400, "InvalidRequest")
    assert "websocket" in str(answer.body["message"])


@pytest.mark.parametrize("as_query", [True, False])
@pytest.mark.parametrize("did", [REI, None])
async def test_trusted_service_may_subscribe_to_everything(api: Api, did: str | None, as_query: bool) -> None:
    params = {} if did is None else {"did": did}
    if as_query:
        subscriber = await api.subscribe(None, syncToken=SYNC_TOKEN, **params)
    else:
        subscriber = await api.subscribe(SYNC_TOKEN, **params)
    assert message(await subscriber.frame()).kind == ("#enrollment" if did is None else "#commit")


async def test_owner_sees_backlog_and_live_commits_of_the_own_account(api: Api) -> None:
    first = await api.create(REI, "first", WRITERS)
    await api.create(SAKURA, "of somebody else", WRITERS)
    subscriber = await api.subscribe(REI, did=REI)
    backlog = await commits(subscriber, 2)
    assert [ops(frame) for frame in backlog] == [[], [("create", first.removeprefix(f"at://{REI}/"))]]
    second = await api.create(REI, "second", WRITERS)
    (live,) = await commits(subscriber, 1)
    assert ops(live) == [("create", second.removeprefix(f"at://{REI}/"))]


async def test_commit_frame_carries_the_record_and_its_cid_as_a_link(api: Api) -> None:
    await api.create(REI, "hello", WRITERS, rkey="3kaaaaaaaaa2a")
    subscriber = await api.subscribe(REI, did=REI)
    frame = (await commits(subscriber, 2))[1]
    listed = frame.body["ops"]
    assert isinstance(listed, list)
    op = listed[0]
    assert isinstance(op, dict)
    assert frame.body["did"] == REI
    assert op["path"] == f"{POST}/3kaaaaaaaaa2a"
    assert op["cid"] == Cid.of_dag_cbor(encode(op["record"]))


async def test_cursor_is_the_last_seq_seen(api: Api) -> None:
    for n in range(3):
        await api.create(REI, f"{n}", WRITERS)
    whole = await commits(await api.subscribe(REI, did=REI), 4)
    rest = await commits(await api.subscribe(REI, did=REI, cursor=str(whole[1].body["seq"])), 2)
    assert rest == whole[2:]


async def test_service_stream_replays_enrollments_and_then_goes_on_live(api: Api) -> None:
    subscriber = await api.subscribe(SYNC_TOKEN)
    replayed = [message(await subscriber.frame()) for _ in range(3)]
    assert [frame.body["did"] for frame in replayed] == sorted([REI, SAKURA, KAORUKO])
    await api.create(REI, "not for this stream", WRITERS)
    await api.engine.service.enrollment.remove_boundary(REI, EDITORS)
    live = message(await subscriber.frame())
    assert (live.kind, live.body["did"], live.body["action"]) == ("#enrollment", REI, "enroll")
    assert live.body["boundaries"] == [WRITERS]


async def test_include_commits_puts_everything_on_one_socket_in_log_order(api: Api) -> None:
    await api.create(REI, "hello", WRITERS)
    await api.create(SAKURA, "hello", WRITERS)
    subscriber = await api.subscribe(SYNC_TOKEN, includeCommits="true", cursor=0)
    frames = [message(await subscriber.frame()) for _ in range(8)]
    seqs = [frame.body["seq"] for frame in frames]
    assert seqs == sorted(set(seqs))  # type: ignore[type-var]  # integers
    assert sorted(frame.kind for frame in frames) == ["#commit"] * 5 + ["#enrollment"] * 3


async def test_domain_may_be_repeated_and_shows_exactly_that_view(api: Api) -> None:
    one = await api.create(REI, "writers", WRITERS)
    two = await api.create(REI, "editors", EDITORS)
    await api.create(REI, "again writers", WRITERS)
    both = await api.subscribe(REI, did=REI, domain=[WRITERS, EDITORS])
    editors = await api.subscribe(REI, did=REI, domain=EDITORS)
    paths = {uri.removeprefix(f"at://{REI}/") for uri in (one, two)}
    assert {path for frame in await commits(both, 2) for _, path in ops(frame)} == paths
    assert [ops(frame) for frame in await commits(editors, 1)] == [[("create", two.removeprefix(f"at://{REI}/"))]]


async def test_what_a_subscriber_sends_is_ignored(api: Api) -> None:
    subscriber = await api.subscribe(REI, did=REI)
    await commits(subscriber, 1)
    for n in range(20):
        await subscriber.socket.send_message(b"noise" if n % 2 else "noise")
    await api.create(REI, "hello", WRITERS)
    assert len(await commits(subscriber, 1)) == 1


async def test_message_that_is_too_large_closes_the_subscription(api: Api) -> None:
    subscriber = await api.subscribe(REI, did=REI)
    await commits(subscriber, 1)
    await subscriber.socket.send_message(b"x" * 5000)
    assert (await subscriber.closed()).code == 1009


async def test_ping_of_the_peer_is_answered(api: Api) -> None:
    subscriber = await api.subscribe(REI, did=REI)
    await subscriber.socket.ping(b"are you there")


async def test_subscriber_that_leaves_is_forgotten(api: Api) -> None:
    subscriber = await api.subscribe(REI, did=REI)
    await commits(subscriber, 1)
    assert api.engine.service.firehose.statistics()["subscribers"] == 1
    await subscriber.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert api.engine.service.firehose.statistics()["subscribers"] == 0
    assert api.server.statistics()["websockets"] == 0


async def test_stop_closes_subscriptions_with_1001(api: Api) -> None:
    subscribers = [await api.subscribe(REI, did=REI) for _ in range(3)]
    for subscriber in subscribers:
        await commits(subscriber, 1)
    api.app.stopping.set()
    assert [(await subscriber.closed()).code for subscriber in subscribers] == [1001] * 3
    await api.stopped.wait()
    assert api.server.statistics()["cut_total"] == 0


async def test_end_of_the_firehose_closes_subscriptions_with_1001(api: Api) -> None:
    subscriber = await api.subscribe(REI, did=REI)
    await commits(subscriber, 1)
    api.engine.service.firehose.close()
    assert (await subscriber.closed()).code == 1001


async def test_unenrollment_ends_the_own_stream(api: Api) -> None:
    subscriber = await api.subscribe(REI, did=REI)
    await commits(subscriber, 1)
    await api.post("zone.stratos.enrollment.unenroll", REI, {})
    frame, close = await subscriber.refusal()
    assert (frame.error, close.code) == ("NotFound", 1008)


@pytest.mark.expects_error_log
async def test_fault_closes_the_subscription_with_1011(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("detail")

    monkeypatch.setattr(type(api.engine.service.backend.log), "repo_head", broken)
    subscriber = await api.subscribe(REI, did=REI)
    close = await subscriber.closed()
    assert (close.code, close.reason) == (1011, None)


async def test_compression_is_not_agreed_upon(api: Api) -> None:
    """A frame is encoded once for everybody; compression would be paid for with every frame to every subscriber."""
    head = await upgraded(api, f"/xrpc/{SUBSCRIBE}?syncToken={SYNC_TOKEN}", "Sec-WebSocket-Extensions: permessage-deflate\r\n")
    assert head.startswith(b"http/1.1 101")
    assert b"sec-websocket-extensions" not in head
    assert b"x-trace-id: abc" in head


async def test_who_subscribes_while_the_store_is_away_is_told_that_the_service_is_unavailable(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise StorageFault("disk on fire")

    monkeypatch.setattr(api.engine.service.backend.enrollments, "get", broken)
    frame, close = await (await api.subscribe(REI, did=REI)).refusal()
    assert frame.error == close.reason == "ServiceUnavailable"
    assert "fire" not in str(frame.message)
