#!/usr/bin/python3
"""Prints what `sheaf inspect --memory-bandwidth` predicts for a decode step beside what a step takes here.

    bench_step_time.py --checkpoint DIR --binary SHEAF --linear-bench BINARY [--layouts 1x1x1,1x2x2,2x1x2] [--sequences 1,8]
                       [--rounds 3] [--tokens 64]

A layout is ranks x threads of each x workers of one thread. What a second of reading brings is taken from one process that
holds everything (--workers 0) with as many threads as the ranks (the workers) have together, a step of one sequence right
before and right after; the multiply-adds a second are those of the 4-bit product of 8 rows in the same minute, the latency
of a link 3 us. So what is predicted is what the layout adds: imbalance, gathers, exchange, and more rows than one.
The step: the time by the client of --tokens sampled tokens (greedy ones of random weights soon repeat, and with them their
experts) of so many sequences at once from short random prompts, less the time of one token. Medians of --rounds.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_pairs import BinarySide, Load, play  # noqa: E402


GUESS_BYTES_PER_SECOND = 10e9  # of which the one process's step tells how far it is off


def multiply_adds(linear_bench: Path, threads: int) -> float:
    """A second, of 8 rows."""
    text = subprocess.run([linear_bench, str(threads), "0.2", "w4 q_proj"], capture_output=True, text=True, check=True).stdout
    found = re.search(r" 8 rows .*\) +([\d.]+) GMAC/s", text)
    assert found, text
    return float(found[1]) * 1e9


def predicted_ms(binary: Path, checkpoint: Path, sequences: int, *flags: str) -> float:
    asked = [binary, "inspect", checkpoint, "--json", "--shared-cores", *flags]
    told = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    return next(row["ms"] for row in told["step_times"] if row["sequences"] == sequences and row["context_tokens"] == 0)


def client_ms(server: BinarySide, prompts: list[list[int]], tokens: int, pool: concurrent.futures.Executor) -> float:
    began = time.perf_counter()
    play(server, Load(prompts, tokens, 1, temperature=1), pool)
    return (time.perf_counter() - began) * 1e3


def step_ms(server: BinarySide, prompts: list[list[int]], tokens: int, pool: concurrent.futures.Executor) -> float:
    return (client_ms(server, prompts, tokens, pool) - client_ms(server, prompts, 1, pool)) / (tokens - 1)


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--linear-bench", type=Path, required=True)
    parser.add_argument("--layouts", default="1x1x1,1x2x2,2x1x2,2x1x1")
    parser.add_argument("--sequences", default="1,8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    guess_ms = predicted_ms(arguments.binary, arguments.checkpoint, 1, "--workers", "1", "--link-latency-us", "0",
                            "--memory-bandwidth", f"{int(GUESS_BYTES_PER_SECOND)}B")
    print("| ranks x threads, workers | sequences | predicted, ms | measured, ms | predicted / measured | GB/s |")
    print("|---|---|---|---|---|---|")
    for layout in arguments.layouts.split(","):
        ranks, threads, workers = map(int, layout.split("x"))
        flags = ["--tensor-parallel-size", str(ranks), "--threads", str(threads), "--workers", str(workers),
                 "--worker-threads", "1", "--no-enable-prefix-caching"]
        of_ranks, of_workers = min(cores, ranks * threads), min(cores, workers)
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(64))
            server = stack.enter_context(BinarySide(layout, arguments.binary, arguments.checkpoint, flags))
            whole = {n: stack.enter_context(BinarySide(
                f"{n} threads", arguments.binary, arguments.checkpoint,
                ["--workers", "0", "--threads", str(n), "--no-enable-prefix-caching"])) for n in {of_ranks, of_workers}}

            def read_per_second() -> dict[int, float]:
                one = [[random.randrange(100, 2000) for _ in range(4)]]
                return {n: GUESS_BYTES_PER_SECOND * guess_ms / step_ms(side, one, 32, pool) for n, side in whole.items()}

            for sequences in map(int, arguments.sequences.split(",")):
                measured, predicted, rates = [], [], []
                for turn in range(arguments.rounds + 1):
                    prompts = [[random.randrange(100, 2000) for _ in range(4)] for _ in range(sequences)]
                    before = read_per_second()
                    took = step_ms(server, prompts, arguments.tokens, pool)
                    after = read_per_second()
                    rate = {n: (before[n] + after[n]) / 2 for n in whole}
                    macs = multiply_adds(arguments.linear_bench, of_ranks)
                    if turn == 0:
                        continue  # warms up
                    measured.append(took)
                    rates.append(rate[of_ranks] / 1e9)
                    predicted.append(predicted_ms(
                        arguments.binary, arguments.checkpoint, sequences, "--workers", str(workers),
                        "--tensor-parallel-size", str(ranks), "--link-latency-us", "3",
                        "--memory-bandwidth", f"{int(rate[of_ranks] / ranks)}B",
                        "--worker-memory-bandwidth", f"{int(rate[of_workers] / workers)}B",
                        "--multiply-adds", f"{int(macs / ranks)}B"))
                ratio = statistics.median(p / m for p, m in zip(predicted, measured))
                print(f"| {ranks} x {threads}, {workers} | {sequences} | {statistics.median(predicted):.2f} | "
                      f"{statistics.median(measured):.2f} | {ratio:.2f} | {statistics.median(rates):.1f} |", flush=True)


if __name__ == "__main__":
    main()
