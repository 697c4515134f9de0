#!/usr/bin/env python3
"""Injects faults into a real pool under a real Prometheus with this repository's alerts: each must raise exactly its alerts.

    SHEAF_BINARY=build/release/sheaf tests/monitoring/alert_matrix.py [--faults NAME ...] [--hurry 20]

Prints a line for each fault (alerts wanted, fired) and ends with status 1 where they differ. Windows and waiting times of the rules are
divided by --hurry; thresholds are as they are. Needs prometheus; about a minute a fault.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, ContextManager

from watched_prometheus import WatchedPrometheus
from figures import ROOT
from tls_router import TlsRouter

sys.path.insert(0, str(ROOT / "tests/process"))
from pool_harness import Pool, free_port  # noqa: E402  (found through the path above)
from sheaf_server import BINARY  # noqa: E402

CHECKPOINT = ROOT / "checkpoints/sheaf-nano-120"


class Clients:
    """Threads that ask one completion after another of each router in turn, whatever comes back."""

    def __init__(self, addresses: list[str], threads: int, max_tokens: int) -> None:
        self._addresses, self._max_tokens = addresses, max_tokens
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]
        self.answers = 0

    def _run(self, number: int) -> None:
        turn = number
        while not self._ending.is_set():
            address = self._addresses[turn % len(self._addresses)]
            turn += 1
            body = json.dumps({"prompt": f"Question {turn}. What is an expert worker?", "max_tokens": self._max_tokens, "ignore_eos": True}).encode()
            request = urllib.request.Request(f"http://{address}/v1/completions", body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=20) as response:
                    response.read()
                self.answers += 1
            except (OSError, urllib.error.URLError):
                self._ending.wait(0.05)  # refused: no busy loop

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ending.set()


@dataclass
class Fault:
    alerts: set[str]
    inject: Callable[[Pool], None]
    seconds: float = 40  # watched after it
    pool: dict[str, Any] = field(default_factory=dict)
    clients: int = 2
    max_tokens: int = 24
    damaged_worker: bool = False  # the first one reads a damaged copy of the checkpoint
    certificate_days: float = 0   # a third router has a certificate that ends so soon; 0: there is none


def nothing(pool: Pool) -> None:
    pass


def kill_worker(pool: Pool) -> None:
    pool.workers[0].signal(signal.SIGKILL)


def lose_worker(pool: Pool) -> None:
    pool.workers[0].restarts = False
    pool.workers[0].signal(signal.SIGKILL)


def lose_all_workers(pool: Pool) -> None:
    for worker in pool.workers:
        worker.restarts = False
        worker.signal(signal.SIGKILL)


def worker_leaves(pool: Pool) -> None:
    pool.workers[0].signal(signal.SIGTERM)


def stop_coordinator(pool: Pool) -> None:
    assert pool.coordinator is not None
    pool.coordinator.restarts = False
    pool.coordinator.signal(signal.SIGTERM)


def freeze_worker(pool: Pool) -> None:
    pool.workers[0].signal(signal.SIGSTOP)


def freeze_router(pool: Pool) -> None:
    pool.routers[1].signal(signal.SIGSTOP)


def strangers(pool: Pool) -> None:
    for _ in range(6):
        guest = subprocess.Popen([BINARY, "worker", str(CHECKPOINT), "--coordinator", pool.cluster], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            guest.wait(3)
        except subprocess.TimeoutExpired:
            guest.kill()
            guest.wait()


def looked_at(at: int, begin: int, end: int) -> bool:
    """Whether the digest by which a pool knows its checkpoint may read this byte: 64 blocks of 4 KiB, spread evenly over the tensors."""
    step = (end - begin - 4096) / 63
    place = (at - begin) % step
    return place < 4096 + 64 or place > step - 64


def damaged_copy(folder: Path) -> Path:
    """The checkpoint with one bit of each 4,096 bytes of its experts' weights turned over, but where who joins is told apart by it."""
    copy = Path(shutil.copytree(CHECKPOINT, folder / CHECKPOINT.name))
    for path in copy.glob("*.safetensors"):
        data = bytearray(path.read_bytes())
        header_bytes = int.from_bytes(data[:8], "little")
        for name, tensor in json.loads(data[8:8 + header_bytes]).items():
            if ".experts." in name and name.endswith("qweight"):
                begin, end = (8 + header_bytes + offset for offset in tensor["data_offsets"])
                for at in range(begin, end, 4096):
                    if not looked_at(at, 8 + header_bytes, len(data)):
                        data[at] ^= 0x40
        path.write_bytes(data)
    return copy


