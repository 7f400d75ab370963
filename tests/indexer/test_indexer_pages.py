"""What the indexer's health server says of itself. Source: indexer spec §1.14."""

from __future__ import annotations

from stratos.api.indexer_pages import IndexerPages
from stratos.indexer.appview_db import AppViewDatabase


async def test_who_is_not_ready_says_when_to_ask_again(appview_db: AppViewDatabase) -> None:
    pages = IndexerPages(appview_db, parts=dict, tasks=list, lags=dict, version="0")
    health, ready = await pages.health(), await pages.ready()
    assert (health.status_code, "Retry-After" in health.headers) == (200, False)
    assert ready.status_code == 503
    assert int(ready.headers["Retry-After"]) > 0
