"""A page in Debian's headless Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

CHROMIUM = shutil.which("chromium")
PATIENCE = 120


class Page:
    """One tab: `events` are all protocol events so far; `call` sends a command and waits for its answer."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket, self._number = socket, 0
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        await self._socket.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = await self._next()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    async def wait_for(self, event: str) -> None:
        while not any(seen["method"] == event for seen in self.events):
            await self._next()

    async def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file from scratch in a window of this size; its console, requests and errors are in `events`."""
        self.events.clear()
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=path.resolve().as_uri())
        await self.wait_for("Page.loadEventFired")

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def press(self, key: str) -> None:
        code = {"Tab": 9, "Enter": 13, "ArrowLeft": 37}[key]
        for kind in ("rawKeyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    async def screenshot(self, path: Path, height: int | None = None) -> None:
        """The window, or from the page's top down to `height`, as PNG."""
        clip = None
        if height is not None:
            width = await self.run("innerWidth")
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        parameters = {"format": "png", "captureBeyondViewport": height is not None} | ({"clip": clip} if clip else {})
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot", **parameters))["data"]))

    async def _next(self) -> dict[str, Any]:
        text = await asyncio.wait_for(self._socket.read_message(), PATIENCE)
        assert text is not None, "Chromium has gone"
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message


@asynccontextmanager
async def chromium(profile: Path) -> AsyncIterator[Page]:
    """A fresh Chromium with one tab, its profile in an empty folder; it ends with the block."""
    assert CHROMIUM is not None
    process = subprocess.Popen(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--hide-scrollbars", "--disable-background-networking", "--remote-debugging-port=0",
            f"--user-data-dir={profile}", "about:blank",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        announced = profile / "DevToolsActivePort"
        for _ in range(10 * PATIENCE):
            if announced.exists() and len(announced.read_text().split()) == 2:
                break
            await asyncio.sleep(0.1)
        port = announced.read_text().split()[0]
        answer = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/json/list", request_timeout=PATIENCE)
        tab = next(tab for tab in json.loads(answer.body) if tab["type"] == "page")
        socket = await websocket_connect(tab["webSocketDebuggerUrl"], max_message_size=2**28)
        yield Page(socket)
        socket.close()
    finally:
        process.terminate()
        process.wait(PATIENCE)
