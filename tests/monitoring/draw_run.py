#!/usr/bin/env python3
"""Runs a pool under load with a few faults under a real Prometheus, and draws the dashboards of that time.

    SHEAF_BINARY=build/release/sheaf tests/monitoring/draw_run.py --output docs/images [--seconds 120]

A third router has TLS. A worker is killed after a third of the time, one leaves in order after two thirds. Needs prometheus and python3-matplotlib.
"""
from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from alert_matrix import CHECKPOINT, Clients, targets_of
from figures import MONITORING, ROOT
from render_dashboards import render
from tls_router import TlsRouter
from watched_prometheus import WatchedPrometheus

sys.path.insert(0, str(ROOT / "tests/process"))
from pool_harness import Pool  # noqa: E402  (found through the path above)

DRAFTS = json.dumps({"method": "ngram", "num_speculative_tokens": 3})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    pool = Pool(CHECKPOINT, workers=4, replicas=2, routers=2, router_flags=["--verify-share", "0.01", "--speculative-config", DRAFTS])
    scraped = targets_of(pool)
    folder = tempfile.TemporaryDirectory(prefix="sheaf-draw-")
    with_tls = TlsRouter(Path(folder.name), days=60)
    scraped["sheaf-router-tls"] = [with_tls.address]
    with folder, pool, with_tls.of(pool), WatchedPrometheus(scraped, hurry=20) as prometheus, Clients([router.http for router in pool.routers], options.clients, 60):
        started = time.monotonic()
        faults = [(options.seconds / 3, pool.workers[1], signal.SIGKILL), (options.seconds * 2 / 3, pool.workers[2], signal.SIGTERM)]
        while (now := time.monotonic() - started) < options.seconds:
            while faults and now >= faults[0][0]:
                _, worker, number = faults.pop(0)
                worker.signal(number)
            time.sleep(0.2)
        for path in sorted((MONITORING / "dashboards").glob("*.json")):
            with_data, without = render(json.loads(path.read_text()), prometheus.address, options.output, options.seconds / 60, 1)
            print(f"{path.stem}: {len(with_data)} panels with data; without: {', '.join(without) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
