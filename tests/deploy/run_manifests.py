#!/usr/bin/env python3
"""A cluster without kubelets: the commands and arguments of rendered manifests in network namespaces, under load.

    run_manifests.py [--image ROOT] [--checkpoint DIR] [--streams N] [--rounds N] MANIFESTS.yaml

Every pod has a namespace, an address and the names that DNS would give it, a read-only root, the manifest's user, volumes
and probes. While requests run, workers and the coordinator are killed, a worker's link goes down and comes back, and every
workload is rolled. Every answer is compared with one from a process that has all experts itself. Exit status 1: a request
failed or differs, or a pod did what nobody asked for. 77: namespaces cannot be made here, in one line. Needs root.
"""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "process"))

import policy  # noqa: E402
from controllers import Cluster  # noqa: E402
from pods import why_not  # noqa: E402
from pool_load import Load, figures, trained_questions  # noqa: E402
from sheaf_server import SheafServer, wait_for  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120.0


class Run:
    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self._seed = cluster, seed
        self.events: list[tuple[str, float, str]] = []
        self._begin = time.monotonic()

    def event(self, name: str, act: Callable[[], str | None]) -> None:
        begin = time.monotonic()
        said = act() or ""
        self.events.append((name, time.monotonic() - begin, said))
        print(f"{begin - self._begin:7.1f} s  {name}: {time.monotonic() - begin:.1f} s {said}", flush=True)

    def start(self) -> str:
        self.cluster.start()
        self.cluster.wait_ready(PATIENCE_SECONDS)
        return f"{len(self.cluster.pods())} pods ready"

    def kill(self, component: str, number: int) -> str:
        workload = self.cluster.workload(component)
        pod = workload.pods[number % len(workload.pods)]
        before = pod.restarts
        pod.kill()
        wait_for(lambda: pod.restarts > before and pod.ready, PATIENCE_SECONDS, f"{pod.name} is ready again")
        return pod.name

    def cut(self, number: int, seconds: float) -> str:
        """The worker's node is gone, and back before the kubelet's patience with the probe ends."""
        workload = self.cluster.workload("worker")
        pod = workload.pods[number % len(workload.pods)]
        self.cluster.network.set_link(pod.namespace, False)
        wait_for(lambda: not pod.ready, PATIENCE_SECONDS, f"{pod.name} is noticed")
        time.sleep(seconds)  # the fault's own length
        self.cluster.network.set_link(pod.namespace, True)
        wait_for(lambda: pod.ready, PATIENCE_SECONDS, f"{pod.name} is ready again")
        return pod.name

    def roll(self, component: str) -> str:
        workload = self.cluster.workload(component)
        workload.roll(PATIENCE_SECONDS)
        return f"{workload.replicas} pods replaced"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path)
    parser.add_argument("--image", type=Path, help="root file system of the image; default: this machine's libraries")
    parser.add_argument("--checkpoint", type=Path, default=REPOSITORY / "checkpoints/sheaf-nano-120")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if reason := why_not():
        print(f"run_manifests: {reason}", file=sys.stderr)
        return 77
    objects = policy.load(options.manifests.read_text(encoding="utf-8"))
    questions = trained_questions(options.seed, count=16, tokens=(16, 64))
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="sheaf-pods-") as name:
        cluster = Cluster(objects, policy.binary(), options.checkpoint, Path(name), image=options.image)
        with cluster, cluster.network.entered():
            run = Run(cluster, options.seed)
            with SheafServer(options.checkpoint, "--workers", "0", "--threads", "1") as reference:
                wanted = Load([reference.http.removeprefix("http://")], questions, streams=4).each_once()
            run.event("start", run.start)
            load = Load([], questions, streams=options.streams, seed=options.seed, requests_per_second=4.0)
            load.addresses = cluster.endpoints  # type: ignore[assignment]  # they change while it runs
            with load:
                for number in range(options.rounds):
                    run.event("kill a worker", lambda: run.kill("worker", number))
                    run.event("kill the coordinator", lambda: run.kill("coordinator", 0))
                    run.event("link of a worker down for 5 s", lambda: run.cut(number + 1, 5.0))
                    run.event("roll the workers", lambda: run.roll("worker"))
                    run.event("roll the coordinator", lambda: run.roll("coordinator"))
                    run.event("roll the routers", lambda: run.roll("router"))
            result = figures(load.records, wanted)
            faults = [fault for pod in cluster.every_pod() for fault in pod.unexpected]
            peaks = {workload.name: max(pod.memory_peak or pod.limits.memory_peak() for pod in workload.pods + workload.gone) >> 20
                     for workload in cluster.workloads.values()}
            faults += [f"{pod.name}: killed when its grace ran out" for pod in cluster.every_pod() if pod.killed]
            faults += [f"{pod.name}: left with status {pod.exit_status}" for pod in cluster.every_pod()
                       if pod.exit_status not in (None, 0)]
            if faults or result.failed:
                for pod in cluster.every_pod():
                    print(f"--- {pod.name}\n{pod.log_text()[-2500:]}", file=sys.stderr)
    print(result)
    print("held to their limits of CPU and memory; most MiB in use:" if all(peaks.values()) else "no control groups here: no limits:", peaks)
    print("\n".join(faults) if faults else "no pod did what it was not asked to")
    return 1 if faults or result.failed or result.differ or result.requests < 20 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
