"""describeRepo tells what the network says of an account: the six situations of service spec §1.3.7."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from stratos.atproto.syntax import Did
from stratos.engine.identity import DidDocument, DidNotFound, IdentityUnavailable
from tests.api.builders import serving
from tests.engine.builders import REI, WRITERS

HANDLE = "rei.example.com"


@dataclass
class Network:
    """One account as the network knows it: its document's names, and what they point to."""

    names: tuple[str, ...] = (f"at://{HANDLE}",)
    points_to: str | None = HANDLE
    away: bool = False
    unknown: bool = False
    handles_away: bool = False

    async def resolve_did(self, did: Did, *, refresh: bool = False) -> DidDocument:
        if self.away:
            raise IdentityUnavailable(f"{did}: away, refresh {refresh}")
        if self.unknown:
            raise DidNotFound(did)
        return DidDocument.parse(did, json.dumps({"id": did, "alsoKnownAs": list(self.names)}).encode())

    async def resolve_handle(self, handle: str) -> Did | None:
        return REI if handle == self.points_to else None

    async def verified_handle(self, document: DidDocument) -> str | None:
        if self.handles_away:
            raise IdentityUnavailable("name servers are away")
        return document.claimed_handle if document.claimed_handle == self.points_to else None


@pytest.mark.parametrize(
    ("network", "handle", "correct", "has_document"),
    [
        (Network(), HANDLE, True, True),
        (Network(points_to="somebody.else"), HANDLE, False, True),
        (Network(names=()), REI, False, True),
        (Network(handles_away=True), HANDLE, False, True),
        (Network(away=True), REI, False, False),
        (Network(unknown=True), REI, False, False),
    ],
    ids=["both ways", "points elsewhere", "no handle", "name servers away", "network away", "unknown"],
)
async def test_handle_and_document_are_what_the_network_says(
    data_dir: Path, network: Network, handle: str, correct: bool, has_document: bool
) -> None:
    async with serving(data_dir, network=network) as api:
        await api.engine.enroll(REI, WRITERS)
        answer = await api.get("zone.stratos.repo.describeRepo", repo=REI)
    assert answer.status == 200
    assert (answer.body["handle"], answer.body["handleIsCorrect"]) == (handle, correct)
    assert ("didDoc" in answer.body) is has_document
