"""One real service process and a hostile caller's view of it: exact bytes over a socket, one connection per request."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

import h11

from stratos.atproto.syntax import Did
from tests.crash.processes import ADMIN_PASSWORD, ROOT, SERVICE, START_SECONDS, STOP_SECONDS, SYNC_TOKEN, Home

OWNER: Final = Did("did:plc:owner")
"""Holds the probe; enrolled in both boundaries."""
HOSTILE: Final = Did("did:plc:hostile")
"""Who sends most of the hostile input; enrolled, but not in the probe's boundary."""
STRANGER: Final = Did("did:plc:stranger")
"""Enrolled nowhere."""
WRITERS: Final = f"{SERVICE}/writers"
EDITORS: Final = f"{SERVICE}/editors"
POST: Final = "zone.stratos.feed.post"
PROBE: Final = "probe-5ca1ab1e-for-editors-only"
PROBE_RKEY: Final = "3m2qrrgw22222"
PROBE_PATH: Final = f"{POST}/{PROBE_RKEY}"
ANSWER_SECONDS: Final = 15.0
"""A service that has not answered by then hangs."""
IDLE_SECONDS: Final = 20.0
"""Well below the time for which the service keeps an idle connection."""
READ_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status and body of the first response (0 where the connection was closed without one), and every byte."""

    status: int
    body: bytes
    raw: bytes

    @property
    def error(self) -> str:
        """The error's name; empty where the body is no error envelope."""
        return self._envelope("error")

    @property
    def message(self) -> str:
        """The error's message."""
        return self._envelope("message")

    def _envelope(self, name: str) -> str:
        try:
            value = json.loads(self.body)
        except ValueError:
            return ""
        found = value.get(name) if isinstance(value, dict) else None
        return found if isinstance(found, str) else ""


class Wire:
    """The running service."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process = process
        self._log = log
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 0)
        self._heads = b""
        self._logged = ""
        self._watcher = HTTPConnection(*self._address, timeout=ANSWER_SECONDS)
        self._asked = time.monotonic()

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """A bare connection for the block."""
        with closing(socket.create_connection(self._address, timeout=ANSWER_SECONDS)) as connection:
            yield connection

    def send(self, request: bytes, *, half_close: bool = False) -> Answer:
        """Send exact bytes and read the answer. Raises TimeoutError when neither an answer nor a close comes.

        With `half_close` we then say that nothing more follows.
        """
        with self.connection() as connection:
            try:
                connection.sendall(request)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the service answered early and closed; what it said is still to be read
            return _read_answer(connection, to_head=request.startswith(b"HEAD "))

    def query(self, nsid: str, token: str, **params: str | int) -> Answer:
        """A well-formed call of a query."""
        return self.send(request("GET", f"/xrpc/{nsid}?{urlencode(params)}", token))

    def call(self, nsid: str, token: str, body: object) -> Answer:
        """A well-formed call of a procedure."""
        return self.send(request("POST", f"/xrpc/{nsid}", token, json.dumps(body).encode()))

    def set_up(self) -> None:
        """Enroll the owner and the hostile account, and write the probe."""
        for did, boundaries in ((OWNER, [WRITERS, EDITORS]), (HOSTILE, [WRITERS])):
            answer = self.call("zone.stratos.admin.enroll", ADMIN_PASSWORD, {"did": did, "boundaries": boundaries})
            assert answer.status == 200, answer
        body = {"repo": OWNER, "collection": POST, "rkey": PROBE_RKEY, "record": post(PROBE, EDITORS)}
        answer = self.call("zone.stratos.repo.createRecord", OWNER, body)
        assert answer.status == 200, answer
        self._heads = self._read_heads()

    def check_unharmed(self) -> None:
        """The process lives, answers correct requests, has logged no error, and no repository or enrollment has changed.

        What is found fails the test that asks first, and no later one.
        """
        assert self.process.poll() is None, f"the service ended with {self.process.returncode}: {self._log.read_text()}"
        (before, read), self._heads, self._logged = (self._heads, self._logged), self._read_heads(), self._log.read_text()
        assert self._heads == before
        assert self._logged == read

    def rebase(self) -> None:
        """A change was allowed: from now on the repositories as they are count as unchanged."""
        self._heads = self._read_heads()

    def check_silent(self, answer: Answer) -> None:
        """Nothing of the probe is in an answer."""
        assert PROBE.encode() not in answer.raw

    def stop(self) -> int:
        """Stop it cleanly; its exit status."""
        self._watcher.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def _read_heads(self) -> bytes:
        return b"".join(
            self._ask(nsid, token)
            for nsid, token in (
                ("zone.stratos.sync.listRepos", SYNC_TOKEN),
                ("zone.stratos.admin.listEnrollments", ADMIN_PASSWORD),
            )
        )

    def _ask(self, nsid: str, token: str) -> bytes:
        """A correct request on one connection that stays open while there is something to watch."""
        now = time.monotonic()
        if now - self._asked > IDLE_SECONDS:
            self._watcher.close()  # the service closes what idles for long; the next request opens it anew
        self._asked = now
        self._watcher.request("GET", f"/xrpc/{nsid}", headers={"Authorization": f"Bearer {token}"})
        response = self._watcher.getresponse()
        body = response.read()
        assert response.status == 200, body
        return body


@contextmanager
def serving(directory: Path) -> Iterator[Wire]:
    """Run the service for the block, set up; it logs errors only."""
    home = Home.below(directory)
    command = (sys.executable, "-m", "tests.crash.victim")
    with home.log.open("w") as errors:
        process = subprocess.Popen(
            command, env=home.environment(LOG_LEVEL="error"), cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, f"the service did not start: {home.log.read_text()}"
        wire = Wire(process, url, home.log)
        wire.set_up()
        yield wire
    finally:
        process.kill()
        process.communicate(timeout=START_SECONDS)


def request(
    verb: str, target: str, token: str | None = None, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """A request as it goes over the wire; a body is JSON unless the headers say otherwise. A header of None is left out."""
    lines = {"Host": "stratos.test"}
    if token is not None:
        lines["Authorization"] = f"Bearer {token}"
    if body is not None:
        lines |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines |= headers or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{verb} {target} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


def post(text: str, boundary: str = WRITERS) -> dict[str, object]:
    """A post that is right in every way."""
    return {
        "$type": POST,
        "text": text,
        "boundary": {"$type": "zone.stratos.boundary.defs#Domains", "values": [{"value": boundary}]},
        "createdAt": "2026-05-28T20:26:41.000Z",
    }


def _read_answer(connection: socket.socket, *, to_head: bool) -> Answer:
    protocol = h11.Connection(h11.CLIENT)
    protocol.send(h11.Request(method="HEAD" if to_head else "GET", target="/", headers=[("Host", "any")]))
    protocol.send(h11.EndOfMessage())
    raw, status, body = b"", 0, b""
    while True:
        try:
            event = protocol.next_event()
        except h11.RemoteProtocolError:
            return Answer(status, body, raw)
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return Answer(status, body, raw)
        elif event is h11.NEED_DATA:
            try:
                data = connection.recv(READ_BYTES)
            except ConnectionResetError:
                data = b""
            raw += data
            protocol.receive_data(data)
