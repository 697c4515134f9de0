#!/usr/bin/python3
"""Prints what `sheaf inspect --memory-bandwidth` predicts for a decode step beside what a step takes here.

    bench_step_time.py --checkpoint DIR --binary SHEAF --linear-bench BINARY [--layouts 1x1x1,1x2x2,2x1x2] [--sequences 1,8]
                       [--rounds 3] [--tokens 64]

A layout is ranks x threads of each x workers of one thread. What is given to the prediction is measured in the same
minute: what the 4-bit product of one row reads a second with as many threads as the ranks (the workers) have together, and
the multiply-adds a second of 8 rows; the latency of a link is taken as 3 us. The step: --tokens greedy tokens of so many
sequences at once from short random prompts, time by the client, prefill included. Medians of --rounds.

Left out by the prediction: norms, attention over the short contexts, sampling, HTTP.
"""
from __future__ import annotations

import argparse
import concurrent.futures
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


def product(linear_bench: Path, threads: int) -> tuple[float, float]:
    """(bytes/s of one row, multiply-adds/s of 8 rows)."""
    text = subprocess.run([linear_bench, str(threads), "0.2", "w4 q_proj"], capture_output=True, text=True, check=True).stdout
    one = re.search(r" 1 rows .*? ([\d.]+) GB/s", text)
    eight = re.search(r" 8 rows .*\) +([\d.]+) GMAC/s", text)
    assert one and eight, text
    return float(one[1]) * 1e9, float(eight[1]) * 1e9


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
    print("| ranks x threads, workers | sequences | predicted, ms | measured, ms | predicted / measured |")
    print("|---|---|---|---|---|")
    for layout in arguments.layouts.split(","):
        ranks, threads, workers = map(int, layout.split("x"))
        flags = ["--tensor-parallel-size", str(ranks), "--threads", str(threads), "--workers", str(workers),
                 "--worker-threads", "1", "--no-enable-prefix-caching"]
        with BinarySide(layout, arguments.binary, arguments.checkpoint, flags) as server, \
                concurrent.futures.ThreadPoolExecutor(64) as pool:
            for sequences in map(int, arguments.sequences.split(",")):
                prompts = [[random.randrange(100, 2000) for _ in range(4)] for _ in range(sequences)]
                measured, predicted = [], []
                for turn in range(arguments.rounds + 1):
                    of_ranks, of_workers = min(cores, ranks * threads), min(cores, workers)
                    figures = {n: product(arguments.linear_bench, n) for n in {of_ranks, of_workers}}
                    began = time.perf_counter()
                    play(server, Load(prompts, arguments.tokens, 1), pool)
                    step_ms = (time.perf_counter() - began) * 1e3 / arguments.tokens
                    asked = [arguments.binary, "inspect", arguments.checkpoint, "--json", "--workers", str(workers),
                             "--tensor-parallel-size", str(ranks), "--shared-cores", "--link-latency-us", "3",
                             "--memory-bandwidth", f"{int(figures[of_ranks][0] / ranks)}B",
                             "--worker-memory-bandwidth", f"{int(figures[of_workers][0] / workers)}B",
                             "--multiply-adds", f"{int(figures[of_ranks][1] / ranks)}B"]
                    told = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
                    if turn > 0:  # the first one warms up
                        measured.append(step_ms)
                        predicted.append(next(row["ms"] for row in told["step_times"]
                                              if row["sequences"] == sequences and row["context_tokens"] == 0))
                ratio = statistics.median(p / m for p, m in zip(predicted, measured))
                print(f"| {ranks} x {threads}, {workers} | {sequences} | {statistics.median(predicted):.2f} | "
                      f"{statistics.median(measured):.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
