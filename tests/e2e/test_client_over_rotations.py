"""A verifier that keeps running while the service's operator rotates an account's key, and the service's own."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from stratos.client import (
    NoAnswer,
    SigningKeys,
    Tid,
    VerificationFailed,
    fetch_and_verify_record,
    resolve_service,
    user_signing_key,
    verify_attestation,
)
from tests.e2e.network import NETWORK_MARKS, PdsNetwork
from tests.e2e.programs import ADMIN_PASSWORD, free_ports, running
from tests.e2e.test_client import Member, enrolled
from tests.e2e.test_enrollment import POST, Service, settings_of
from tests.e2e.test_keys_command import told

pytestmark = NETWORK_MARKS

WAIT_SECONDS = 30.0


class RunningVerifier:
    """Verifies one record again and again; a service that is away is asked again, everything else ends the test."""

    def __init__(self, member: Member, rkey: str) -> None:
        self._member = member
        self._host = member.host(member.tokens())
        self._keys = SigningKeys(self._host, member.did)
        self._rkey = rkey
        self._verified = trio.Event()
        self.revs: set[Tid] = set()

    async def run(self) -> None:
        while True:
            with suppress(NoAnswer):
                member = self._member
                verified = await fetch_and_verify_record(self._host, member.did, POST, self._rkey, user_signing_key=self._keys)
                self.revs.add(verified.rev)
                self._verified.set()
                self._verified = trio.Event()
            await trio.sleep(0.02)  # another process is asked; there is nothing to await

    async def until(self, rev: Tid) -> None:
        """Wait until the record has been verified in a commit at least as new as this."""
        with trio.fail_after(WAIT_SECONDS):
            while not any(seen >= rev for seen in self.revs):
                await self._verified.wait()


@pytest.mark.timeout(180)
async def test_a_running_verifier_knows_both_sides_of_every_rotation(pds_network: PdsNetwork, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    did = f"did:web:localhost%3A{port}"
    settings = settings_of(pds_network, STRATOS_SERVICE_DID=did)
    command = partial(told, tmp_path, STRATOS_SERVICE_DID=did)
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        with running("serve", tmp_path, settings, service_port=port) as program:
            service = Service(pds_network, program, did)
            member = await stack.enter_async_context(enrolled(service, "rei"))
            before = await member.enrollment()
            written = await member.direct().create_record(member.did, POST, member.post("the first key's"))
            verifier = RunningVerifier(member, str(written.uri.rkey))
            nursery.start_soon(verifier.run)
            await verifier.until(written.commit.rev)

            # The account's key, under the running verifier.
            url = ["--service", program.service, "--password", ADMIN_PASSWORD]
            rotated = await trio.to_thread.run_sync(lambda: command("admin", *url, "rotate-key", member.did))
            after = await member.direct().create_record(member.did, POST, member.post("the second key's"))
            await verifier.until(after.commit.rev)
            status = await member.direct().enrollment_status(member.did)
            assert [period.key for period in status.signing_keys] == [before.signing_key, rotated["signingKey"]]
            former = user_signing_key(before.signing_key)
            host = member.host(member.tokens())
            with pytest.raises(VerificationFailed, match="is not signed with"):
                await fetch_and_verify_record(host, member.did, POST, str(written.uri.rkey), user_signing_key=former)

        # The service's key, whose rotation needs the service to be stopped.
        keys = await trio.to_thread.run_sync(lambda: command("keys", "rotate-service"))
        with running("serve", tmp_path, settings, service_port=port) as program:
            published = await resolve_service(member.service_did, allow_localhost=True)
            assert [key.did_key for key in published.attesting_keys] == [keys["serviceKey"], keys["formerServiceKey"]]
            verify_attestation(member.did, before, *published.attesting_keys)
            with pytest.raises(VerificationFailed):
                verify_attestation(member.did, replace(before, boundaries=()), *published.attesting_keys)
            with pytest.raises(VerificationFailed, match="attested with"):
                verify_attestation(member.did, before, published.signing_key)
            last = await member.direct().create_record(member.did, POST, member.post("under the second service key"))
            await verifier.until(last.commit.rev)
        nursery.cancel_scope.cancel()
