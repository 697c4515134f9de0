#!/usr/bin/env python3
"""What a scrape of /metrics costs a router that has many workers: time until the answer is read, CPU of the router, bytes.

    SHEAF_BINARY=build/release/sheaf tests/monitoring/scrape_cost.py [--workers 64] [--scrapes 200]

Measured idle and under --clients streams; ends with status 1 where the median of an idle router is above --limit-ms.
"""
from __future__ import annotations

import argparse
import http.client
import os
import re
import statistics
import sys
import time

from alert_matrix import CHECKPOINT, Clients
from figures import ROOT

sys.path.insert(0, str(ROOT / "tests/process"))
from pool_harness import Pool  # noqa: E402  (found through the path above)
from sheaf_server import wait_for  # noqa: E402

PATIENCE_SECONDS = 240.0


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scrape(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


def measure(address: str, pid: int, scrapes: int) -> tuple[list[float], float, str]:
    """Milliseconds of each, CPU milliseconds of the router for one, and the last text."""
    connection = http.client.HTTPConnection(address, timeout=30)
    times, text, cpu = [], scrape(connection), cpu_seconds(pid)
    for _ in range(scrapes):
        begin = time.perf_counter()
        text = scrape(connection)
        times.append(1000 * (time.perf_counter() - begin))
    return times, 1000 * (cpu_seconds(pid) - cpu) / scrapes, text


def told(name: str, measured: tuple[list[float], float, str], cpu: str) -> None:
    times, _, text = measured
    series = [line for line in text.splitlines() if line and not line.startswith("#")]
    print(f"{name}: median {statistics.median(times):.2f} ms, 99 of 100 below {sorted(times)[int(0.99 * len(times))]:.2f} ms, "
          f"most {max(times):.2f} ms; {cpu}{len(text) / 1000:.0f} kB, {len(series)} series, "
          f"{len({m[1] for line in series if (m := re.search('worker=.([0-9]+)', line))})} workers; "
          f"load of the machine {os.getloadavg()[0]:.1f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--scrapes", type=int, default=200)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--limit-ms", type=float, default=20)
    options = parser.parse_args()
    pool = Pool(CHECKPOINT, workers=options.workers, replicas=2)
    with pool:
        router = pool.routers[0]
        pool.wait_whole(PATIENCE_SECONDS)
        with Clients([router.http], options.clients, 60) as clients:
            wait_for(lambda: clients.answers > 20, PATIENCE_SECONDS, "every worker has been asked")  # before, they have no series
            told("under load", measure(router.http, router.pid, options.scrapes), "")
        wait_for(lambda: router.metric("sheaf_requests_running") == 0, 30, "the load has ended")
        idle = measure(router.http, router.pid, options.scrapes)
        told("idle", idle, f"CPU of the router {idle[1]:.2f} ms a scrape, its idle work included; ")
    return 1 if statistics.median(idle[0]) > options.limit_ms else 0


if __name__ == "__main__":
    sys.exit(main())
