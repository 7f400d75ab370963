"""A real browser, headless, driven over its DevTools protocol. Skips with the reason where none is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import pytest
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_SECONDS: Final = 30.0
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024

# Resolves as soon as the page has what is looked for; asked again after each navigation, which ends it.
_APPEARS: Final = """new Promise((found) => {
  const look = () => { const element = (%s); if (element) { watch.disconnect(); found(true) } }
  const watch = new MutationObserver(look)
  watch.observe(document, { subtree: true, childList: true, attributes: true })
  look()
})"""


class Tab:
    """One page of the browser."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self._last = 0

    async def goto(self, url: str) -> None:
        """Type an address."""
        await self._command("Page.navigate", {"url": url})

    async def appears(self, expression: str) -> None:
        """Wait until a JavaScript expression gives an element, on whichever page; fails the test where it never does."""
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                answer = await self._command("Runtime.evaluate", _evaluation(_APPEARS % expression))
                result = answer.get("result")
                if isinstance(result, dict) and "exceptionDetails" not in result:
                    return
                await trio.sleep(0.05)  # the page went away while it was asked, and the next one is not there yet

    async def write(self, expression: str, text: str) -> None:
        """Type into the element that an expression gives."""
        await self.value(f"({expression}).focus()")
        await self._command("Input.insertText", {"text": text})

    async def click(self, expression: str) -> None:
        """Wait for an element and click it."""
        await self.appears(expression)
        await self.value(f"({expression}).click()")

    async def value(self, expression: str) -> object:
        """What a JavaScript expression, or the promise that it gives, comes to."""
        answer = await self._command("Runtime.evaluate", _evaluation(expression))
        result = answer["result"]
        assert isinstance(result, dict), answer
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def _command(self, method: str, parameters: Mapping[str, object]) -> Mapping[str, object]:
        self._last += 1
        await self._socket.send_message(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            message: Mapping[str, object] = json.loads(await self._socket.get_message())
            if message.get("id") == self._last:
                return message


@asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Tab]:
    """A browser with an empty profile in a folder, for the block; skips where the machine has none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    command = [
        program,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        "about:blank",
    ]
    start = partial(trio.run_process, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(start)
        try:
            with trio.fail_after(PATIENCE_SECONDS):
                url = await _page(folder)
            async with open_websocket_url(url, max_message_size=MAX_MESSAGE_BYTES) as socket:
                yield Tab(socket)
        finally:
            process.terminate()


async def _page(folder: Path) -> str:
    """The address at which the browser's page is driven, once the browser has written down its port."""
    said = folder / "DevToolsActivePort"
    while not said.exists() or len(said.read_text().split()) < 2:  # noqa: ASYNC110 - there is no event to await in a file
        await trio.sleep(0.05)
    port = said.read_text().split()[0]
    return f"ws://127.0.0.1:{port}/devtools/page/" + await _target(port)


async def _target(port: str) -> str:
    """The id of the first page."""
    async with httpx.AsyncClient(verify=False) as client:  # noqa: S501 - plain HTTP on loopback
        while True:
            listed = (await client.get(f"http://127.0.0.1:{port}/json/list")).json()
            page = next((target for target in listed if target["type"] == "page"), None)
            if page is not None:
                return str(page["id"])
            await trio.sleep(0.05)  # as above


def _evaluation(expression: str) -> Mapping[str, object]:
    return {"expression": expression, "awaitPromise": True, "returnByValue": True}
