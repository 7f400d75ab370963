"""Backlinks (spec service.md §5.6)."""

from __future__ import annotations

import pytest

from stratos.core.backlinks import backlinks
from tests.core.builders import ALICE, POST

URI = f"at://{ALICE}/{POST}/3lgoldenzzzz2"


@pytest.mark.parametrize("subject", [ALICE, URI, f"at://{ALICE}", "at://alice.example.com/app.bsky.feed.post/x"])
def test_subject_that_is_a_did_or_at_uri_is_a_backlink(subject: str) -> None:
    assert backlinks({"subject": subject}) == [("subject", subject)]


def test_uri_of_a_subject_is_a_backlink() -> None:
    assert backlinks({"subject": {"uri": URI, "cid": "x"}}) == [("subject.uri", URI)]


@pytest.mark.parametrize(
    "subject",
    [None, 7, "", "alice.example.com", "https://example.com", [URI], {}, {"uri": None}, {"uri": ALICE}, {"uri": {"uri": URI}}],
)
def test_other_subjects_are_not(subject: object) -> None:
    assert backlinks({"subject": subject}) == []


def test_nothing_but_the_subject_is_looked_at() -> None:
    assert backlinks({"uri": URI, "reply": {"parent": {"uri": URI}}, "embed": {"subject": URI}}) == []
