"""A real `sheaf serve` process for a test: started on free ports, spoken to over HTTP and gRPC, always stopped.

    with SheafServer(checkpoint, "--workers", "2") as server:
        server.completion(prompt=[1, 2, 3], max_tokens=4)

The binary is $SHEAF_BINARY. Every wait has a deadline; the server's log is shown when a wait fails.
"""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("SHEAF_BINARY", str(ROOT / "build/release/sheaf"))
READY_SECONDS = 120.0


class HttpError(Exception):
    def __init__(self, status: int, body: Any, headers: dict[str, str]) -> None:
        super().__init__(f"HTTP {status}: {body}")
        self.status, self.body, self.headers = status, body, headers


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Polls until the condition is true; its value. Fails naming `what` at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


class SheafServer:
    def __init__(self, checkpoint: Path | str, *flags: str) -> None:
        self.checkpoint = str(checkpoint)
        self.flags = list(flags)
        self.prefix: list[str] = []  # words before the binary, e.g. ["prlimit", "--nofile=64:64"]
        self._dir = tempfile.TemporaryDirectory(prefix="sheaf-test-")
        self.ready_path = Path(self._dir.name) / "ready.json"
        self.log_path = Path(self._dir.name) / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.patience_seconds = 120.0  # of a request

    def command(self) -> list[str]:
        free = [word for flag in ("--port", "--grpc-port", "--cluster-port") if flag not in self.flags
                for word in (flag, "0")]
        return [*self.prefix, BINARY, "serve", self.checkpoint, *free, "--ready-file", str(self.ready_path), *self.flags]

    def __enter__(self) -> SheafServer:
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        try:
            wait_for(lambda: self.ready_path.exists() or self.process.poll() is not None, READY_SECONDS, "ready file")
            if self.process.poll() is not None:
                raise RuntimeError(f"sheaf ended with status {self.process.returncode}")
        except Exception:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                kind = kind or TimeoutError
        if kind is not None:
            sys.stderr.write(f"--- log of {self.checkpoint} {self.flags}\n{self.log()}\n---\n")
        self._dir.cleanup()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def ready(self) -> dict[str, Any]:
        return json.loads(self.ready_path.read_text())

    @property
    def http(self) -> str:
        return "http://" + self.ready["http"]

    @property
    def grpc(self) -> str:
        return self.ready["grpc"]

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def worker_pids(self) -> list[int]:
        return [worker["pid"] for worker in self.ready["workers"]]

    def request(self, method: str, path: str, body: Any = None, timeout: float | None = None) -> Any:
        """Parsed JSON (or text) of the answer; HttpError for a status that is not 2xx."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.http + path, data=data, method=method,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout or self.patience_seconds) as response:
                text = response.read().decode()
                is_json = "json" in response.headers.get("Content-Type", "")
                return json.loads(text) if is_json else text
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                parsed = json.loads(text)
            except ValueError:
                parsed = text
            raise HttpError(error.code, parsed, dict(error.headers)) from None

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def healthy(self) -> bool:
        try:
            self.request("GET", "/health", timeout=5)
            return True
        except (HttpError, OSError):
            return False

    def completion(self, **fields: Any) -> dict[str, Any]:
        return self.request("POST", "/v1/completions", fields)

    def chat(self, **fields: Any) -> dict[str, Any]:
        return self.request("POST", "/v1/chat/completions", fields)

    def events(self, path: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """The JSON of each server-sent event up to [DONE]."""
        request = urllib.request.Request(self.http + path, data=json.dumps({**fields, "stream": True}).encode(),
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as response:
            for line in response:
                if not line.startswith(b"data: "):
                    continue
                payload = line[6:].strip()
                if payload == b"[DONE]":
                    return
                yield json.loads(payload)
        raise AssertionError("the stream ended without [DONE]")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry all these labels; 0 when there is none."""
        total = 0.0
        for line in self.get("/metrics").splitlines():
            head, _, value = line.rpartition(" ")
            if head.split("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
                total += float(value)
        return total


def run_to_end(*arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """`sheaf ARGUMENTS`, to its end."""
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=timeout, check=False)
