#!/usr/bin/python3
"""Prints what a generated token costs the router beside the forward pass: CPU time by kind of thread, in microseconds a token.

    bench_router_cost.py [--checkpoint DIR] [--streams 64] [--tokens 256] [--runs 3] [--chat] [--stop] [--flag=--threads=1 ...]

Streams of server-sent events run at once, all from their first token to their last (ignore_eos). CPU time is read from
/proc/PID/task/*/schedstat before and after, and summed by the threads' names. The threads of the pool (sheaf-compute) compute and do
nothing else. The step thread computes, too: what it spends outside of the forward pass is sheaf_scheduling_cpu_seconds_total; a
server without that metric shows the whole step thread.

Left out: the client is another process. Prompts are a few tokens, so parsing and tokenizing hardly count.
"""
from __future__ import annotations

import argparse
import collections
import json
import re
import selectors
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sheaf_server import ROOT, SheafServer  # noqa: E402

COMPUTING = ("sheaf-compute",)
PATIENCE_SECONDS = 300.0


def cpu_seconds(pid: int) -> dict[str, float]:
    """By thread name."""
    total: dict[str, float] = collections.defaultdict(float)
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            total[name] += int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:  # it has ended
            continue
    return total


def metric(server: SheafServer, name: str) -> float | None:
    found = re.search(rf"^{name} (\S+)$", server.get("/metrics"), re.MULTILINE)
    return float(found.group(1)) if found else None


class Streams:
    """Event streams on sockets of their own, read by one thread."""

    def __init__(self, port: int, path: str, bodies: list[dict]) -> None:
        self.selector = selectors.DefaultSelector()
        self.open = 0
        self.bytes = 0
        for body in bodies:
            text = json.dumps(body).encode()
            stream = socket.create_connection(("127.0.0.1", port), timeout=60)
            stream.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                           f"Content-Length: {len(text)}\r\n\r\n".encode() + text)
            self.selector.register(stream, selectors.EVENT_READ, bytearray())
            self.open += 1

    def read_all(self) -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while self.open:
            ready = self.selector.select(timeout=1)
            if time.monotonic() > give_up:
                raise TimeoutError(f"{self.open} streams are still open")
            for key, _ in ready:
                piece = key.fileobj.recv(1 << 16)
                self.bytes += len(piece)
                tail = key.data
                if not tail and not piece.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(piece[:300])
                tail += piece
                del tail[:-64]
                if not piece or b"data: [DONE]" in tail:
                    if b"[DONE]" not in tail:
                        raise RuntimeError("a stream ended early")
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()
                    self.open -= 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints/sheaf-nano-120")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--stop", action="store_true", help="with stop strings that never come")
    parser.add_argument("--flag", action="append", default=[], help="further flag of `sheaf serve`, repeatable")
    arguments = parser.parse_args()

    def body(number: int) -> dict:
        text = f"Stream {number}: a story about"
        prompt = {"messages": [{"role": "user", "content": text}]} if arguments.chat else {"prompt": text}
        stop = {"stop": ["@@never@@"]} if arguments.stop else {}
        return {**prompt, **stop, "stream": True, "max_tokens": arguments.tokens, "temperature": 0, "ignore_eos": True}

    path = "/v1/chat/completions" if arguments.chat else "/v1/completions"
    with SheafServer(arguments.checkpoint, *arguments.flag) as server:
        pid, port = server.pid, int(server.ready["http"].rpartition(":")[2])
        Streams(port, path, [body(0)]).read_all()
        totals = []
        for run in range(arguments.runs):
            before, scheduling = cpu_seconds(pid), metric(server, "sheaf_scheduling_cpu_seconds_total")
            start = time.perf_counter()
            streams = Streams(port, path, [body(n) for n in range(arguments.streams)])
            streams.read_all()
            seconds = time.perf_counter() - start
            after = cpu_seconds(pid)
            tokens = arguments.streams * arguments.tokens
            cost = {name: 1e6 * (after[name] - before.get(name, 0)) / tokens for name in after}
            cost = {name: spent for name, spent in cost.items() if spent >= 0.005}
            if scheduling is not None:
                scheduling = metric(server, "sheaf_scheduling_cpu_seconds_total") - scheduling
                cost["step thread, scheduling"] = 1e6 * scheduling / tokens
            total = sum(spent for name, spent in cost.items()
                        if name not in COMPUTING and (scheduling is None or name != "sheaf-step"))
            totals.append(total)
            print(f"run {run + 1}: {tokens / seconds:.0f} tokens/s, {streams.bytes / tokens:.0f} bytes a token, "
                  f"{total:.1f} us a token beside the forward pass")
            for name, spent in sorted(cost.items(), key=lambda item: -item[1]):
                print(f"    {name:24} {spent:8.2f}")
        print(f"median of {arguments.runs}: {statistics.median(totals):.1f} us a token")


if __name__ == "__main__":
    main()
