"""`stratos admin export` and `log` against a real service; the file is read by somebody else's decoder."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import libipld
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from multiformats import multibase

from tests.e2e.programs import ADMIN_PASSWORD, SYNC_TOKEN, Program, bare_environment, running
from tests.e2e.test_enrollment import POST, WRITERS, post_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

REI, SAKURA = "did:web:rei.example", "did:web:sakura.example"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Program]:
    with running("serve", tmp_path) as program:
        yield program


def call(service: Program, method: str, body: dict[str, object], bearer: str) -> dict[str, str]:
    answer = httpx.post(f"{service.service}/xrpc/{method}", json=body, headers={"Authorization": f"Bearer {bearer}"})
    return dict(answer.raise_for_status().json())


def enroll(service: Program, did: str) -> None:
    call(service, "zone.stratos.admin.enroll", {"did": did, "boundaries": ["writers"]}, ADMIN_PASSWORD)


def write(service: Program, did: str, text: str) -> str:
    """A post; its CID."""
    return call(service, "zone.stratos.repo.createRecord", {"repo": did, "collection": POST, "record": post_of(text)}, did)["cid"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stratos.cli", "admin", *arguments]


def environment(url: str) -> dict[str, str]:
    return bare_environment({"STRATOS_PUBLIC_URL": url, "STRATOS_SYNC_TOKEN": SYNC_TOKEN, "COLUMNS": "250"})


def admin(folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(url), capture_output=True, text=True, timeout=60, check=False
    )


def leaves(blocks: Mapping[bytes, object], node: object) -> Iterator[bytes]:
    """The CIDs of a tree's records, as whoever knows the format only from its specification reads them."""
    assert isinstance(node, dict)
    if node["l"] is not None:
        yield from leaves(blocks, blocks[node["l"]])
    for entry in node["e"]:
        yield entry["v"]
        if entry["t"] is not None:
            yield from leaves(blocks, blocks[entry["t"]])


