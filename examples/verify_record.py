"""Verify a private record of Stratos from the outside: every claim that the account's PDS and the service make about it.

    .venv/bin/python examples/verify_record.py https://pds.example.com alice.example.com at://did:plc:…/zone.stratos.feed.post/3k…

The second argument is the account whose record it is, as handle or DID, on the PDS of the first. A private record is shown to
those who may read it: the script signs in at that PDS as the account, or as `--reader`, with the (app) password in the
environment variable PDS_PASSWORD. Prints every check with its verdict; the exit status is 0 if all of them hold.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import trio

from stratos.client import (
    AtUri,
    BearerToken,
    Did,
    HttpxFetch,
    ServiceTokens,
    SigningKeys,
    StratosError,
    VerificationFailed,
    VerifiedRecord,
    XrpcHost,
    fetch_and_verify_record,
    get_enrollment_by_service_did,
    open_fetch,
    parse_did,
    parse_stub,
    resolve_service,
    verify_attestation,
    verify_stub,
)


@contextmanager
def check(what: str) -> Iterator[None]:
    """Print the verdict of a check; the first that fails ends the script."""
    try:
        yield
    except StratosError as error:
        print(f"  FAILED  {what}: {error}")
        raise SystemExit(1) from None
    print(f"  ok      {what}")


async def signed_in(pds_url: str, fetch: HttpxFetch, identifier: str, password: str) -> XrpcHost:
    """The PDS with the session of an account."""
    body = {"identifier": identifier, "password": password}
    session = await XrpcHost(pds_url, fetch).procedure("com.atproto.server.createSession", body)
    return XrpcHost(pds_url, fetch, credentials=BearerToken(str(session["accessJwt"])))


async def did_of(account: str, pds: XrpcHost) -> Did:
    """The account's DID; a handle is the PDS's to resolve."""
    if account.startswith("did:"):
        return parse_did(account)
    answer = await pds.query("com.atproto.identity.resolveHandle", {"handle": account})
    return parse_did(str(answer["did"]))


async def verify(pds: XrpcHost, account: str, uri: AtUri, reader: XrpcHost, *, allow_localhost: bool) -> VerifiedRecord:
    """All checks of one record, in the order in which they build upon each other."""
    collection, rkey = str(uri.collection), str(uri.rkey)
    with check("the record is in the account's repository"):
        did = await did_of(account, pds)
        if uri.authority != did:
            raise VerificationFailed(f"{account} is {did}, the record is of {uri.authority}")
    with check("the account's PDS has a stub, which says where the record is"):
        stub = await pds.query("com.atproto.repo.getRecord", {"repo": did, "collection": collection, "rkey": rkey})
        source = parse_stub(stub.get("value"))
        if source is None:
            raise VerificationFailed("what stands there is no stub")
        service = parse_did(source.service)
    with check(f"{service} publishes its address and its key"):
        published = await resolve_service(service, allow_localhost=allow_localhost)
    with check("the account is enrolled there, as the service attests"):
        enrollment = await get_enrollment_by_service_did(did, pds, service)
        if enrollment is None:
            raise VerificationFailed("the PDS has no enrollment record for the service")
        verify_attestation(did, enrollment, *published.attesting_keys)
    print(f"          boundaries: {', '.join(enrollment.boundaries) or 'none'}")
    with check("the record is what the account signed"):
        tokens = ServiceTokens(reader, service, clock=time.time)
        async with open_fetch() as fetch:
            host = XrpcHost(published.url, fetch, credentials=tokens)
            verified = await fetch_and_verify_record(host, did, collection, rkey, user_signing_key=SigningKeys(host, did))
    print(f"          level: {verified.level}, rev {verified.rev}, commit {verified.commit}")
    with check("the stub stands for this very record"):
        verify_stub(stub.get("value"), uri=uri, cid=verified.cid, service=service)
    return verified


async def main() -> None:
    """Read the arguments, sign in, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pds", help="URL of the PDS")
    parser.add_argument("account", help="handle or DID of the account whose record it is")
    parser.add_argument("uri", type=AtUri.parse, help="URI of the record")
    parser.add_argument("--reader", help="handle or DID of the account to read as; the record's own by default")
    parser.add_argument("--development", action="store_true", help="a service may be a did:web of localhost, asked without TLS")
    arguments = parser.parse_args()
    print(arguments.uri)
    async with open_fetch() as fetch, httpx.AsyncClient() as http:
        with check("signed in"):
            identifier = arguments.reader or arguments.account
            reader = await signed_in(arguments.pds, HttpxFetch(http), identifier, os.environ.get("PDS_PASSWORD", ""))
        pds = XrpcHost(arguments.pds, fetch)
        verified = await verify(pds, arguments.account, arguments.uri, reader, allow_localhost=arguments.development)
    print(f"Verified: {verified.cid}")


if __name__ == "__main__":
    trio.run(main)
