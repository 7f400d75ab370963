"""A batch's statements, gathered to be sent at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Did
from stratos.core.enrollment import Enrollment
from stratos.core.log_entry import EnrollmentEntry
from stratos.storage.appending import LoggedCommit, LogHead, LogRow
from stratos.storage.postgres.actor_schema import ActorSchema, schema_name
from stratos.storage.postgres.apply import apply_commit
from stratos.storage.postgres.database import Parameters
from stratos.storage.sql_files import Statements


class GatheredStatements:
    """Implements `appending.AppendTarget`: answers from what was read of the heads, and gathers effects in their order.

    `statements` are pairs of text and parameters, and whether the text is worth being prepared.
    """

    def __init__(self, sql: Statements, schema: ActorSchema, heads: Sequence[Sequence[object]]) -> None:
        """`heads` are the rows of `append.heads`."""
        self._sql = sql
        self._schema = schema
        self._heads: dict[str, LogHead] = {}
        self._versions: dict[str, int] = {}
        for did, commit, rev, seq, enrolled, version, key in heads:
            found = LogHead(
                Cid(commit) if isinstance(commit, bytes) else None,
                str(rev),
                int(str(seq)),
                bool(enrolled),
                key if isinstance(key, str) else None,
            )
            self._heads[str(did)] = found
            if isinstance(version, int):
                self._versions[str(did)] = version
        self.statements: list[tuple[str, Parameters, bool]] = []

    def head(self, did: Did) -> LogHead:
        """What the log knows of a DID. Where its schema is of another version, it takes no commits: whoever plans again opens the
        store, which migrates it, or says that it is newer. Done here, a migration would hold up everybody's writes."""
        head = self._heads[did]
        fits = self._versions.get(did, self._schema.version) == self._schema.version
        return head if fits else replace(head, enrolled=False)

    def insert_rows(self, rows: Sequence[LogRow]) -> None:
        if rows:
            columns = [(row.seq, row.did, row.kind, row.rev, row.time, row.views, row.frame) for row in rows]
            self._add("append.insert_entries", [list(column) for column in zip(*columns, strict=True)])

    def put_enrollment(self, entry: EnrollmentEntry, enrollment: Enrollment, time: str) -> None:
        did = enrollment.did
        values = (
            did,
            enrollment.enrolled_at,
            enrollment.pds_endpoint,
            enrollment.signing_key,
            "true" if enrollment.active else "false",
            enrollment.enrollment_rkey,
        )
        self._add("enrollment.put", values)
        self._add("enrollment.delete_boundaries", (did,))
        if enrollment.boundaries:
            self._add("enrollment.put_boundaries", (did, [*enrollment.boundaries]))
        if entry.sealed_key is not None:
            self._add("enrollment.retire_key", (time, did))
            self._add("enrollment.put_key", (did, enrollment.signing_key, entry.sealed_key, time, entry.first_rev or ""))

    def erase(self, did: Did) -> None:
        for name in ("delete_enrollment", "erase_entries", "queue_purge", "forget_schema"):
            self._add(f"unenroll.{name}", (did,))
        self._versions.pop(did, None)

    def finish(self, heads: Sequence[tuple[Did, LogHead]], last_seq: int | None) -> None:
        if heads:
            rows = [(did, None if head.commit is None else head.commit.bytes, head.rev, head.seq) for did, head in heads]
            self._add("append.put_heads", [list(column) for column in zip(*rows, strict=True)])
        if last_seq is not None:
            self._add("append.put_last_seq", (last_seq,))
            self._add("append.notify", (str(last_seq),))

    def apply(self, did: Did, commits: Sequence[LoggedCommit]) -> None:
        """Carry commits into the actor's schema, which is made where necessary."""
        name = schema_name(did)
        if did not in self._versions:
            self._add("unenroll.purge_done", (did,))
            self._add("append.put_schema", (did, name, self._schema.version))
            self.statements += [(step, (), False) for step in self._schema.creation(name)]
        for commit in commits:
            apply_commit(lambda key, values: self._add_for(name, key, values), commit)

    def note_batch(self, writer: str, batch: int, time: int) -> None:
        """Leave a trace by which this process can find out whether the batch took place."""
        self._add("append.note_batch", (writer, batch, time))

    def _add(self, name: str, parameters: Parameters) -> None:
        self.statements.append((self._sql[name], parameters, True))

    def _add_for(self, schema: str, name: str, parameters: Parameters) -> None:
        self.statements.append((self._schema.statement(f"apply.{name}", schema), parameters, True))
