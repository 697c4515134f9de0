#!/usr/bin/python3
"""Prints what faults of a pool's processes cost its streams: a row a scenario, beside the same load without faults.

    bench_pool_faults.py --checkpoint DIR [--scenarios kill,stop,...] [--workers 5] [--replicas 2] [--streams 16]
                         [--kills K] [--rounds N] [--seconds S] [--transport auto] [--binary FILE] [--json]

Every scenario has a pool of its own. Its questions are first answered by one process without workers: the reference
of every later answer, byte for byte. Then the pool's throughput is measured with three times as many streams as asked
for, and the load is set to --load of that (arrivals at random moments). That load runs once without faults and once
with them.

  kill         SIGKILL of a random worker at a random moment, --kills times; each is started again at once
  stop         SIGSTOP for 3 s, then SIGCONT
  black-hole   a worker's packets vanish both ways for 3 s (nftables, between namespaces, TCP)
  one-way      only those to it, then only those from it
  link-down    its link is down for 3 s
  slow         a worker has a tenth of a core (cgroup) for --seconds
  last-holder  as kill, with one holder for each expert
  rolling      SIGTERM of every worker, one after another, three times over
  storm        for --seconds a further worker joins every 500 ms, and the one before it leaves
  two-routers  router 0 is killed, its streams go on at router 1 (prior_output); then the coordinator is killed
  router-stop  SIGSTOP of the router for 10 s
  flip         one bit of a worker's weights flips; --verify-share 0.01
  soak         a random fault every second for --seconds; memory, descriptors and threads (pool_soak.py)

Columns: `gap` is the time between two tokens of a stream, `longest` the longest gap of each stream. Left out: the first
token's time. The client runs on the same cores as everything else.
"""
from __future__ import annotations

import argparse
import bisect
import contextlib
import dataclasses
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).resolve().parent))

FAULT_COUNTERS = ("sheaf_redispatched_pairs_total", "sheaf_hedges_total", "sheaf_late_answers_total",
                  "sheaf_links_lost_total", "sheaf_steps_given_up_total", "sheaf_verified_pairs_total")


class Bench:
    """What a scenario works with while the load runs."""

    def __init__(self, arguments: argparse.Namespace, pool: Any) -> None:
        self.arguments, self.pool = arguments, pool
        self.rng = random.Random(arguments.seed)
        self.load: Any = None
        self.wanted: list[Any] = []
        self.extra: dict[str, Any] = {}  # further columns of the row
        self.struck: list[float] = []    # when each fault began
        self.faults: list[Any] = []      # pool_soak.Fault, of scenarios with many kinds

    def some_worker(self) -> Any:
        return self.rng.choice(self.pool.workers)

    def replace(self, number: signal.Signals) -> float:
        """Ends a random worker at a random moment; seconds until the pool is whole again."""
        worker = self.some_worker()
        time.sleep(self.rng.uniform(0, 0.4))
        lives, start = worker.starts, self.strike()
        worker.signal(number)
        worker.wait_life(lives)
        self.pool.wait_whole()
        return time.monotonic() - start

    def strike(self) -> float:
        self.struck.append(time.monotonic())
        return self.struck[-1]

    def replacements(self, count: int, number: signal.Signals) -> str:
        seconds = []
        for i in range(count):
            seconds.append(self.replace(number))
            if (i + 1) % 50 == 0:
                print(f"  {i + 1} of {count}", file=sys.stderr, flush=True)
        return f"{count} x {number.name}, whole again after {statistics.median(seconds):.2f} s"

    def outages(self, begin: Callable[[int], None], end: Callable[[int], None]) -> None:
        worker = self.rng.randrange(len(self.pool.workers))
        time.sleep(self.rng.uniform(0, 0.4))
        self.strike()
        begin(worker)
        time.sleep(self.arguments.outage_seconds)
        end(worker)
        self.pool.wait_whole()

    def lives(self) -> list[int]:
        return [worker.starts for worker in self.pool.workers]


def kill(bench: Bench) -> str:
    return bench.replacements(bench.arguments.kills, signal.SIGKILL)


def stop(bench: Bench) -> str:
    workers = bench.pool.workers
    before = bench.lives()
    for _ in range(bench.arguments.rounds):
        bench.outages(lambda i: workers[i].signal(signal.SIGSTOP), lambda i: workers[i].signal(signal.SIGCONT))
    rejoined = "every process rejoined" if bench.lives() == before else "a process had to be started again"
    return f"{bench.arguments.rounds} x {bench.arguments.outage_seconds:g} s, {rejoined}"


def black_hole(bench: Bench) -> str:
    for _ in range(bench.arguments.rounds):
        bench.outages(bench.pool.network.black_hole, bench.pool.network.heal)
    return f"{bench.arguments.rounds} x {bench.arguments.outage_seconds:g} s"


