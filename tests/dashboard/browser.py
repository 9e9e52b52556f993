"""A real browser, driven through a pipe by the protocol that its own developer tools speak."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.servers import chromium
from tests.servers.spawning import ServerError, dying_with_us

_PATIENCE = 60.0
# The protocol is spoken on these two; a shell can give a program any descriptor under any number.
_REDIRECTED = 'from=$1 to=$2; shift 2; exec "$@" 3<&"$from" 4>&"$to"'
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-pipe",
)


def _program() -> Path:
    found = chromium.find()
    if found is None:
        raise ServerError(chromium.REMEDY)
    return found


class Browser:
    """One process, without a window."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="mcp-persist-sa-browser-", ignore_cleanup_errors=True)
        self._numbers = 0
        self._buffer = b""
        self._lock = threading.Lock()
        self.told: list[dict[str, Any]] = []
        self._start()

    def _start(self) -> None:
        command = [_program(), *_FLAGS, f"--user-data-dir={self._home.name}/profile", "about:blank"]
        its_input, self._input = os.pipe()
        self._output, its_output = os.pipe()
        shell = ["/bin/bash", "-c", _REDIRECTED, "bash", str(its_input), str(its_output)]
        with Path(self._home.name, "log").open("wb") as log:
            self._process = subprocess.Popen(
                dying_with_us([*shell, *command], signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(its_input, its_output),
                env={**os.environ, "HOME": self._home.name},
            )
        os.close(its_input)
        os.close(its_output)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(_PATIENCE)
        os.close(self._input)
        os.close(self._output)
        self._home.cleanup()

    def call(self, method: str, tab: str | None = None, **params: Any) -> dict[str, Any]:
        """Have it do something."""
        with self._lock:
            self._numbers += 1
            asked: dict[str, Any] = {"id": self._numbers, "method": method, "params": params}
            _write(self._input, json.dumps({**asked, **({"sessionId": tab} if tab else {})}).encode() + b"\0")
            answer = self._answer(self._numbers)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def _answer(self, number: int) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE
        while True:
            message = self._message(deadline)
            if message.get("id") == number:
                return message
            self.told.append(message)

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._output], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"The browser does not answer. {self._log()}")
            part = os.read(self._output, 1 << 20)
            if not part:
                raise AssertionError(f"The browser has ended. {self._log()}")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _log(self) -> str:
        return Path(self._home.name, "log").read_text(errors="replace")[-3000:]

    def open(self) -> Tab:
        """A new tab, which shares nothing with others."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        tab = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable", tab)
        return Tab(self, tab, context)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


class Tab:
    """A page of the browser."""

    def __init__(self, browser: Browser, tab: str, context: str) -> None:
        self._browser = browser
        self._tab = tab
        self._context = context

    async def _call(self, method: str, **params: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self._browser.call, method, self._tab, **params)

    async def go(self, url: str) -> None:
        await self._call("Page.navigate", url=url)

    async def look(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Set the size of the window, and the scheme of colours."""
        await self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._call("Emulation.setEmulatedMedia", features=[scheme])

    async def value(self, expression: str) -> Any:
        """The value of an expression, waited for if it is a promise."""
        done = await self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until an expression is true; before all is there that it names, it is not."""
        look = f"() => {{ try {{ return {condition} }} catch {{ return false }} }}"
        waiting = f"new Promise(r => {{ const again = () => ({look})() ? r(true) : setTimeout(again, 20); again(); }})"
        bounded = f"Promise.race([{waiting}, new Promise(r => setTimeout(() => r(false), 2000))])"
        deadline = time.monotonic() + _PATIENCE
        while not await self._holds(bounded):
            if time.monotonic() > deadline:
                shown = await self.value("document.body.innerText")
                raise AssertionError(f"Never true: {condition}\n{self.complaints()}\n{shown}")

    async def _holds(self, promise: str) -> bool:
        """Whether a promise comes true; that of a page which is just being left does not."""
        try:
            return bool(await self.value(promise))
        except AssertionError as error:
            if "navigated" in str(error) or "context" in str(error):
                return False
            raise

    async def press(self, key: str) -> None:
        """Press a key, as a person does."""
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        code = {"Tab": 9, "Enter": 13}.get(key, ord(key[0].upper()))
        for kind in ("keyDown", "keyUp"):
            await self._call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    async def picture(self, path: Path) -> None:
        """Write what is seen to a file."""
        shot = await self._call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """What the browser has complained of: errors of scripts, and what the page was not allowed to do."""
        mine = [message for message in self._browser.told if message.get("sessionId") == self._tab]
        bad = [
            message["params"]
            for message in mine
            if message["method"] == "Runtime.exceptionThrown"
            or (message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error")
            or (message["method"] == "Runtime.consoleAPICalled" and message["params"]["type"] == "error")
        ]
        return [json.dumps(each)[:600] for each in bad]

    def close(self) -> None:
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)
