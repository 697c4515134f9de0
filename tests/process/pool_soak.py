"""A random fault every second, and what a pool's processes keep of it; and which faults were under way at a long gap.

soak(bench) is a scenario of bench_pool_faults.py. Worker 0, the routers and a coordinator of its own are never struck:
their memory, descriptors and threads are read after every fault. The slope is that of a line through the samples after
the first third, which counts as warm-up; a worker's experts, which come and go with its neighbours, are left out.
"""
from __future__ import annotations

import collections
import contextlib
import re
import signal
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from pool_faults import descriptors, slowed, threads

BEFORE_GAP_SECONDS = 6.0  # faults that began earlier are not told of, unless they last
LOG_LINES = 80
KINDS = ["kill", "kill", "term", "stop", "slow", "stop long"]
STOP_SECONDS = {"stop": 0.3, "stop long": 2.5}


@dataclass
class Fault:
    """Monotonic seconds; end: infinity while it lasts."""
    begin: float
    text: str
    end: float = float("inf")


@dataclass(frozen=True)
class Sample:
    seconds: float
    private: int       # resident bytes of the process alone: heap, cache, weights
    shared: int        # of the lanes of its links
    held_experts: int  # of a worker: they come and go with its neighbours
    descriptors: int
    threads: int


def soak(bench: Any) -> str:
    pool, rng = bench.pool, bench.rng
    watched = [m for m in (*pool.routers, pool.coordinator, pool.workers[0]) if m]
    samples: dict[str, list[Sample]] = {managed.name: [] for managed in watched}
    warm: dict[str, dict[str, int]] = {}
    victims, start, slow = pool.workers[1:], time.monotonic(), None
    with contextlib.ExitStack() as slows:
        while (now := time.monotonic() - start) < bench.arguments.seconds:
            victim, kind = rng.choice(victims), rng.choice(KINDS)
            fault = Fault(time.monotonic(), f"{kind} {victim.name}")
            bench.faults.append(fault)
            if kind in ("kill", "term"):
                done = victim.signal_if_alive(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
                fault.end = time.monotonic() + 1  # about what a process needs to come back
            elif kind == "slow":
                slows.close()
                if slow is not None:
                    slow.end = time.monotonic()
                slow, done = fault, False
                with contextlib.suppress(OSError, AssertionError):  # it ends just now
                    slows.enter_context(slowed(victim.pid))
                    done = True
            else:
                done = victim.signal_if_alive(signal.SIGSTOP)
                time.sleep(STOP_SECONDS[kind])
                victim.signal_if_alive(signal.SIGCONT)
                fault.end = time.monotonic()
            if not done:
                fault.text += " (between two lives)"
                fault.end = fault.begin
            status = pool.status_or_none()
            held = {worker.pid: worker.held_experts for worker in status.workers} if status else {}
            for managed in watched:
                with contextlib.suppress(OSError):
                    samples[managed.name].append(Sample(now, *resident(managed.pid), held.get(managed.pid, 0),
                                                        descriptors(managed.pid), threads(managed.pid)))
            if not warm and now > bench.arguments.seconds / 3:
                warm = {managed.name: memory_by_mapping(managed.pid) for managed in watched}
            time.sleep(1)
        grown = {managed.name: growth(warm.get(managed.name, {}), memory_by_mapping(managed.pid))
                 for managed in watched}
    pool.wait_whole()
    return f"{len(bench.faults)} faults; " + "; ".join(
        f"{describe(name, rows)}; {grown[name]}" for name, rows in samples.items())


def resident(pid: int) -> tuple[int, int]:
    """(private, shared) bytes; files that it maps left out."""
    status = Path(f"/proc/{pid}/status").read_text()
    return tuple(1024 * int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1])  # type: ignore[return-value,index]
                 for name in ("RssAnon", "RssShmem"))


def describe(name: str, rows: Sequence[Sample]) -> str:
    late = rows[len(rows) // 3:]
    return (f"{name} {statistics.fmean(r.private for r in late) / 1e6:.1f} MB {slope_mib_per_hour(late):+.2f} MiB/h, "
            f"lanes {statistics.fmean(r.shared for r in late) / 1e6:.1f} MB {slope_mib_per_hour(late, 'shared'):+.2f} MiB/h, "
            f"descriptors {late[0].descriptors} to {late[-1].descriptors} (most {max(r.descriptors for r in late)}), "
            f"threads {late[0].threads} to {late[-1].threads} (most {max(r.threads for r in late)})")


def slope_mib_per_hour(rows: Sequence[Sample], what: str = "private") -> float:
    """Of that memory over time, what experts held just then explain left out (least squares)."""
    columns = [[1.0, r.seconds / 3600] + ([r.held_experts] if any(r.held_experts for r in rows) else []) for r in rows]
    return float(np.linalg.lstsq(np.array(columns), np.array([getattr(r, what) / (1 << 20) for r in rows]), rcond=None)[0][1])


def memory_by_mapping(pid: int) -> dict[str, int]:
    """Resident bytes by what they map: "[heap]", "anonymous" (malloc's arenas, stacks), a file's name."""
    totals: dict[str, int] = collections.Counter()
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        fields = line.split(None, 5)
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            name = fields[5].removesuffix(" (deleted)") if len(fields) > 5 else "anonymous"
        elif fields[0] == "Rss:":
            totals[name] += int(fields[1]) * 1024
    return totals


def growth(before: dict[str, int], after: dict[str, int]) -> str:
    changed = {name: after.get(name, 0) - before.get(name, 0) for name in {*before, *after}}
    kept = sorted((item for item in changed.items() if abs(item[1]) >= 1 << 14), key=lambda item: -abs(item[1]))
    return "of it " + (", ".join(f"{name.rsplit('/', 1)[-1]} {bytes_ / 1024:+.0f} KiB" for name, bytes_ in kept[:5])
                       or "nothing grew")


def worst_gaps(records: Sequence[Any], faults: Sequence[Fault], logs: dict[str, str], least_ms: float,
               most: int = 5) -> list[str]:
    """The longest gaps of all streams, one for each moment: with the faults under way then and what the logs say."""
    gaps = sorted(((end - begin, begin, end) for record in records
                   for begin, end in zip(record.token_times, record.token_times[1:])
                   if 1000 * (end - begin) >= least_ms), reverse=True)
    told: list[tuple[float, float]] = []
    lines: list[str] = []
    for seconds, begin, end in gaps:
        if any(begin < other_end and other_begin < end for other_begin, other_end in told):
            continue
        if len(told) == most:
            break
        told.append((begin, end))
        lines.append(f"gap of {1000 * seconds:.0f} ms, until {clock(end)} UTC")
        lines += [f"  {1000 * (fault.begin - begin):+.0f} ms: {fault.text}" + (
            "" if fault.end > end else f" until {1000 * (fault.end - begin):+.0f} ms") for fault in faults
                  if fault.begin < end and (fault.end >= begin or fault.begin > begin - BEFORE_GAP_SECONDS)]
        said = sorted((line, name) for name, log in logs.items() for line in log.splitlines()
                      if clock(begin - 0.3) <= line[:12] <= clock(end + 0.1))
        lines += [f"  {name}: {line}" for line, name in said[:LOG_LINES]]
    return lines


def clock(monotonic: float) -> str:
    """The wall clock's time of day as logs write it."""
    wall = time.time() - time.monotonic() + monotonic
    return time.strftime("%H:%M:%S", time.gmtime(wall)) + f".{int(wall % 1 * 1000):03d}"