def one_way(bench: Bench) -> str:
    for _ in range(bench.arguments.rounds):
        bench.outages(bench.pool.network.deaf, bench.pool.network.heal)
        bench.outages(bench.pool.network.mute, bench.pool.network.heal)
    return f"{bench.arguments.rounds} x ({bench.arguments.outage_seconds:g} s deaf, the same mute)"


def link_down(bench: Bench) -> str:
    for _ in range(bench.arguments.rounds):
        bench.outages(bench.pool.network.link_down, bench.pool.network.heal)
    return f"{bench.arguments.rounds} x {bench.arguments.outage_seconds:g} s"


def slow(bench: Bench) -> str:
    from pool_faults import slowed, throttled
    before = bench.lives()
    with slowed(bench.some_worker().pid) as group:
        time.sleep(bench.arguments.seconds)
        periods, waits = throttled(group)
    lost = len(bench.pool.status().lost)
    assert bench.lives() == before
    return f"it had to wait in {waits} of {periods} periods of 10 ms; {lost} workers were held for lost"


def rolling(bench: Bench) -> str:
    seconds = []
    for _ in range(3):
        for worker in bench.pool.workers:
            lives, start = worker.starts, bench.strike()
            worker.signal(signal.SIGTERM)
            worker.wait_life(lives)
            bench.pool.wait_whole()
            seconds.append(time.monotonic() - start)
    return f"{len(seconds)} x SIGTERM, whole again after {statistics.median(seconds):.2f} s"


def storm(bench: Bench) -> str:
    guests: list[Any] = []
    until = time.monotonic() + bench.arguments.seconds
    while time.monotonic() < until:
        time.sleep(0.5)
        number = len(bench.pool.workers) + len(guests) % 3
        guest = bench.pool.worker(number)
        guest.restarts = False
        guests.append(bench.pool.add(guest))
        if len(guests) > 1:
            guests[-2].signal(signal.SIGTERM)
    guests[-1].signal(signal.SIGTERM)
    for guest in guests:
        guest.wait_exit()
    return f"{len(guests)} workers joined and left"


def two_routers(bench: Bench) -> str:
    first, coordinator = bench.pool.routers[0], bench.pool.coordinator
    for _ in range(bench.arguments.rounds):
        for victim in (first, coordinator):
            time.sleep(bench.rng.uniform(0.3, 0.8))
            lives = victim.starts
            victim.signal(signal.SIGKILL)
            victim.wait_life(lives)
            bench.pool.wait_whole()
            bench.pool.wait_healthy()
    return f"{bench.arguments.rounds} x (SIGKILL of router 0, of the coordinator); figures of gaps: router 1 alone"


def router_stop(bench: Bench) -> str:
    before = {worker.instance for worker in bench.pool.status().workers}
    bench.pool.routers[0].signal(signal.SIGSTOP)
    time.sleep(bench.arguments.router_stop_seconds)
    bench.pool.routers[0].signal(signal.SIGCONT)
    bench.pool.wait_whole()
    status = bench.pool.status()
    kept = len(before & {worker.instance for worker in status.workers})
    return (f"{bench.arguments.router_stop_seconds:g} s; {kept} of {len(before)} workers kept, "
            f"{len(status.lost)} held for lost")


def flip(bench: Bench) -> str:
    from pool_faults import Weights
    router, found = bench.pool.routers[0], []
    for _ in range(bench.arguments.rounds):
        worker = bench.some_worker()
        weights = Weights(worker.pid)
        before = {name: router.metric(name, **labels) for name, labels in (
            ("sheaf_verified_pairs_total", {"result": "different"}), ("sheaf_generated_tokens_total", {}))}
        address = weights.flip(bench.rng, 1)[0]
        start, until = time.monotonic(), time.monotonic() + bench.arguments.flip_patience_seconds
        while time.monotonic() < until and router.metric(
                "sheaf_verified_pairs_total", result="different") == before["sheaf_verified_pairs_total"]:
            time.sleep(0.02)
        tokens = router.metric("sheaf_generated_tokens_total") - before["sheaf_generated_tokens_total"]
        if time.monotonic() >= until:
            found.append(f"not found in {tokens:.0f} tokens")
            continue
        while weights.holds(address) and time.monotonic() < until:
            time.sleep(0.02)
        repaired = "repaired" if not weights.holds(address) else "NOT repaired"
        found.append(f"found after {tokens:.0f} tokens ({time.monotonic() - start:.1f} s), {repaired}")
    bench.pool.wait_whole()
    bench.extra["after"] = "the same bytes again" if bench.same_again() else "STILL DIFFERENT"
    return "; ".join(found) + "; afterwards " + bench.extra["after"]


