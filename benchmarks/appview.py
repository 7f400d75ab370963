"""The projector from a backlog, and a timeline page among a million posts."""

from __future__ import annotations

from benchmarks.figures import Figure


async def projector() -> list[Figure]:
    return []


async def timeline() -> list[Figure]:
    return []
