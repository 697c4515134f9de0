"""Clients that put a server under load from one thread: HTTP over asyncio streams, a connection a request.

    answer = await post(server, "/v1/completions", {...}, {"x-fairness-key": "a"})
"""
from __future__ import annotations

import asyncio
import json
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sheaf_server import SheafServer


@dataclass
class Answer:
    status: int  # 0: the connection was refused or lost
    seconds: float
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def tokens(self) -> int:
        """Prompt and output."""
        return self.body["usage"]["total_tokens"] if self.status == 200 else 0


async def post(server: SheafServer, path: str, fields: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
    """One request on a connection of its own, which is closed when the task is cancelled."""
    host, port = server.ready["http"].rsplit(":", 1) if not hasattr(server, "address") else server.address
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    began = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            raw = await reader.read()
        finally:
            writer.close()
    except OSError:
        return Answer(0, time.monotonic() - began, {}, {})
    seconds = time.monotonic() - began
    top, _, content = raw.partition(b"\r\n\r\n")
    lines = top.decode().split("\r\n")
    if len(lines[0].split()) < 2:
        return Answer(0, seconds, {}, {})
    got = dict(line.lower().split(": ", 1) for line in lines[1:])
    if got.get("transfer-encoding") == "chunked":
        content = b"".join(_chunks(content))
    try:
        parsed = json.loads(content)
    except ValueError:
        parsed = {}
    return Answer(int(lines[0].split()[1]), seconds, parsed, got)


def _chunks(content: bytes) -> list[bytes]:
    chunks = []
    while content:
        size, _, rest = content.partition(b"\r\n")
        chunks.append(rest[:int(size, 16)])
        content = rest[int(size, 16) + 2:]
    return chunks


def remember_address(server: SheafServer) -> None:
    """Before many requests: the ready file is read once."""
    server.address = server.ready["http"].rsplit(":", 1)  # type: ignore[attr-defined]


def resident_mb(server: SheafServer) -> float:
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65536), hard))
