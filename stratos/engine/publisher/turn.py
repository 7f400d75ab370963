"""One account's turn: its work in order, one thing after the other, and what becomes of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
import trio

from stratos.atproto.syntax import Did
from stratos.core.backoff import BackoffPolicy
from stratos.core.enrollment import Enrollment
from stratos.core.fault_text import describe
from stratos.engine.oauth import PdsUnavailable, SessionGone
from stratos.engine.oauth.ports import StoreThread
from stratos.engine.publisher.marks import SESSION
from stratos.engine.publisher.pds_repo import PdsClient, RefusedByPds
from stratos.engine.publisher.work import PdsWork
from stratos.storage.outbox_port import DueAccount, Outbox, WorkItem
from stratos.storage.ports import StorageFault

ITEMS_PER_TURN: Final = 50
TURN_SECONDS: Final = 60.0
"""After so many things or seconds an account goes to the end of the line."""
ITEM_SECONDS: Final = 600.0
"""For one thing, which may be a look through a whole collection. A PDS that is slower counts as one that does not answer: however
it drips, it holds a place among those that are served for no longer."""
RETRY_BACKOFF: Final = BackoffPolicy(initial=5.0, longest=6 * 3600.0)
ALARM_AFTER: Final = 12
"""Failures in a row after which, and after each further so many of which, it is an alarm: with the backoff 1 to 3 hours."""
NO_SESSION: Final = "no OAuth session: the account has to sign in"

log = structlog.get_logger(__name__)


class Turns:
    """Serves accounts whose turn has come. Cancelled at any point, what was not answered is done again."""

    def __init__(
        self,
        outbox: Outbox,
        client: PdsClient,
        work: PdsWork,
        *,
        thread: StoreThread,
        enrollment_path: str,
        clock: Callable[[], datetime],
        rng: random.Random,
    ) -> None:
        self._outbox = outbox
        self._client = client
        self._work = work
        self._thread = thread
        self._enrollment_path = enrollment_path
        self._clock = clock
        self._rng = rng
        self._retries = self._refusals = 0

    async def serve(self, account: DueAccount) -> None:
        """Do what the account has to do, until it is done, its PDS fails, or its turn is over. Raises StorageFault.

        While it is enrolled its enrollment record comes first. Else it comes last, but for the session that all else needs.
        """
        pds = await self._client.pds_of(account.did)
        enrollment = await self._work.enrollment(account.did)
        items = await self._thread(partial(self._items, account.did, enrollment))
        if pds is None:
            await self._without_session(account, enrollment, items)
            return
        if pds != account.pds:
            await self._thread(partial(self._outbox.settle, account.did, pds))
            return  # to be served among the accounts of that PDS
        failures, over = account.failures, trio.current_time() + TURN_SECONDS
        for item in items:
            if not await self._served(account, item, failures):
                return
            failures = 0
            if trio.current_time() >= over:
                break
        await self._thread(partial(self._outbox.rest, account.did, self._clock()))

    def statistics(self) -> Mapping[str, int]:
        """Counters: attempts that failed and will be made again, and requests that a PDS refused for good."""
        return {"retries_total": self._retries, "refusals_total": self._refusals}

    def _items(self, did: Did, enrollment: Enrollment | None) -> list[WorkItem]:
        active = enrollment is not None and enrollment.active
        first, last = (self._enrollment_path, None) if active else (None, (self._enrollment_path, SESSION))
        return self._outbox.items(did, first=first, last=last, limit=ITEMS_PER_TURN)

    async def _served(self, account: DueAccount, item: WorkItem, failures: int) -> bool:
        """Do one thing; whether the account can go on."""
        try:
            with trio.fail_after(ITEM_SECONDS):
                await self._work.do(item)
        except SessionGone:
            await self._park(account)
            return False
        except RefusedByPds as refusal:
            self._refusals += 1
            log.warning("a PDS refuses what is to be published", did=item.did, path=item.path, reason=str(refusal))
            await self._thread(partial(self._outbox.block, item, str(refusal)))
            return True
        except PdsUnavailable as error:
            await self._postpone(item, failures + 1, str(error), error.retry_after or 0.0)
            return False
        except trio.TooSlowError:
            await self._postpone(item, failures + 1, f"not done within {ITEM_SECONDS:g} s")
            return False
        except StorageFault as fault:  # of this account's store: the others can go on
            await self._postpone(item, failures + 1, str(fault))
            return False
        except Exception as error:  # whatever one account's data makes fail must not stop the others
            log.error("publishing failed unexpectedly", did=item.did, path=item.path, exc_info=error)
            await self._postpone(item, failures + 1, describe(error))
            return False
        await self._finish(item)
        return True

    async def _finish(self, item: WorkItem) -> None:
        """Nothing more is known of an account that is gone for good once its last item is done."""
        gone = item.path == SESSION and await self._work.enrollment(item.did) is None
        await self._thread(partial(self._outbox.forget if gone else self._outbox.done, item))

    async def _without_session(self, account: DueAccount, enrollment: Enrollment | None, items: list[WorkItem]) -> None:
        """The account waits. But where one that is gone for good never had a session, nothing of ours can be on its PDS."""
        never_published = enrollment is None and not account.pds
        pointless = [item for item in items if never_published or item.path == SESSION]
        for item in pointless:
            await self._finish(item)
        if len(pointless) < len(items):
            await self._park(account)
        else:
            await self._thread(partial(self._outbox.rest, account.did, self._clock()))

    async def _park(self, account: DueAccount) -> None:
        log.info("publishing waits for a session", did=account.did)
        await self._thread(partial(self._outbox.park, account, NO_SESSION))

    async def _postpone(self, item: WorkItem, failures: int, reason: str, at_least: float = 0.0) -> None:
        """Try again later; `at_least` is how many seconds the PDS asks us to wait."""
        self._retries += 1
        delay = max(RETRY_BACKOFF.delay(failures, self._rng), at_least)
        until = self._clock() + timedelta(seconds=delay)
        told = log.error if failures % ALARM_AFTER == 0 else log.info
        told("publishing postponed", did=item.did, path=item.path, failures=failures, delay_seconds=round(delay), reason=reason)
        await self._thread(partial(self._outbox.postpone, item, until, failures=failures, reason=reason))
