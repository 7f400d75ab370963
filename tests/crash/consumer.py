"""A durable consumer as a process: `python -m tests.crash.consumer DATABASE URL LAST_COMMIT [--die-at N] [--fail-at N]`.

It keeps the effect of every entry and its cursor in one SQLite database, both in one transaction, as I5 asks. It ends with 0 once
it has consumed the entry of LAST_COMMIT, with 2 when the stream breaks off. `--die-at` kills it inside the n-th transaction of
this run, `--fail-at` lets the n-th effect of this run fail.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import sys
from contextlib import closing, suppress
from functools import partial
from hashlib import sha256
from typing import Final

import trio
from trio_websocket import ConnectionClosed

from stratos.atproto.frames import MessageFrame, decode_frame
from tests.crash.clients import subscription
from tests.crash.processes import SYNC_TOKEN

BROKEN_OFF: Final = 2
TAKING: Final = "taking"
"""Printed at the first entry of a run."""
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS effect (place INTEGER PRIMARY KEY AUTOINCREMENT, seq INTEGER NOT NULL, digest BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS cursor (seq INTEGER NOT NULL);
"""


class EffectFailed(Exception):
    """The effect that was told to fail."""


class Consumer:
    """Takes entries, one transaction each."""

    def __init__(self, database: sqlite3.Connection, *, die_at: int, fail_at: int) -> None:
        self._database = database
        self._die_at = die_at
        self._fail_at = fail_at
        self._taken = 0

    def cursor(self) -> int:
        """Where to go on."""
        row: tuple[int | None] = self._database.execute("SELECT max(seq) FROM cursor").fetchone()
        return row[0] or 0

    def take(self, seq: int, frame: bytes) -> None:
        """Have the effect of an entry and move the cursor, both or neither."""
        self._taken += 1
        if self._taken == 1:
            print(TAKING, flush=True)
        with self._database:
            self._database.execute("DELETE FROM cursor")
            self._database.execute("INSERT INTO cursor (seq) VALUES (?)", (seq,))
            if self._taken == self._fail_at:
                raise EffectFailed
            self._database.execute("INSERT INTO effect (seq, digest) VALUES (?, ?)", (seq, sha256(frame).digest()))
            if self._taken == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)


async def consume(consumer: Consumer, url: str, last_commit: str) -> int:
    """Follow the stream; the process's exit status."""
    params: dict[str, str | int] = {"cursor": consumer.cursor(), "includeCommits": "true", "syncToken": SYNC_TOKEN}
    status = BROKEN_OFF
    async with subscription(url, params) as socket:
        with suppress(ConnectionClosed):
            while True:
                frame = await socket.get_message()
                assert isinstance(frame, bytes)
                message = decode_frame(frame)
                assert isinstance(message, MessageFrame), message
                seq = message.body["seq"]
                assert isinstance(seq, int)
                consumer.take(seq, frame)
                if str(message.body.get("commit")) == last_commit:
                    status = 0
                    break
    return status


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("url")
    parser.add_argument("last_commit")
    parser.add_argument("--die-at", type=int, default=0)
    parser.add_argument("--fail-at", type=int, default=0)
    arguments = parser.parse_args()
    with closing(sqlite3.connect(arguments.database)) as database:
        database.executescript(SCHEMA)
        consumer = Consumer(database, die_at=arguments.die_at, fail_at=arguments.fail_at)
        return trio.run(partial(consume, consumer, arguments.url, arguments.last_commit))


if __name__ == "__main__":
    sys.exit(main())
