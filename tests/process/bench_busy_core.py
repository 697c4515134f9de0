#!/usr/bin/python3
"""Prints what one stream loses to an unrelated process that keeps one of the server's cores busy.

    bench_busy_core.py --checkpoint DIR [--workers 0] [--rounds 6] [--tokens 60] [--busy-cores 1] [--flag=F]

A round is the same greedy stream twice, alone and beside busy loops that are pinned to so many of the cores that this
process may use; the next round begins with the other of the two. Printed for each: tokens/s, the median and the longest
gap between tokens (after the first); then the medians over the rounds of the ratios beside / alone, and of the longest gap
over the median gap of the stream alone.

A server that waits for all its threads at every step's loops falls to the speed of the thread that shares its core, or to
less where the others spin meanwhile; work that is taken by whoever is free falls to 1 - busy / (2 cores) at best.

Left out: loading, the first token's time. The client shares the cores; it sleeps between tokens.
"""
from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sheaf_server import SheafServer  # noqa: E402


@dataclass(frozen=True)
class Stream:
    tokens_per_second: float
    median_gap: float   # seconds
    longest_gap: float


def burn(core: int) -> None:
    os.sched_setaffinity(0, {core})
    while True:
        pass


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    cores = sorted(os.sched_getaffinity(0), reverse=True)[:count]
    loops = [multiprocessing.Process(target=burn, args=(core,), daemon=True) for core in cores]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.join()


def stream(server: SheafServer, prompt: list[int], tokens: int) -> Stream:
    times = [time.perf_counter() for event in server.events(
        "/v1/completions", prompt=prompt, max_tokens=tokens, temperature=0, ignore_eos=True, return_token_ids=True)
        for _ in event["choices"][0].get("token_ids") or []]
    if len(times) != tokens:
        raise RuntimeError(f"wanted {tokens} tokens, got {len(times)}")
    gaps = [after - before for before, after in zip(times, times[1:])]
    return Stream(len(gaps) / (times[-1] - times[0]), statistics.median(gaps), max(gaps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--busy-cores", type=int, default=1)
    parser.add_argument("--flag", action="append", default=[], help="of sheaf serve")
    options = parser.parse_args()
    if options.tokens < 3 or options.rounds < 1:
        parser.error("wanted 3 tokens or more and a round or more")

    rng = random.Random(1)
    pairs: list[tuple[Stream, Stream]] = []
    with SheafServer(options.checkpoint, "--workers", str(options.workers), *options.flag) as server:
        stream(server, [1, 2, 3], 8)  # warm
        for number in range(options.rounds):
            prompt = [rng.randrange(500) for _ in range(8)]

            def alone() -> Stream:
                return stream(server, prompt, options.tokens)

            def beside() -> Stream:
                with busy_loops(options.busy_cores):
                    return stream(server, prompt, options.tokens)

            pair = (alone(), beside()) if number % 2 == 0 else (beside(), alone())[::-1]
            pairs.append(pair)
            for name, each in zip(("alone ", "beside"), pair):
                print(f"{name} {each.tokens_per_second:8.2f} tokens/s, gaps {1e3 * each.median_gap:7.1f} ms, "
                      f"longest {1e3 * each.longest_gap:7.1f} ms", flush=True)

    def median(values: list[float]) -> float:
        return statistics.median(values)

    print(f"beside / alone: throughput {median([b.tokens_per_second / a.tokens_per_second for a, b in pairs]):.2f}, "
          f"median gap {median([b.median_gap / a.median_gap for a, b in pairs]):.2f}; longest gap over the median gap alone: "
          f"{median([b.longest_gap / a.median_gap for a, b in pairs]):.2f} beside, "
          f"{median([a.longest_gap / a.median_gap for a, b in pairs]):.2f} alone")


if __name__ == "__main__":
    main()