@dataclasses.dataclass(frozen=True)
class Scenario:
    faults: Callable[[Bench], str]
    replicas: float | None = None  # None: as asked for
    network: bool = False
    routers: int = 1
    verify_share: float = 0
    only_router: int | None = None  # whose streams are in the figures
    router_flags: tuple[str, ...] = ()


def soak(bench: Bench) -> str:
    import pool_soak
    return pool_soak.soak(bench)


SCENARIOS = {
    "kill": Scenario(kill), "stop": Scenario(stop), "black-hole": Scenario(black_hole, network=True),
    "one-way": Scenario(one_way, network=True), "link-down": Scenario(link_down, network=True), "slow": Scenario(slow),
    "last-holder": Scenario(kill, replicas=1), "rolling": Scenario(rolling), "storm": Scenario(storm),
    "two-routers": Scenario(two_routers, routers=2, only_router=1), "router-stop": Scenario(router_stop),
    "flip": Scenario(flip, verify_share=0.01),
    # A cache that is full before the warm-up ends: what fills it is no leak.
    "soak": Scenario(soak, router_flags=("--kv-cache-memory-bytes", "32MiB")),
}


def stalls_ms(struck: list[float], records: list[Any]) -> list[float]:
    """For each fault the longest gap of any stream that lasts beyond it and begins within half a second of it."""
    gaps = sorted((end, begin) for record in records for begin, end in zip(record.token_times, record.token_times[1:]))
    longest = []
    for at in struck:
        near = gaps[bisect.bisect_left(gaps, (at,)):bisect.bisect_left(gaps, (at + 15,))]
        longest.append(max((1000 * (end - begin) for end, begin in near if begin <= at + 0.5), default=0.0))
    return longest


def counters(pool: Any) -> dict[str, float]:
    from pool_client import samples
    return {head: value for head, value in samples(pool.routers[-1].http).items()
            if head.split("{")[0] in FAULT_COUNTERS}


