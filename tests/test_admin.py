"""`stratos admin` prints what others say, and only prints it."""

from __future__ import annotations

import httpx
import pytest
from typer.testing import CliRunner

from stratos.admin import admin

HOSTILE = "400 InvalidRecord: \x1b]0;owned\x07[bold]not bold[/] [/nothing] \x9b2J\r"


def test_what_a_pds_says_is_shown_as_it_stands_and_cannot_speak_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    account = {
        "did": "did:plc:rei",
        "pds": "https://pds.test",
        "items": 1,
        "since": "2026-05-28T12:00:00.000Z",
        "lastError": HOSTILE,
        "blocked": [{"path": "zone.stratos.feed.post/x", "reason": HOSTILE}],
    }

    def answer(*_: object, **__: object) -> httpx.Response:
        return httpx.Response(200, json={"pending": 1, "accounts": [account]})

    monkeypatch.setattr(httpx, "request", answer)
    done = CliRunner().invoke(admin, ["--password", "x", "publisher"], env={"COLUMNS": "250"})
    assert done.exit_code == 0, done.output
    assert done.output.count("[bold]not bold[/] [/nothing]") == 2
    assert not set(done.output) & {"\x1b", "\x07", "\x9b", "\r"}


def test_a_narrow_terminal_cuts_nothing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    did = "did:web:somebody-with-a-rather-long-name.example.com"
    enrollment = {"did": did, "boundaries": [f"{did}/writers"], "active": True, "enrolledAt": "2026-05-28T12:00:00.000Z"}
    monkeypatch.setattr(httpx, "request", lambda *_, **__: httpx.Response(200, json={"enrollments": [enrollment]}))
    done = CliRunner().invoke(admin, ["--password", "x", "list"], env={"COLUMNS": "60"})
    assert done.exit_code == 0, done.output
    assert "…" not in done.output
    first_column = "".join(line.split("│")[1].strip() for line in done.output.splitlines() if line.startswith("│"))
    assert first_column == did
