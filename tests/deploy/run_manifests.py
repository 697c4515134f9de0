#!/usr/bin/env python3
"""A cluster without kubelets: the commands and arguments of rendered manifests in network namespaces, under load.

    run_manifests.py [--image ROOT] [--checkpoint DIR] [--streams N] [--requests-per-second X] [--events NAME ...]
                     [--rounds N | --load-seconds N] MANIFESTS.yaml

Every pod has a namespace, an address and the names that DNS would give it, a read-only root, the manifest's user, volumes
and probes. While requests run, --events happen (kill-worker, kill-coordinator, kill-rank, node, roll-worker, roll-coordinator,
roll-router; default: all but kill-rank, in this order), --rounds times or until --load-seconds are over. "node": the link of a node with a
worker and the coordinator goes down and comes back. Where the manifests have Certificates, clients speak TLS and every
certificate is renewed each second. Every answer is compared with one from a process that has all experts itself. Exit
status 1: a request failed or differs, or a pod did what nobody asked for. 77: namespaces cannot be made here, in one line.
Needs root.
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
from renewals import Renewals  # noqa: E402
from sheaf_server import SheafServer, wait_for  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120.0
DOWN_SECONDS = 5.0
EVENTS = ("kill-worker", "kill-coordinator", "node", "roll-worker", "roll-coordinator", "roll-router")
OF_RANKS = "kill-rank"  # where routers have attention ranks


class Run:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._begin = time.monotonic()

    def event(self, name: str, act: Callable[[], str]) -> None:
        begin = time.monotonic()
        said = act()
        print(f"{begin - self._begin:7.1f} s  {name}: {time.monotonic() - begin:.1f} s {said}", flush=True)

    def start(self) -> str:
        self.cluster.start()
        self.cluster.wait_ready(PATIENCE_SECONDS)
        return f"{len(self.cluster.pods())} pods ready"

    def happen(self, name: str, number: int) -> None:
        """One of EVENTS, for the number-th time."""
        what, _, component = name.partition("-")
        self.event(name, {"kill": lambda: self.kill(component, number), "node": lambda: self.cut(number + 1),
                          "roll": lambda: self.roll(component)}[what])

    def kill(self, component: str, number: int) -> str:
        pods = [rank for pod in self.cluster.workload("router").pods for rank in pod.sidecars] if component == "rank" else \
            self.cluster.workload(component).pods
        pod = pods[number % len(pods)]
        before = pod.restarts
        pod.kill()
        wait_for(lambda: pod.restarts > before and pod.ready, PATIENCE_SECONDS, f"{pod.name} is ready again")
        return pod.name

    def cut(self, number: int) -> str:
        """A node with a worker and the coordinator is gone, and back before the kubelet's patience with the probe ends."""
        workers, coordinators = (self.cluster.workload(component).pods for component in ("worker", "coordinator"))
        pods = [workers[number % len(workers)], *coordinators]
        for pod in pods:
            self.cluster.network.set_link(pod.namespace, False)
        for pod in pods:
            wait_for(lambda: not pod.ready, PATIENCE_SECONDS, f"{pod.name} is noticed")
        time.sleep(DOWN_SECONDS)  # the fault's own length
        for pod in pods:
            self.cluster.network.set_link(pod.namespace, True)
        for pod in pods:
            wait_for(lambda: pod.ready, PATIENCE_SECONDS, f"{pod.name} is ready again")
        return " and ".join(pod.name for pod in pods)

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
    parser.add_argument("--requests-per-second", type=float, default=4.0, help="of all streams together")
    parser.add_argument("--events", nargs="+", choices=(*EVENTS, OF_RANKS), default=EVENTS, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--load-seconds", type=float, help="instead of rounds; the event that runs then is ended")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    return parser.parse_args(arguments)


def disturb(run: Run, options: argparse.Namespace) -> None:
    begin, number = time.monotonic(), 0
    over = (lambda: time.monotonic() - begin > options.load_seconds) if options.load_seconds else \
        (lambda: number >= options.rounds)
    while not over():
        for name in options.events:
            if options.load_seconds and over():
                break
            run.happen(name, number)
        number += 1


def faults_of(cluster: Cluster) -> list[str]:
    pods = [one for pod in cluster.every_pod() for one in (pod, *pod.sidecars)]
    return [fault for pod in pods for fault in pod.unexpected] + \
        [f"{pod.name}: killed when its grace ran out" for pod in pods if pod.killed] + \
        [f"{pod.name}: left with status {pod.exit_status}" for pod in pods if pod.exit_status not in (None, 0)]


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if reason := why_not():
        print(f"run_manifests: {reason}", file=sys.stderr)
        return 77
    objects = policy.load(options.manifests.read_text(encoding="utf-8"))
    questions = trained_questions(options.seed, count=16, tokens=(16, 64))
    print(f"seed {options.seed}, {os.cpu_count()} CPUs, load of the machine {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="sheaf-pods-") as name:
        try:
            cluster = Cluster(objects, policy.binary(), options.checkpoint, Path(name), image=options.image)
        except ModuleNotFoundError as error:
            print(f"run_manifests: {error} (deploy/install_dependencies.sh --tests)", file=sys.stderr)
            return 77
        with cluster, cluster.network.entered():
            run = Run(cluster)
            with SheafServer(options.checkpoint, "--workers", "0", "--threads", "1") as reference:
                wanted = Load([reference.http.removeprefix("http://")], questions, streams=4).each_once()
            run.event("start", run.start)
            renewals = Renewals(cluster)
            load = Load([], questions, streams=options.streams, seed=options.seed, requests_per_second=options.requests_per_second,
                        **renewals.client())
            load.addresses = cluster.endpoints  # type: ignore[assignment]  # they change while it runs
            with renewals, load:
                disturb(run, options)
            result = figures(load.records, wanted)
            faults = faults_of(cluster) + renewals.faults()
            peaks = {workload.name: max(pod.memory_peak or pod.limits.memory_peak() for pod in workload.pods + workload.gone) >> 20
                     for workload in cluster.workloads.values()}
            if faults or result.failed:
                for pod in (one for each in cluster.every_pod() for one in (each, *each.sidecars)):
                    print(f"--- {pod.name}\n{pod.log_text()[-2500:]}", file=sys.stderr)
    print(result)
    print(renewals)
    print("held to their limits of CPU and memory; most MiB in use:" if all(peaks.values()) else "no control groups here: no limits:", peaks)
    print("\n".join(faults) if faults else "no pod did what it was not asked to", f"; load of the machine {os.getloadavg()[0]:.1f}")
    return 1 if faults or result.failed or result.differ or result.requests < 20 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