def run_one(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: it enters a namespace for good."""
    from pool_harness import Pool
    from pool_load import Load, figures, percentile, random_questions, trained_questions
    from pool_network import Namespaces, why_not
    from pool_soak import Fault, worst_gaps
    from sheaf_server import SheafServer
    scenario = SCENARIOS[name]
    if scenario.network and (reason := why_not()):
        return {"scenario": name, "skipped": reason}
    trained = (arguments.checkpoint / "chat_template.jinja").exists() and "nano" in arguments.checkpoint.name
    questions = (trained_questions if trained else random_questions)(arguments.seed)
    flags = ["--combine-format", arguments.combine_format] if arguments.combine_format != "float32" else []
    wanted = []
    if not flags:  # answers of int16 groups are other bytes than those of one process
        with SheafServer(arguments.checkpoint, "--workers", "0", "--threads", "1") as alone:
            wanted = Load([alone.ready["http"]], questions, 4).each_once()
    if scenario.verify_share:
        flags += ["--verify-share", str(scenario.verify_share)]
    flags += scenario.router_flags
    with contextlib.ExitStack() as stack:
        network = None
        if scenario.network:
            network = stack.enter_context(Namespaces(arguments.workers))
            stack.enter_context(network.entered())
        pool = stack.enter_context(Pool(
            arguments.checkpoint, workers=arguments.workers, routers=scenario.routers, network=network,
            replicas=scenario.replicas or arguments.replicas, transport=arguments.transport, router_flags=flags))
        addresses = [router.http for router in pool.routers]
        wanted = wanted or Load(addresses[:1], questions, 4).each_once()
        full = Load(addresses, questions, 3 * arguments.streams, arguments.seed).run(arguments.measure_seconds)
        tokens_a_question = statistics.fmean(len(record.ids) for record in wanted)
        rate = arguments.load * figures(full, wanted).tokens_per_second / tokens_a_question

        def new_load(seed: int) -> Any:
            return Load(addresses, questions, 3 * arguments.streams if arguments.load < 1 else arguments.streams,
                        seed, requests_per_second=rate if arguments.load < 1 else None, resume=scenario.routers > 1)

        quiet = new_load(arguments.seed + 1).run(arguments.quiet_seconds)
        bench = Bench(arguments, pool)
        bench.wanted = wanted
        bench.same_again = lambda: figures(Load(addresses, questions, 4).each_once(), wanted).differ == 0
        before, start = counters(pool), time.monotonic()
        with new_load(arguments.seed + 2) as bench.load:
            note = scenario.faults(bench)
        seconds = time.monotonic() - start
        after = counters(pool)
        records = bench.load.records
        logs = {managed.name: managed.log() for managed in (*pool.routers, *pool.workers, pool.coordinator) if managed}
        row = {"scenario": name, "note": note, "seconds": round(seconds, 1), "full_tokens_per_second":
               round(figures(full, wanted).tokens_per_second), **bench.extra}
        row["all"] = dataclasses.asdict(figures(records, wanted))
        if scenario.only_router is not None:
            records, quiet = ([r for r in part if r.addresses[0] == addresses[scenario.only_router]]
                              for part in (records, quiet))
        if bench.struck:
            stalls = stalls_ms(bench.struck, records)
            row["stall_ms"] = {"p50": percentile(stalls, 0.5), "p99": percentile(stalls, 0.99), "max": max(stalls)}
        row["worst"] = worst_gaps(records, bench.faults or [Fault(at, "fault", at) for at in bench.struck], logs,
                                  arguments.tell_gaps_ms)
        row["quiet"] = dataclasses.asdict(figures(quiet, wanted))
        row["faulty"] = dataclasses.asdict(figures(records, wanted))
        row["counters"] = {head: value - before.get(head, 0) for head, value in after.items()
                           if value != before.get(head, 0)}
        return row


COLUMNS = ["scenario", "requests", "failed", "other bytes", "resumed", "streams", "gap p50", "gap p99", "gap max",
           "longest p99", "without: p50", "p99", "max", "longest p99"]


def print_row(row: dict[str, Any]) -> None:
    if "skipped" in row:
        print(f"| {row['scenario']} | skipped: {row['skipped']} |", flush=True)
        return
    every, faulty, quiet = row["all"], row["faulty"], row["quiet"]
    values = [row["scenario"], every["requests"], every["failed"], every["differ"], every["resumed"],
              f"{every['in_flight']:.1f}", *(f"{faulty[key]:.1f}" for key in
                                             ("gap_p50", "gap_p99", "gap_max", "longest_p99")),
              *(f"{quiet[key]:.1f}" for key in ("gap_p50", "gap_p99", "gap_max", "longest_p99"))]
    print("| " + " | ".join(map(str, values)) + " |")
    print(f"    {row['note']}; {row['seconds']} s, {every['tokens_per_second']:.0f} tokens/s of "
          f"{row['full_tokens_per_second']} at full load")
    if "stall_ms" in row:
        print("    longest gap of any stream within 0.5 s of a fault, ms: "
              + ", ".join(f"{name} {value:.1f}" for name, value in row["stall_ms"].items()))
    for head, value in row["counters"].items():
        print(f"    {head} {value:.0f}")
    for line in row["worst"]:
        print(f"    {line}")
    for problem in every["problems"]:
        print(f"    PROBLEM {problem}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--scenarios", default=",".join(name for name in SCENARIOS if name != "soak"))
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--replicas", type=float, default=2)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--load", type=float, default=0.7, help="share of full throughput; 1 = streams never pause")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60, help="of slow, storm and soak")
    parser.add_argument("--quiet-seconds", type=float, default=20, help="of the load without faults")
    parser.add_argument("--measure-seconds", type=float, default=5, help="of the measurement of full load")
    parser.add_argument("--outage-seconds", type=float, default=3)
    parser.add_argument("--router-stop-seconds", type=float, default=10)
    parser.add_argument("--flip-patience-seconds", type=float, default=60)
    parser.add_argument("--tell-gaps-ms", type=float, default=400,
                        help="the worst gaps from this on are printed with the faults and log lines of that moment")
    parser.add_argument("--transport", default="auto")
    parser.add_argument("--combine-format", default="float32")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", help="default: $SHEAF_BINARY, else this repository's release build")
    parser.add_argument("--json", action="store_true", help="one JSON object a scenario instead of the table")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.binary:
        os.environ["SHEAF_BINARY"] = str(Path(arguments.binary).resolve())
    arguments.checkpoint = arguments.checkpoint.resolve()
    if arguments.one:
        print("\n" + json.dumps(run_one(arguments.one, arguments)))
        return
    names = arguments.scenarios.split(",")
    unknown = set(names) - set(SCENARIOS)
    if unknown:
        parser.error(f"unknown scenarios {sorted(unknown)}; there are {sorted(SCENARIOS)}")
    if not arguments.json:
        print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    failed = False
    for name in names:
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", name], stdout=subprocess.PIPE,
                              text=True, check=False)
        if done.returncode != 0:
            print(f"{name}: ended with status {done.returncode}", flush=True)
            failed = True
            continue
        row = json.loads(done.stdout.splitlines()[-1])
        if arguments.json:
            print(json.dumps(row), flush=True)
        else:
            print_row(row)
        failed |= "all" in row and bool(row["all"]["failed"])
    sys.exit(failed)


if __name__ == "__main__":
    main()
