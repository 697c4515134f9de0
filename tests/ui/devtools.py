"""A headless Chromium, driven by the DevTools protocol over a pair of pipes: no driver, no package.

    with Browser(find_chromium()) as browser:
        page = browser.page(width=1200, height=800)
        page.open("http://127.0.0.1:8000/")
        page.until("document.title !== ''", 10, "a title")

Every wait has a deadline. What the page logged and asked for is kept in page.problems and page.requests.
"""
from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 30.0
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
_PLACES = ("/usr/lib/chromium/chromium-headless-shell", "/usr/lib/chromium/headless_shell")


def find_chromium() -> str | None:
    """$CHROMIUM, or one of the usual names in the path; None: there is none."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    found = next((path for path in map(shutil.which, _NAMES) if path), None)
    return found or next((place for place in _PLACES if os.access(place, os.X_OK)), None)


class DevToolsError(Exception):
    pass


class Browser:
    def __init__(self, executable: str) -> None:
        self._executable = executable
        self._next_id = 0
        self._pages: dict[str, Page] = {}
        self._read = b""

    def __enter__(self) -> Browser:
        self._folder = tempfile.TemporaryDirectory(prefix="sheaf-chromium-")
        commands_out, self._commands = os.pipe()
        self._events, events_in = os.pipe()
        flags = ["--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
                 f"--user-data-dir={self._folder.name}", "about:blank"]
        if os.geteuid() == 0:
            flags.insert(0, "--no-sandbox")  # which it does not build for root
        # It reads commands from descriptor 3 and writes to 4.
        script = f'exec "$0" "$@" 3<&{commands_out} 4>&{events_in}'
        with open(Path(self._folder.name) / "log", "wb") as log:
            self._process = subprocess.Popen(["/bin/bash", "-c", script, self._executable, *flags], stdout=log, stderr=log,
                                             pass_fds=(commands_out, events_in))
        os.close(commands_out)
        os.close(events_in)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close", seconds=5)
        except (DevToolsError, TimeoutError, OSError):
            pass
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        os.close(self._events)
        self._folder.cleanup()

    def page(self, width: int = 1200, height: int = 800, dark: bool = False, phone: bool = False, still: bool = False) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        self._pages[session] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone)
        page.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}])
        return page

    def call(self, method: str, session: str | None = None, seconds: float = PATIENCE_SECONDS, **parameters: Any) -> dict[str, Any]:
        self._next_id += 1
        message: dict[str, Any] = {"id": self._next_id, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        bytes_left = json.dumps(message).encode() + b"\0"
        while bytes_left:
            bytes_left = bytes_left[os.write(self._commands, bytes_left):]
        deadline = time.monotonic() + seconds
        while True:
            answer = self._receive(deadline, method)
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise DevToolsError(f"{method}: {answer['error']}")
                return answer["result"]

    def _receive(self, deadline: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._read:
            if not select.select([self._events], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"the browser does not answer: {what}")
            chunk = os.read(self._events, 1 << 20)
            if not chunk:
                log = (Path(self._folder.name) / "log").read_text(errors="replace")
                raise DevToolsError(f"the browser ended: {log[-2000:]}")
            self._read += chunk
        text, self._read = self._read.split(b"\0", 1)
        message = json.loads(text)
        page = self._pages.get(message.get("sessionId", ""))
        if page and "method" in message:
            page.hear(message["method"], message["params"])
        return message


class Page:
    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target
        self.problems: list[str] = []  # errors and warnings that the browser or the page wrote
        self.requests: list[str] = []  # addresses, in order

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def hear(self, method: str, event: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(event["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(event["args"])[:500])
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'", PATIENCE_SECONDS, url)

    def eval(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise DevToolsError(f"{expression}: {result['exceptionDetails'].get('exception', result['exceptionDetails'])}")
        return result["result"].get("value")

    def until(self, condition: str, seconds: float, what: str) -> None:
        """Returns once the condition is true, which the browser looks at every few milliseconds."""
        script = ("new Promise(done => { const end = Date.now() + %d; const look = () => { const value = Boolean(%s); "
                  "if (value || Date.now() > end) done(value); else setTimeout(look, 20); }; look(); })")
        deadline = time.monotonic() + seconds
        while True:
            # In pieces, because a page that is being loaded forgets what was asked of it.
            try:
                value = self.eval(script % (1000 * min(5.0, max(0.05, deadline - time.monotonic())), condition))
            except DevToolsError:
                value = None
            if value:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds} s: {what}")

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def press(self, key: str, shift: bool = False) -> None:
        code = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowRight": 39, "ArrowDown": 40, "ArrowLeft": 37, "ArrowUp": 38, " ": 32}[key]
        fields: dict[str, Any] = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        text = {"Enter": "\r", " ": " "}.get(key)
        self.call("Input.dispatchKeyEvent", type="keyDown", **fields, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
