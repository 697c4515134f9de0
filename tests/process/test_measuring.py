"""The measuring programs say what they should: pairs of two binaries, and what was under way at a long gap."""
from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pool_soak import Fault, Sample, clock, growth, slope_mib_per_hour, worst_gaps
from sheaf_server import BINARY


def pairs(checkpoint: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("bench_pairs.py")), "--checkpoint", str(checkpoint), "--before", BINARY,
         "--after", BINARY, "--sequences", "1,4", "--pairs", "3", "--lives", "2", "--seconds", "0.2", "--workers", "1", "--json",
         *flags], capture_output=True, text=True, timeout=300, check=False)


def test_a_binary_against_itself_with_one_thread_more(tiny: Path) -> None:
    done = pairs(tiny, "--before-flag=--threads=1", "--after-flag=--threads=2")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["sequences"], row["pairs"]) for row in rows] == [(1, 3), (4, 3)]
    for row in rows:
        low, high = row["ratio_quartiles"]
        assert row["ratio_range"][0] <= low <= row["ratio"] <= high <= row["ratio_range"][1]
        assert 0.05 < row["ratio"] < 20 and 0.05 < row["cpu_ratio"] < 20, row
        assert row["before_tokens_per_second"] > 0 and 0 <= row["others"] <= 1, row


def test_answers_that_are_not_what_was_asked_for_are_no_figure(tiny: Path) -> None:
    done = pairs(tiny, "--prompt-tokens", "5000")
    assert done.returncode != 0 and "HTTP 400" in done.stderr and done.stdout == ""


@dataclass
class Stream:
    token_times: list[float]


def test_a_long_gap_is_told_with_its_faults_and_log_lines_once() -> None:
    streams = [Stream([10.0, 10.1, 12.0]), Stream([10.05, 11.9]), Stream([20.0, 20.5])]
    faults = [Fault(1.0, "long ago", 2.0), Fault(1.0, "still slow"), Fault(10.2, "kill worker3", 11.2), Fault(15.0, "later", 16.0)]
    logs = {"router0": f"{clock(10.3)} W lost it\n{clock(30.0)} I later still\n"}
    told = "\n".join(worst_gaps(streams, faults, logs, least_ms=600))
    assert told.count("gap of") == 1 and "gap of 1900 ms" in told
    assert "still slow" in told and "+100 ms: kill worker3 until +1100 ms" in told and "router0" in told
    assert "long ago" not in told and "later" not in told
    assert "gap of 500 ms" in "\n".join(worst_gaps(streams, faults, logs, least_ms=500))


@pytest.mark.parametrize(("before", "after", "said"), [
    ({"[heap]": 1 << 20, "/usr/lib/x.so": 1 << 20}, {"[heap]": 3 << 20, "/usr/lib/x.so": 1 << 20}, "of it [heap] +2048 KiB"),
    ({"a": 100}, {"a": 200}, "of it nothing grew"),
    ({"/memfd:lane": 1 << 16}, {}, "of it memfd:lane -64 KiB"),
])
def test_what_grew_is_named(before: dict[str, int], after: dict[str, int], said: str) -> None:
    assert growth(before, after) == said


def test_experts_that_come_and_go_are_no_slope() -> None:
    rows = [Sample(float(t), (40 << 20) + (2 << 20) * t // 3600 + (experts := t * 7 % 300) * 55_000, 0, experts, 10, 10)
            for t in range(1200)]
    assert slope_mib_per_hour(rows) == pytest.approx(2, abs=0.05)
    routers = [Sample(float(t), (40 << 20) + (5 << 20) * t // 3600, 0, 0, 10, 10) for t in range(1200)]
    assert slope_mib_per_hour(routers) == pytest.approx(5, abs=0.05)
