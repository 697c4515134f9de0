#!/usr/bin/python3
"""Shares of served tokens of two fairness keys, one with ten times the requests; and what a light key waits beside it.

    bench_fairness.py [--checkpoint checkpoints/sheaf-nano-120] [--seconds 30] [--slots 8]

Prints Jain's index of the tokens (prompt and output) that each key was answered while both always had more waiting than
fits; then the latency of one request at a time, on the quiet server and beside the crowd.

Left out: answers under way at either end of the window; the client's own time is in the latencies.
"""
from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from load_clients import allow_many_connections, percentile, post, remember_address  # noqa: E402
from sheaf_server import ROOT, SheafServer  # noqa: E402


def fields(rng: random.Random) -> dict:
    return {"prompt": [rng.randrange(1000) for _ in range(rng.randint(8, 64))], "max_tokens": rng.randint(16, 64),
            "ignore_eos": True, "temperature": 0}


async def crowd(server: SheafServer, key: str, clients: int, rng: random.Random, served: dict[str, list]) -> None:
    """So many clients that ask again at once, for ever."""
    async def client() -> None:
        while True:
            answer = await post(server, "/v1/completions", fields(rng), {"x-fairness-key": key})
            assert answer.status == 200, answer
            served[key].append((time.monotonic(), answer.tokens))
    await asyncio.gather(*(client() for _ in range(clients)))


async def one_by_one(server: SheafServer, count: int, rng: random.Random) -> list[float]:
    return [(await post(server, "/v1/completions", {**fields(rng), "max_tokens": 16}, {"x-fairness-key": "light"})).seconds
            for _ in range(count)]


async def measure(server: SheafServer, slots: int, seconds: float, seed: int) -> None:
    rng = random.Random(seed)
    quiet = await one_by_one(server, 10, rng)
    served: dict[str, list] = {"many": [], "few": []}
    tasks = [asyncio.create_task(crowd(server, "many", 20 * slots, rng, served)),
             asyncio.create_task(crowd(server, "few", 2 * slots, rng, served))]
    await asyncio.sleep(seconds / 5)  # the queue is full and answers come
    begin = time.monotonic()
    await asyncio.sleep(seconds)
    end = time.monotonic()
    beside = await one_by_one(server, 10, rng)
    for task in tasks:
        assert not task.done(), task.exception()
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tokens = {key: sum(count for when, count in events if begin <= when < end) for key, events in served.items()}
    jain = sum(tokens.values()) ** 2 / (2 * sum(count ** 2 for count in tokens.values()))
    print(f"served tokens in {end - begin:.0f} s: {tokens}, Jain {jain:.4f}")
    print(f"one at a time: quiet median {percentile(quiet, 0.5) * 1e3:.0f} ms, beside the crowd median "
          f"{percentile(beside, 0.5) * 1e3:.0f} ms, longest {max(beside) * 1e3:.0f} ms")
    print(f"displaced {server.metric('sheaf_displacements_total'):.0f}, "
          f"preempted {server.metric('sheaf_preemptions_total'):.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints/sheaf-nano-120")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--flag", action="append", default=[], help="further flag of `sheaf serve`, repeatable")
    arguments = parser.parse_args()
    allow_many_connections()
    with SheafServer(arguments.checkpoint, "--workers", "0", "--max-num-seqs", str(arguments.slots),
                     *arguments.flag) as server:
        remember_address(server)
        asyncio.run(measure(server, arguments.slots, arguments.seconds, arguments.seed))


if __name__ == "__main__":
    main()