def test_an_export_is_a_car_file_that_somebody_else_verifies(service: Program, tmp_path: Path) -> None:
    enroll(service, REI)
    written = {write(service, REI, f"post {number}") for number in range(40)}
    done = admin(tmp_path, service.service, "export", REI, "--out", "rei.car", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    file = tmp_path / "rei.car"
    assert (told["records"], told["bytes"], stat.S_IMODE(file.stat().st_mode)) == (40, file.stat().st_size, 0o600)
    header, blocks = libipld.decode_car(file.read_bytes())
    (root,) = header["roots"]
    commit = blocks[root]
    assert (commit["did"], commit["rev"]) == (REI, told["rev"])
    held = {"b" + multibase.encode(cid, "base32")[1:] for cid in leaves(blocks, blocks[commit["data"]])}
    assert held == written
    asked = f"{service.service}/xrpc/zone.stratos.enrollment.status?did={REI}"
    status = httpx.get(asked, headers={"Authorization": f"Bearer {SYNC_TOKEN}"})
    unsigned = libipld.encode_dag_cbor({name: value for name, value in commit.items() if name != "sig"})
    verify(status.json()["signingKey"], unsigned, commit["sig"])
    assert [path.name for path in tmp_path.iterdir() if "car" in path.name] == ["rei.car"]


def verify(did_key: str, message: bytes, compact: bytes) -> None:
    """Raises InvalidSignature."""
    key = bytes(multibase.decode(did_key.removeprefix("did:key:")))
    curve = {b"\x80\x24": ec.SECP256R1(), b"\xe7\x01": ec.SECP256K1()}[key[:2]]
    der = encode_dss_signature(int.from_bytes(compact[:32]), int.from_bytes(compact[32:]))
    ec.EllipticCurvePublicKey.from_encoded_point(curve, key[2:]).verify(der, message, ec.ECDSA(SHA256()))


class Liar(BaseHTTPRequestHandler):
    """Passes questions on to the service, and changes a repository on the way as `damage` says."""

    target = url = ""
    damage = "none"

    def do_GET(self) -> None:
        path = self.path.replace("rei", "sakura") if self.damage == "key" and "enrollment.status" in self.path else self.path
        answer = httpx.get(self.target + path, headers={"Authorization": self.headers["Authorization"]})
        body = answer.content
        if "getRepo" in self.path:
            body = body[:-20] if self.damage == "cut" else body.replace(b"post 7", b"post 8") if self.damage == "forge" else body
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def liar(service: Program) -> Iterator[type[Liar]]:
    class Here(Liar):
        target = service.service

    server = ThreadingHTTPServer(("127.0.0.1", 0), Here)
    Here.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Here
    server.shutdown()
    thread.join()
    server.server_close()


def test_no_damaged_export_gets_the_file_s_name_or_takes_a_good_one_s_place(
    service: Program, liar: type[Liar], tmp_path: Path
) -> None:
    enroll(service, REI)
    enroll(service, SAKURA)
    for number in range(10):
        write(service, REI, f"post {number}")
    file = tmp_path / "did_web_rei.example.car"
    for damage, said in (("cut", "truncated"), ("forge", "getRepo"), ("key", "is not signed with")):
        liar.damage = damage
        done = admin(tmp_path, liar.url, "export", REI)
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr
        assert list(tmp_path.glob("*.car*")) == []
    liar.damage = "none"
    assert admin(tmp_path, liar.url, "export", REI).returncode == 0
    good = file.read_bytes()
    liar.damage = "cut"
    assert admin(tmp_path, liar.url, "export", REI).returncode == 1
    assert [path.read_bytes() for path in tmp_path.glob("*.car*")] == [good]
    unknown = admin(tmp_path, service.service, "export", "did:web:nobody.example")
    assert (unknown.returncode, "no active account did:web:nobody.example" in unknown.stderr) == (1, True), unknown.stderr


def test_the_log_is_printed_to_its_end_without_what_the_records_say(service: Program, tmp_path: Path) -> None:
    for did in (REI, SAKURA):
        enroll(service, did)
        write(service, did, f"a secret of {did}")
    done = admin(tmp_path, service.service, "log")
    assert done.returncode == 0, done.stderr
    kinds = [tuple(line.split()[2:4]) for line in done.stdout.splitlines()]
    assert {("enroll", REI), ("commit", REI), ("enroll", SAKURA), ("commit", SAKURA)} <= set(kinds)
    assert f"create {POST}/" in done.stdout
    assert "secret" not in done.stdout
    lines = [json.loads(line) for line in admin(tmp_path, service.service, "log", "--json", "--did", REI).stdout.splitlines()]
    assert {line["did"] for line in lines} == {REI}
    assert [line["seq"] for line in lines] == sorted(line["seq"] for line in lines)
    enrolled, *_, last = lines
    assert (enrolled["kind"], enrolled["boundaries"]) == ("enroll", [WRITERS])
    assert "secret" not in json.dumps(lines)
    after = admin(tmp_path, service.service, "log", "--json", "--records", "--cursor", str(last["seq"] - 1)).stdout.splitlines()
    assert json.loads(after[0])["operations"][0]["record"]["text"] == f"a secret of {REI}"
    future = admin(tmp_path, service.service, "log", "--cursor", str(2**53 - 1))
    assert (future.returncode, "FutureCursor" in future.stderr, "Traceback" in future.stderr) == (1, True, False), future.stderr


def test_a_followed_log_prints_new_entries_and_ends_cleanly_on_sigint(service: Program, tmp_path: Path) -> None:
    enroll(service, REI)
    with subprocess.Popen(
        command("log", "--follow", "--json"),
        cwd=tmp_path,
        env=environment(service.service),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        try:
            while json.loads(tail.stdout.readline())["kind"] != "enroll":
                pass
            for number in range(3):
                cid = write(service, REI, f"new {number}")
                entry = json.loads(tail.stdout.readline())
                while entry["kind"] != "commit" or not entry["operations"]:
                    entry = json.loads(tail.stdout.readline())
                assert entry["operations"][0]["cid"] == cid
            tail.send_signal(signal.SIGINT)
            assert (tail.wait(15), tail.stderr.read()) == (0, "")
        finally:
            tail.kill()
