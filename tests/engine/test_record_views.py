"""Rendered records: remembered within a bound, asked for anew at each reading, gone after an unenrollment."""

from __future__ import annotations

import orjson

from stratos.atproto import dag_cbor
from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Did, Tid
from stratos.core.access import ANONYMOUS, Viewer
from stratos.engine.record_views import OVERHEAD_BYTES, RecordViews
from stratos.storage.ports import StoredRecord
from tests.engine.builders import EDITORS, POST, REI, SAKURA, WRITERS, post

REV = Tid("3kaaaaaaaaa2a")


def stored(text: str, *, rkey: str = "3kaaaaaaaaa2b") -> StoredRecord:
    block = dag_cbor.encode(post(text, WRITERS))
    return StoredRecord(POST, rkey, Cid.of_dag_cbor(block), REV, block)


def viewer(did: Did, *boundaries: str) -> Viewer:
    return Viewer(did, frozenset(boundaries), enrolled=True)  # type: ignore[arg-type]  # texts of boundaries


def test_the_predicate_is_asked_at_each_reading_of_a_remembered_record() -> None:
    views, record = RecordViews(), stored("hello")
    assert views.view(viewer(SAKURA, WRITERS), REI, record) is not None
    assert views.view(viewer(SAKURA, EDITORS), REI, record) is None
    assert views.view(ANONYMOUS, REI, record) is None
    assert views.view(viewer(SAKURA, WRITERS), REI, record) == views.view(viewer(REI), REI, record)
    assert views.statistics()["misses_total"] == 1


def test_a_rendering_is_of_one_owner_one_path_and_one_cid() -> None:
    views = RecordViews()
    asked = [(REI, stored("a")), (REI, stored("b")), (SAKURA, stored("a")), (REI, stored("a", rkey="3kaaaaaaaaa2c"))]
    seen = {views.view(viewer(owner), owner, record) for owner, record in asked}
    assert len(seen) == 4
    assert views.statistics()["entries"] == 4


def test_the_rendering_has_uri_cid_and_value() -> None:
    record = stored("hello")
    view = RecordViews().view(viewer(REI), REI, record)
    assert view is not None
    answer = orjson.loads(view)
    assert (answer["uri"], answer["cid"]) == (f"at://{REI}/{POST}/{record.rkey}", str(record.cid))
    assert answer["value"]["text"] == "hello"


def test_the_least_recently_used_leave_when_the_bytes_are_used_up() -> None:
    first, second, third = stored("1"), stored("2"), stored("3")
    size = len(RecordViews().view(viewer(REI), REI, first) or b"") + OVERHEAD_BYTES
    views = RecordViews(max_bytes=2 * size)
    for record in (first, second, first, third, first):
        views.view(viewer(REI), REI, record)
    statistics = views.statistics()
    assert (statistics["entries"], statistics["bytes"], statistics["hits_total"]) == (2, 2 * size, 2)
    views.view(viewer(REI), REI, second)
    assert views.statistics()["misses_total"] == 4


def test_an_unenrollment_leaves_nothing_in_memory() -> None:
    views = RecordViews()
    views.view(viewer(REI), REI, stored("hello"))
    views.forget_all()
    assert (views.statistics()["entries"], views.statistics()["bytes"]) == (0, 0)
