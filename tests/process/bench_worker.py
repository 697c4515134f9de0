#!/usr/bin/python3
"""Prints what a worker costs: memory beside its slice's bytes, and the time until it is ready, from page cache.

    bench_worker.py --checkpoint DIR [--workers N] [--runs 3]

Starts a server, kills one worker a run and measures its replacement: from the kill until the new process serves, the
restart back-off of 100 ms included. Memory is proportional set size (private + its share of shared pages).
"""
from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sheaf_server import BINARY, SheafServer, wait_for  # noqa: E402


def pss_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE).group(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    report = json.loads(subprocess.run([BINARY, "inspect", str(arguments.checkpoint), "--json", "--workers",
                                        str(arguments.workers)], capture_output=True, text=True, check=True).stdout)
    slices = {p["process"]: p["bytes"] for p in report["processes"]}
    with SheafServer(arguments.checkpoint, "--workers", str(arguments.workers)) as server:
        seconds = []
        for _ in range(arguments.runs):
            old = server.worker_pids()
            start = time.monotonic()
            os.kill(old[1 % len(old)], signal.SIGKILL)
            wait_for(lambda: server.worker_pids() != old and server.healthy(), 120, "worker replaced")
            seconds.append(time.monotonic() - start)
        for worker in server.ready["workers"]:
            pss, size = pss_bytes(worker["pid"]), slices[f"worker {worker['id']}"]
            print(f"worker {worker['id']}: slice {size / 1e6:.1f} MB, memory {pss / 1e6:.1f} MB"
                  f" = slice x 1.02 {pss - 1.02 * size:+.3g} B (allowed + {64 << 20} B)")
        print(f"kill to serving again: median {statistics.median(seconds):.2f} s of {len(seconds)}"
              f" (each {', '.join(f'{s:.2f}' for s in seconds)})")


if __name__ == "__main__":
    main()