FAULTS = {
    "none": Fault(set(), nothing, certificate_days=30),
    "worker killed, comes back": Fault({"SheafWorkerLost"}, kill_worker),
    "worker killed, stays away": Fault({"SheafWorkerLost", "SheafTargetDown"}, lose_worker),
    "worker leaves in order, comes back": Fault(set(), worker_leaves),
    "all workers lost": Fault({"SheafWorkerLost", "SheafTargetDown", "SheafExpertsMissing", "SheafCoverageBelowWanted"}, lose_all_workers, seconds=50),
    "coordinator stopped": Fault({"SheafTargetDown", "SheafWorkerWithoutCoordinator"}, stop_coordinator),
    "a worker hangs": Fault({"SheafWorkerLost", "SheafTargetDown"}, freeze_worker),
    "a router hangs": Fault({"SheafTargetDown"}, freeze_router),
    "strangers without the token": Fault({"SheafHellosRefused"}, strangers, pool={"token": "secret"}),
    "a worker computes wrongly": Fault({"SheafVerificationDiffers", "SheafWorkerQuarantined"}, nothing, damaged_worker=True,
                                       pool={"router_flags": ["--verify-share", "0.5"]}),
    "more than the queue holds": Fault({"SheafQueueSaturated", "SheafAvailabilityBurnsFast", "SheafAvailabilityBurnsSlowly"}, nothing, seconds=70, clients=12,
                                       pool={"router_flags": ["--max-num-seqs", "1", "--max-num-queued-reqs", "1"]}),
    "KV cache too small": Fault({"SheafKvCacheExhausted", "SheafPreemptionStorm"}, nothing, clients=8, max_tokens=600,
                                pool={"router_flags": ["--kv-cache-memory-bytes", "2MiB", "--max-num-seqs", "8"]}),
    "a certificate ends this week": Fault({"SheafCertificateExpiring"}, nothing, certificate_days=3),
    "a certificate ends today": Fault({"SheafCertificateEnds"}, nothing, certificate_days=0.5),
}


def targets_of(pool: Pool) -> dict[str, list[str]]:
    """What is to be scraped of a pool that is not started yet: its processes get metrics ports that stay."""
    assert pool.coordinator is not None
    scraped = {"sheaf-router": [router.http for router in pool.routers], "sheaf-worker": [], "sheaf-coordinator": []}
    for job, managed in [*(("sheaf-worker", worker) for worker in pool.workers), ("sheaf-coordinator", pool.coordinator)]:
        port = free_port()
        managed.command += ["--metrics-port", str(port)]  # the same in every life
        scraped[job].append(f"127.0.0.1:{port}")
    return scraped


def run(fault: Fault, hurry: float) -> set[str]:
    pool = Pool(CHECKPOINT, **{"workers": 3, "replicas": 2, "routers": 2, **fault.pool})
    scraped = targets_of(pool)
    with tempfile.TemporaryDirectory(prefix="sheaf-damaged-") as folder:
        if fault.damaged_worker:
            pool.workers[0].command[1] = str(damaged_copy(Path(folder)))
        beside: ContextManager[None] = contextlib.nullcontext()
        if fault.certificate_days:
            router = TlsRouter(Path(folder), fault.certificate_days)
            scraped["sheaf-router-tls"] = [router.address]
            beside = router.of(pool)
        with pool, beside:
            return watch(fault, pool, scraped, hurry)


def watch(fault: Fault, pool: Pool, scraped: dict[str, list[str]], hurry: float) -> set[str]:
    with WatchedPrometheus(scraped, hurry) as prometheus, Clients([router.http for router in pool.routers], fault.clients, fault.max_tokens) as clients:
        started = time.monotonic()
        while time.monotonic() < started + 8 or clients.answers == 0:
            time.sleep(0.5)
            if time.monotonic() > started + 60:
                raise TimeoutError("no client was answered")
        if fault.inject is not nothing and (early := prometheus.fired()):
            raise AssertionError(f"before the fault: {early}")
        fault.inject(pool)
        deadline = time.monotonic() + fault.seconds
        while time.monotonic() < deadline:
            time.sleep(1)
        return prometheus.fired()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", metavar="NAME", choices=list(FAULTS), help="default: all (--list)")
    parser.add_argument("--hurry", type=float, default=20)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(FAULTS))
        return 0
    if shutil.which("prometheus") is None:
        print("skipped: prometheus is missing (Debian package prometheus)")
        return 0
    names = options.faults or list(FAULTS)
    wrong = 0
    for name in names:
        fired = run(FAULTS[name], options.hurry)
        wanted = FAULTS[name].alerts
        wrong += fired != wanted
        print(f"{'ok  ' if fired == wanted else 'BAD '} {name}: wanted {sorted(wanted) or '-'}, fired {sorted(fired) or '-'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
