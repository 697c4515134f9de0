#!/usr/bin/python3
"""Prints what TLS costs a server that streams: tokens/s and processor time a token with it over those without.

    bench_tls.py [--checkpoint DIR] [--face grpc|http] [--streams 64] [--answer-tokens 64] [--pairs 8] [--workers 2]

Two servers of one binary, one with TLS on the clients' and the cluster's listener; both are up all the time, one is asked at a
time, and each pair begins with the other one. A turn: so many streams at once from random prompts of 8 ids, each token a message
of its own. Processor time: the servers' processes alone. Left out: the first turn of each server, in which connections are made;
the clients' own cost is inside the time (they decrypt on the same cores), which the column of processor time does without.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from certificates import Authority  # noqa: E402
from pool_faults import cpu_seconds  # noqa: E402
from sheaf_grpc import Client, collect, tokens_request  # noqa: E402
from sheaf_server import ROOT, SheafServer  # noqa: E402
from tls_harness import TlsServer  # noqa: E402


class Asked:
    """A server and its clients' connections, which last."""

    def __init__(self, server: SheafServer, face: str, streams: int) -> None:
        self.server, self.face = server, face
        self.tls = isinstance(server, TlsServer)
        if face == "grpc":
            self.clients: list[Any] = [Client(server.grpc, server.credentials() if self.tls else None)] * streams
        else:
            host, port = server.ready["http"].rsplit(":", 1)
            self.clients = [http.client.HTTPSConnection(host, int(port), timeout=600, context=server.context())
                            if self.tls else http.client.HTTPConnection(host, int(port), timeout=600) for _ in range(streams)]

    def one(self, client: Any, prompt: list[int], tokens: int) -> int:
        if self.face == "grpc":
            return len(collect(client.generate(tokens_request(prompt, tokens)))[0])
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True,
                "stream_options": {"include_usage": True}}
        client.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        counted = 0
        for line in client.getresponse():
            if b'"usage":{' in line:
                counted = json.loads(line[6:])["usage"]["completion_tokens"]
        return counted

    def cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in [self.server.ready["router_pid"], *(w["pid"] for w in self.server.ready["workers"])])

    def turn(self, pool: concurrent.futures.Executor, seed: int, tokens: int) -> tuple[float, float]:
        """Tokens a second, and microseconds of the servers' processors a token."""
        rng = random.Random(seed)
        prompts = [[rng.randrange(1000, 3000) for _ in range(8)] for _ in self.clients]
        begin, before = time.monotonic(), self.cpu()
        total = sum(pool.map(lambda client, prompt: self.one(client, prompt, tokens), self.clients, prompts))
        return total / (time.monotonic() - begin), (self.cpu() - before) / total * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints/sheaf-nano-120")
    parser.add_argument("--face", choices=["grpc", "http"], default="grpc")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--answer-tokens", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    flags = ["--workers", str(options.workers)]
    with tempfile.TemporaryDirectory() as folder, SheafServer(options.checkpoint, *flags) as plain, \
            TlsServer(options.checkpoint, Authority(Path(folder)), *flags) as secure, \
            concurrent.futures.ThreadPoolExecutor(options.streams) as pool:
        sides = [Asked(plain, options.face, options.streams), Asked(secure, options.face, options.streams)]
        rates: list[tuple[float, float]] = []
        costs: list[tuple[float, float]] = []
        for pair in range(-1, options.pairs):
            figures = {}
            for side in sides if pair % 2 == 0 else sides[::-1]:
                figures[side.tls] = side.turn(pool, pair, options.answer_tokens)
            if pair >= 0:
                rates.append((figures[False][0], figures[True][0]))
                costs.append((figures[False][1], figures[True][1]))
    for name, values in (("tokens/s", rates), ("processor us a token", costs)):
        ratios = [secure / plain for plain, secure in values]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        print(f"{options.face}, {options.streams} streams, {name}: without {statistics.median(p for p, _ in values):.1f}, with TLS "
              f"{statistics.median(s for _, s in values):.1f}, ratio {middle:.3f} ({low:.3f}-{high:.3f}), {len(ratios)} pairs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
