"""The publisher's outbox, in the tables of either database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from stratos.atproto.syntax import Did
from stratos.storage.instants import from_microseconds, to_microseconds
from stratos.storage.outbox_port import PUBLISHER, AccountWork, BlockedItem, DueAccount, Mark, OutboxCounts, WorkItem
from stratos.storage.sql_database import SqlConnection, SqlDatabase

_DOING: Final = "writing to the outbox"
_AccountRow = tuple[str, str, int | None, int, str | None, str | None, int, int]


class SqlOutbox:
    """Implements `outbox_port.Outbox`."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        self._sql = {name.removeprefix("outbox."): text for name, text in database.sql.items() if name.startswith("outbox.")}

    def advance(self, seq: int, marks: Sequence[Mark], *, now: datetime) -> None:
        """Move the publisher's cursor to `seq` and keep the marks, in one transaction (I5)."""
        with self._database.write("advancing the publisher") as connection:
            self._keep(connection, marks, now)
            connection.execute(self._database.sql["cursor.save"], (PUBLISHER, seq))

    def mark(self, marks: Sequence[Mark], *, now: datetime) -> None:
        """Keep marks that come from elsewhere than the log."""
        with self._database.write(_DOING) as connection:
            self._keep(connection, marks, now)

    def due(self, now: datetime, *, limit: int, per_pds: int) -> list[DueAccount]:
        """Accounts that are due, the longest waiting first, at most `per_pds` of each PDS."""
        bounds = {"now": to_microseconds(now), "limit": limit, "per_pds": per_pds}
        with self._database.read("looking for due accounts") as connection:
            rows = connection.execute(self._sql["due"], bounds).fetchall()
        return [DueAccount(Did(did), pds, failures, generation) for did, pds, failures, generation in rows]

    def next_due(self, after: datetime) -> datetime | None:
        """When the first account becomes due after a moment."""
        with self._database.read("looking for the next due account") as connection:
            row: tuple[int | None] = connection.execute(self._sql["next_due"], (to_microseconds(after),)).fetchone()
        return None if row[0] is None else from_microseconds(row[0])

    def items(self, did: Did, *, first: str | None, last: tuple[str, str] | None, limit: int) -> list[WorkItem]:
        """Work of an account that is not blocked: `first`, what failed least in the order of its marks, `last` in that order."""
        late, latest = last or (None, None)
        wanted = {"did": did, "first": first, "late": late, "latest": latest, "limit": limit}
        with self._database.read(f"reading the work of {did}") as connection:
            rows = connection.execute(self._sql["items"], wanted).fetchall()
        return [
            WorkItem(did, path, generation, from_microseconds(since), from_microseconds(marked))
            for path, generation, since, marked in rows
        ]

    def done(self, item: WorkItem) -> None:
        """Take an item out unless it was marked again; the account's failures begin at zero again."""
        with self._database.write(_DOING) as connection:
            connection.execute(self._sql["remove_item"], (item.did, item.path, item.generation))
            connection.execute(self._sql["succeeded"], (item.did,))

    def block(self, item: WorkItem, reason: str) -> None:
        """Set an item aside as refused, unless it was marked again. As with `done`, the account's failures end."""
        with self._database.write(_DOING) as connection:
            connection.execute(self._sql["block_item"], (reason, item.did, item.path, item.generation))
            connection.execute(self._sql["succeeded"], (item.did,))

    def postpone(self, item: WorkItem, until: datetime, *, failures: int, reason: str) -> None:
        """The account is due again at a moment; the item goes behind its others. `failures` is the account's new count."""
        account = {"did": item.did, "until": to_microseconds(until), "failures": failures, "reason": reason}
        with self._database.write(_DOING) as connection:
            connection.execute(self._sql["postpone_account"], account)
            connection.execute(self._sql["postpone_item"], (item.did, item.path))

    def rest(self, did: Did, now: datetime) -> None:
        """End an account's turn: it stands at the end of the line if there is more to do, else in none."""
        with self._database.write(_DOING) as connection:
            connection.execute(self._sql["rest"], {"did": did, "now": to_microseconds(now)})

    def settle(self, did: Did, pds: str) -> None:
        """Remember where an account is."""
        with self._database.write(_DOING) as connection:
            connection.execute(self._sql["settle"], (pds, did))

    def park(self, account: DueAccount, reason: str) -> None:
        """The account waits for a mark that wakes it, unless it was marked since it was found due."""
        with self._database.write(_DOING) as connection:
            connection.execute(self._sql["park"], (reason, account.did, account.generation))

    def forget(self, item: WorkItem) -> None:
        """As `done`; an account without further work is forgotten as well."""
        with self._database.write(_DOING) as connection:
            connection.execute(self._sql["remove_item"], (item.did, item.path, item.generation))
            connection.execute(self._sql["succeeded"], (item.did,))
            connection.execute(self._sql["forget_account"], {"did": item.did})

    def unpark_all(self, now: datetime) -> None:
        """Make every parked account due."""
        with self._database.write(_DOING) as connection:
            connection.execute(self._sql["unpark_all"], {"now": to_microseconds(now)})

    def hurry(self, did: Did | None, now: datetime) -> int:
        """Make an account, or all, due now whatever stood in the way: blocked, parked or postponed. How many have work."""
        with self._database.write(_DOING) as connection:
            connection.execute(self._sql["unblock"], {"did": did})
            return connection.execute(self._sql["hurry"], {"did": did, "now": to_microseconds(now)}).rowcount

    def page(self, *, after: Did | None, limit: int, blocked: int) -> list[AccountWork]:
        """Accounts with work in the order of their DIDs, exclusive of `after`, each with up to `blocked` blocked items."""
        with self._database.read("listing the outbox") as connection:
            rows: list[_AccountRow] = connection.execute(self._sql["page"], (after or "", limit)).fetchall()
            return [_account(row, connection.execute(self._sql["blocked"], (row[0], blocked)).fetchall()) for row in rows]

    def counts(self, failures: int) -> OutboxCounts:
        """Gauges; `failures` is from when on an account counts as failing."""
        with self._database.read("counting the outbox") as connection:
            pending, parked, blocked, oldest = connection.execute(self._sql["counts"]).fetchone()
            failing: int = connection.execute(self._sql["failing"], (failures,)).fetchone()[0]
        return OutboxCounts(pending, parked, blocked, failing, None if oldest is None else from_microseconds(oldest))

    def _keep(self, connection: SqlConnection, marks: Sequence[Mark], now: datetime) -> None:
        if not marks:
            return
        generation: int = connection.execute(self._sql["next_generation"]).fetchone()[0]
        for mark in marks:
            account = {"did": mark.did, "now": to_microseconds(now), "generation": generation, "wake": mark.wake}
            connection.execute(self._sql["mark_account"], account)
            if mark.only:
                connection.execute(self._sql["drop_items"], {"did": mark.did})
            item = {"did": mark.did, "path": mark.path, "generation": generation, "at": to_microseconds(mark.at)}
            connection.execute(self._sql["mark_item"], item)


def _account(row: _AccountRow, blocked: Sequence[tuple[str, str]]) -> AccountWork:
    did, pds, due, failures, parked, last_error, items, since = row
    return AccountWork(
        did=Did(did),
        pds=pds,
        due=None if due is None else from_microseconds(due),
        failures=failures,
        parked=parked,
        last_error=last_error,
        items=items,
        since=from_microseconds(since),
        blocked=tuple(BlockedItem(path, reason) for path, reason in blocked),
    )
