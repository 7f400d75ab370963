"""Hostile callers: credentials that do not hold, and well-formed attempts to read what the caller may not read."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from tests.crash.processes import ADMIN_PASSWORD, SYNC_TOKEN
from tests.wire.cases import CID, NOT_ALLOWED, Case
from tests.wire.service import HOSTILE, OWNER, POST, PROBE_PATH, PROBE_RKEY, STRANGER, post, request

REFUSED: Final = frozenset({400, 401})
CREATE: Final = "/xrpc/zone.stratos.repo.createRecord"
PROBE_URI: Final = f"at://{OWNER}/{PROBE_PATH}"


def credential_cases() -> Iterator[Case]:
    """Credentials that are broken, forged, doubled, of the wrong kind or for another."""
    body = json.dumps({"repo": OWNER, "collection": POST, "record": post("hostile")}).encode()
    header = _base64({"alg": "none", "typ": "JWT"})
    forged = f"{header}.{_base64({'iss': OWNER, 'aud': 'did:web:stratos.test', 'sub': OWNER, 'exp': 9999999999})}."
    for stated in (
        "", " ", "Bearer", "Bearer ", "bearer", "Basic", "DPoP", OWNER, "Bearer did", "Bearer did:", "Bearer did:plc",
        f"Bearer\t{HOSTILE}", f"Bearer  {HOSTILE} {OWNER}", f"Bearer {OWNER},{HOSTILE}", f"Bearer {OWNER}#atproto",
        f"Bearer {OWNER}%00", f"Bearer did:plc:{'a' * 3000}",
        f"Bearer {forged}", f"Bearer {forged}AAAA", f"DPoP {forged}", f"DPoP {OWNER}", f"Basic {_basic('admin', ADMIN_PASSWORD)}",
        f"Basic {_basic(OWNER, '')}", "Basic !!!", "Basic YWRtaW4=", "Digest username=admin", "Negotiate abc", f"Token {OWNER}",
        "Bearer null", "Bearer undefined", "Bearer 0", "Bearer ..", "Bearer a.b.c", "Bearer ä", f"Bearer {SYNC_TOKEN}x",
        f"Bearer {SYNC_TOKEN[:-1]}", f"Bearer {SYNC_TOKEN}", f"Bearer {ADMIN_PASSWORD}",
    ):  # fmt: skip
        sent = request("POST", CREATE, None, body, {"Authorization": stated})
        yield Case(f"Authorization {stated[:50]!r}", sent, ("authorization", "enrolled", "token", "proof", "jwt"), REFUSED)
    yield Case("no Authorization", request("POST", CREATE, None, body), ("authorization",), NOT_ALLOWED)
    double = request("POST", CREATE, HOSTILE, body, {"authorization": f"Bearer {OWNER}"})
    yield Case("two Authorizations", double, ("authorization",), NOT_ALLOWED)
    yield Case("not enrolled", request("POST", CREATE, STRANGER, body), ("enrolled", "another user"), REFUSED)
    for nsid, verb in (("createRecord", "create"), ("putRecord", "update"), ("deleteRecord", "delete"), ("applyWrites", "write")):
        theirs = {"repo": OWNER, "collection": POST, "rkey": PROBE_RKEY, "record": post("hostile"), "writes": []}
        sent = request("POST", f"/xrpc/zone.stratos.repo.{nsid}", HOSTILE, json.dumps(theirs).encode())
        yield Case(f"{verb} in another's repository", sent, ("another user", "writes"), REFUSED)
    for token in ("", "x", HOSTILE, OWNER, SYNC_TOKEN, ADMIN_PASSWORD.upper(), ADMIN_PASSWORD[:-1], f"{ADMIN_PASSWORD}x"):
        for nsid in ("enroll", "unenroll", "setBoundaries"):
            sent = request(
                "POST", f"/xrpc/zone.stratos.admin.{nsid}", token, json.dumps({"did": OWNER, "boundaries": []}).encode()
            )
            yield Case(f"admin.{nsid} as {token!r}", sent, ("admin",), NOT_ALLOWED)
    for stated in (
        f"Basic {_basic('root', ADMIN_PASSWORD)}", f"Basic {_basic('admin', 'x')}", f"Basic {_basic('admin', '')}",
        f"Basic {_basic('', ADMIN_PASSWORD)}", f"Basic {_basic('admin:', ADMIN_PASSWORD)}",
        f"Basic {_basic('ADMIN', ADMIN_PASSWORD)}", "Basic", "Basic !", "Basic ////",
    ):  # fmt: skip
        sent = request("GET", "/xrpc/zone.stratos.admin.listEnrollments", None, None, {"Authorization": stated})
        yield Case(f"admin by {stated!r}", sent, ("admin",), NOT_ALLOWED)


def reading_cases() -> Iterator[Case]:
    """Ways to the probe for those who lack its boundary, all of them well-formed, all of them refused."""
    callers = (("anonymous", None), ("hostile", HOSTILE), ("stranger", STRANGER), ("sync token", SYNC_TOKEN))
    for label, token in callers:
        for prefix in ("zone.stratos.repo", "com.atproto.repo"):
            record = f"repo={OWNER}&collection={POST}&rkey={PROBE_RKEY}"
            yield _read(f"{prefix}.getRecord", record, label, token, "record not found")
            yield _read(f"{prefix}.getRecord", f"{record}&cid={CID}", f"{label}, by CID", token, "record not found")
        proof = f"did={OWNER}&collection={POST}&rkey={PROBE_RKEY}"
        yield _read("com.atproto.sync.getRecord", proof, label, token, "record not found")
        hydrated = "blocked" if token == HOSTILE else "not found"
        yield _read("zone.stratos.repo.hydrateRecord", f"uri={quote(PROBE_URI)}", label, token, hydrated)
        if token != SYNC_TOKEN:
            yield _read("zone.stratos.sync.getRepo", f"did={OWNER}", label, token, "auth")
            yield _read("zone.stratos.sync.listRepos", "", label, token, "auth")
            yield _read("zone.stratos.sync.getRepo", f"did={OWNER}&syncToken=x", f"{label}, false syncToken", token, "token")
            twice = f"did={OWNER}&syncToken={SYNC_TOKEN}&syncToken="
            yield _read("zone.stratos.sync.getRepo", twice, f"{label}, two syncTokens", token, "token")
    for encoded in (
        "did%3Aplc%3Aowner%00", "did%3aplc%3aowner%20", "%20did:plc:owner", "did:plc:owner%0a", "did:plc:owner%2f..",
        "did%253Aplc%253Aowner",
        "DID:plc:owner", "did:plc:OWNER", "did:plc:owner/", "did:plc:owner%23x", "did:plc:owner;x", "did:plc:owner%ef%bb%bf",
    ):  # fmt: skip
        parameters = f"repo={encoded}&collection={POST}&rkey={PROBE_RKEY}"
        yield _read("zone.stratos.repo.getRecord", parameters, f"repo={encoded}", OWNER, "repo", "not found", "query string")
    for name, encoded in (
        ("collection", "zone.stratos.feed.post%2f"),
        ("collection", "zone.stratos.feed.post%00"),
        ("collection", "zone.stratos.feed"),
        ("rkey", f"{PROBE_RKEY}%00"),
        ("rkey", f"..%2f{PROBE_RKEY}"),
        ("rkey", f"{PROBE_RKEY}'%20OR%201=1--"),
        ("rkey", "%25"),
        ("rkey", "_" * 13),
        ("rkey", PROBE_RKEY.upper()),
    ):
        parameters = f"{name}={encoded}&repo={OWNER}&" + (f"rkey={PROBE_RKEY}" if name == "collection" else f"collection={POST}")
        yield _read("zone.stratos.repo.getRecord", parameters, f"{name}={encoded}", OWNER, name, "not found")


def harmless_requests() -> Iterator[tuple[str, bytes]]:
    """Well-formed requests near the probe that are answered, with nothing of it in the answer."""
    for label, token in (("anonymous", None), ("hostile", HOSTILE), ("stranger", STRANGER), ("sync token", SYNC_TOKEN)):
        for reverse in ("true", "false"):
            for cursor in (
                "",
                "0",
                "zzzzzzzzzzzzz",
                "..",
                "%00",
                PROBE_RKEY[:-1],
                f"at://{OWNER}/{PROBE_PATH}",
                "x/y/z",
                "%25",
                "'",
            ):
                target = f"/xrpc/zone.stratos.repo.listRecords?repo={OWNER}&collection={POST}&reverse={reverse}&cursor={cursor}"
                yield f"listRecords {label} {reverse} {cursor}", request("GET", target, token)
        uris = [PROBE_URI, PROBE_URI, f"{PROBE_URI}\x00", PROBE_URI.upper(), "", "at://", f"{PROBE_URI}/", f"{PROBE_URI}#/text"]
        body = json.dumps({"uris": uris}).encode()
        yield f"hydrateRecords {label}", request("POST", "/xrpc/zone.stratos.repo.hydrateRecords", token, body)
        yield f"describeRepo {label}", request("GET", f"/xrpc/com.atproto.repo.describeRepo?repo={OWNER}", token)
        yield f"status {label}", request("GET", f"/xrpc/zone.stratos.enrollment.status?did={OWNER}", token)
        for path in ("/", "/health", "/ready", "/metrics", "/robots.txt", "/.well-known/did.json", "/xrpc/_health"):
            yield f"{path} {label}", request("GET", path, token)
        for verb in ("HEAD", "OPTIONS"):
            target = f"/xrpc/zone.stratos.repo.getRecord?repo={OWNER}&collection={POST}&rkey={PROBE_RKEY}"
            yield f"{verb} {label}", request(verb, target, token)


def _read(nsid: str, parameters: str, label: str, token: str | None, *names: str) -> Case:
    return Case(f"{nsid} as {label}", request("GET", f"/xrpc/{nsid}?{parameters}", token), names, REFUSED)


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _base64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
