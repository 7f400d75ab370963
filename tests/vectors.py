"""Where the shared test vectors lie; a test that needs an absent one skips with a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(os.environ.get("STRATOS_TEST_VECTORS", Path(__file__).parents[2] / "shared" / "vectors"))


def _vector(kind: str, name: str) -> Path:
    path = _ROOT / kind / name
    if not path.exists():
        pytest.skip(f"test vector {kind}/{name} is not beside this checkout")
    return path


def interop(name: str) -> Path:
    """One of the protocol's public interoperability vectors."""
    return _vector("interop", name)


def reference(name: str) -> Path:
    """One of the recordings of the reference implementation."""
    return _vector("reference", name)
