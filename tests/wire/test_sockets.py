"""Hostile subscribers: they are told what is wrong, or cut off, and nobody else notices."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest

from stratos.atproto.frames import ErrorFrame, decode_frame
from tests.crash.processes import SYNC_TOKEN
from tests.wire import sockets
from tests.wire.cases import check_each
from tests.wire.service import PROBE, Wire
from tests.wire.sockets import CLOSE, PING, PONG, FrameReader, SocketCase, Subscription, frame, upgrade

POLICY_VIOLATION = 1008
SUBSCRIPTIONS = tuple(sockets.subscriptions())
FRAMES = tuple(sockets.frame_cases())
HARMLESS = tuple(sockets.harmless_frames())
MARKER = b"marker"
SWITCHING = b"HTTP/1.1 101 "

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("wire")]


def test_subscriptions_that_may_not_be_are_refused_in_band(wire: Wire) -> None:
    def check(case: Subscription) -> None:
        with wire.connection() as connection:
            connection.sendall(upgrade(case.query, case.token))
            reader = FrameReader(connection)
            assert reader.response_head().startswith(SWITCHING)
            first, second = reader.frame(), reader.frame()
        wire.check_unharmed()
        assert first is not None
        error = decode_frame(first[1])
        assert isinstance(error, ErrorFrame)
        assert error.error == case.error
        assert error.message is not None
        assert any(name.lower() in error.message.lower() for name in case.names), error
        assert second is not None
        assert (second[0], int.from_bytes(second[1][:2], "big")) == (CLOSE, POLICY_VIOLATION)

    check_each(SUBSCRIPTIONS, check)


def test_subscribers_who_break_the_protocol_are_cut_off(wire: Wire) -> None:
    def check(case: SocketCase) -> None:
        with wire.connection() as connection:
            connection.sendall(upgrade("includeCommits=true", SYNC_TOKEN))
            reader = FrameReader(connection)
            assert reader.response_head().startswith(SWITCHING)
            with suppress(OSError):  # cut off while still sending
                connection.sendall(case.sent)
                connection.shutdown(socket.SHUT_WR)
            ended_with: int | None = None
            while (found := reader.frame()) is not None:
                if found[0] == CLOSE:
                    ended_with = int.from_bytes(found[1][:2], "big")
        wire.check_unharmed()
        assert ended_with in case.codes

    check_each(FRAMES, check)


def test_what_subscribers_say_in_order_disturbs_nothing(wire: Wire) -> None:
    def check(case: tuple[str, bytes]) -> None:
        with wire.connection() as connection:
            connection.sendall(upgrade("includeCommits=true", SYNC_TOKEN))
            reader = FrameReader(connection)
            assert reader.response_head().startswith(SWITCHING)
            connection.sendall(case[1] + frame(PING, MARKER))
            seen = []
            while (PONG, MARKER) not in seen:
                found = reader.frame()
                assert found is not None, "cut off"
                assert found[0] != CLOSE
                seen.append(found)
        wire.check_unharmed()
        assert any(PROBE.encode() in payload for _, payload in seen)

    check_each(HARMLESS, check)


def test_there_are_many_distinct_hostile_subscribers() -> None:
    assert len({(case.query, case.token) for case in SUBSCRIPTIONS}) == len(SUBSCRIPTIONS) >= 50
    assert len({case.sent for case in FRAMES}) == len(FRAMES) >= 80
