"""A tour of the client library: find the service, post, read, hydrate, batch, follow the stream. docs/CLIENT.md explains it.

    PDS_PASSWORD=… .venv/bin/python examples/client_tour.py https://pds.example.com alice.example.com did:web:stratos.example.com

The account must be enrolled with the service. With `--through-pds` the records travel through the account's PDS.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from datetime import UTC, datetime

import httpx
import trio

from stratos.client import (
    AtUri,
    BearerToken,
    Boundary,
    CommitEvent,
    Create,
    Credentials,
    Delete,
    Did,
    HttpxFetch,
    OutdatedCursor,
    Record,
    ServiceTokens,
    StratosClient,
    StratosEnrollment,
    Update,
    XrpcFailure,
    XrpcHost,
    get_enrollment_by_service_did,
    parse_did,
    resolve_service,
    subscribe,
)

POST = "zone.stratos.feed.post"


async def sign_in(pds_url: str, fetch: HttpxFetch, identifier: str, password: str) -> tuple[Did, BearerToken]:
    """The account's DID, and the token of a session at its PDS."""
    body = {"identifier": identifier, "password": password}
    session = await XrpcHost(pds_url, fetch).procedure("com.atproto.server.createSession", body)
    return parse_did(str(session["did"])), BearerToken(str(session["accessJwt"]))


def service_tokens(pds_url: str, fetch: HttpxFetch, access: BearerToken, service: Did) -> ServiceTokens:
    """Tokens for the service, which the account's PDS mints."""
    return ServiceTokens(XrpcHost(pds_url, fetch, credentials=access), service, clock=time.time)


async def find_service(did: Did, pds_url: str, service: Did) -> StratosEnrollment:
    """How the account is enrolled with a service, as its PDS tells everybody."""
    enrollment = await get_enrollment_by_service_did(did, pds_url, service)
    if enrollment is None:
        raise SystemExit(f"{did} is not enrolled with {service}")
    return enrollment


def post(text: str, boundary: Boundary) -> Record:
    """A post in one boundary."""
    return {
        "$type": POST,
        "text": text,
        "boundary": {"$type": "zone.stratos.boundary.defs#Domains", "values": [{"value": boundary}]},
        "createdAt": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


async def write_and_read(stratos: StratosClient, did: Did, boundary: Boundary) -> AtUri:
    """Create, replace, read, list, hydrate."""
    written = await stratos.create_record(did, POST, post("hello, writers", boundary))
    rkey = str(written.uri.rkey)
    replaced = await stratos.put_record(did, POST, rkey, post("hullo, writers", boundary), swap_record=written.cid)
    view = await stratos.get_record(did, POST, rkey)
    assert view.cid == replaced.cid
    assert view.is_intact()
    page = await stratos.list_records(did, POST, limit=10)
    assert view in page.records
    hydrated = await stratos.hydrate_records([written.uri])
    assert hydrated.records == (view,)
    return written.uri


async def write_a_batch(stratos: StratosClient, did: Did, boundary: Boundary) -> None:
    """Several writes in one commit, all or nothing."""
    first = await stratos.apply_writes(did, [Create(POST, post(f"number {number}", boundary)) for number in range(2)])
    one, other = [str(result.uri.rkey) for result in first.results if result is not None]
    await stratos.apply_writes(did, [Update(POST, one, post("changed", boundary)), Delete(POST, other)])


async def ask_for_what_is_not_there(stratos: StratosClient, did: Did) -> None:
    """A refusal is one exception with everything that the service says."""
    try:
        await stratos.get_record(did, POST, "not-there")
    except XrpcFailure as refusal:
        print(f"refused: {refusal.status} {refusal.name} ({refusal.message}), again in {refusal.retry_after} s")


async def follow(service_url: str, credentials: Credentials, did: Did, until: AtUri) -> int:
    """Read the account's commits from the beginning until one is seen; the cursor is where to go on."""
    async with subscribe(service_url, credentials, cursor=0, did=did, rng=random.Random()) as stream:
        async for batch in stream:
            for event in batch.events:
                match event:
                    case CommitEvent(rev=rev, changes=changes):
                        for change in changes:
                            print(f"{rev} {change.action} {change.collection}/{change.rkey}")
                    case OutdatedCursor(message):
                        print(f"some events are gone: {message}")
                    case other:
                        print(f"to look at: {other}")
            # Keep batch.cursor in the same transaction as what the events did: then nothing is lost, and nothing done twice.
            written = [change.rkey for event in batch.events if isinstance(event, CommitEvent) for change in event.changes]
            if until.rkey in written:
                return batch.cursor
    raise SystemExit("the stream has ended")


async def main() -> None:
    """Read the arguments and take the tour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pds", help="URL of the account's PDS")
    parser.add_argument("account", help="handle or DID")
    parser.add_argument("service", type=parse_did, help="DID of the Stratos service")
    parser.add_argument("--through-pds", action="store_true", help="send the records through the PDS")
    parser.add_argument("--development", action="store_true", help="the service may be a did:web of localhost, asked without TLS")
    arguments = parser.parse_args()
    async with httpx.AsyncClient() as http:
        fetch = HttpxFetch(http)
        did, access = await sign_in(arguments.pds, fetch, arguments.account, os.environ.get("PDS_PASSWORD", ""))
        enrollment = await find_service(did, arguments.pds, arguments.service)
        print(f"enrolled at {enrollment.service}, boundaries {', '.join(enrollment.boundaries)}")
        # Tokens go to the address in the service's own document: the one in a record is the claim of who wrote the record.
        published = await resolve_service(arguments.service, allow_localhost=arguments.development)
        tokens = service_tokens(arguments.pds, fetch, access, arguments.service)
        if arguments.through_pds:
            stratos = StratosClient.through_pds(arguments.pds, fetch, arguments.service, credentials=access)
        else:
            stratos = StratosClient.direct(published.url, fetch, tokens)
        status = await stratos.enrollment_status(did)
        print(f"active: {status.active}, since {status.enrolled_at}")
        boundary = enrollment.boundaries[0]
        uri = await write_and_read(stratos, did, boundary)
        await write_a_batch(stratos, did, boundary)
        await ask_for_what_is_not_there(stratos, did)
        cursor = await follow(published.url, tokens, did, uri)
        print(f"seen {uri}, cursor {cursor}")


if __name__ == "__main__":
    trio.run(main)
