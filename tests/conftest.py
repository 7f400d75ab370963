"""What every test gets: an eye on error logs and on left-over threads, Hypothesis profiles, and an own data directory."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Final

import pytest
import structlog
from hypothesis import settings as hypothesis_settings

EXPECTS_ERROR_LOG: Final = "expects_error_log"

hypothesis_settings.register_profile("ci", deadline=None, print_blob=True)
hypothesis_settings.register_profile("fast", deadline=None, print_blob=True, max_examples=20)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


class ErrorLog(logging.Handler):
    """Collects what structlog and the standard library log at error level or above."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")

    def __call__(self, logger: object, method: str, event: MutableMapping[str, object]) -> Mapping[str, object]:
        """As a structlog processor: note the event and pass it on."""
        if method in {"error", "exception", "critical", "fatal"}:
            error = event.get("exc_info")
            self.lines.append(f"{dict(event)!r} {error!r}")
        return event

    def configure_structlog(self) -> None:
        """Send everything that structlog is given through this collector, then to the captured output."""
        structlog.configure(
            processors=[self, structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer(key_order=["event"])],
            wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
            logger_factory=structlog.PrintLoggerFactory(),
            cache_logger_on_first_use=False,
        )


_ERROR_LOG: Final = ErrorLog()
_ERROR_LOG.configure_structlog()


@pytest.fixture(autouse=True)
def error_log(request: pytest.FixtureRequest) -> Iterator[ErrorLog]:
    """Fails a test that logs an error unexpectedly, and one that expects an error and logs none."""
    _ERROR_LOG.lines.clear()
    logging.getLogger().addHandler(_ERROR_LOG)
    yield _ERROR_LOG
    logging.getLogger().removeHandler(_ERROR_LOG)
    expected = request.node.get_closest_marker(EXPECTS_ERROR_LOG) is not None
    if _ERROR_LOG.lines and not expected:
        pytest.fail("logged at error level:\n" + "\n".join(_ERROR_LOG.lines), pytrace=False)
    if expected and not _ERROR_LOG.lines:
        pytest.fail(f"is marked {EXPECTS_ERROR_LOG} and logged no error", pytrace=False)


@pytest.fixture(autouse=True)
def no_left_over_threads() -> Iterator[None]:
    """Fails a test that leaves a thread behind which would keep the process from ending."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in left:
        thread.join(timeout=1.0)
    still = [thread.name for thread in left if thread.is_alive()]
    if still:
        pytest.fail(f"left threads running: {still}", pytrace=False)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty data directory that no other test knows."""
    directory = tmp_path / "data"
    directory.mkdir()
    return directory
