#!/usr/bin/python3
"""Prints how fast one binary serves a checkpoint against another one: medians of the ratios of pairs, with quartiles.

    bench_pairs.py --checkpoint DIR --before BINARY --after BINARY [--sequences 1,8,32] [--prompt-tokens 8]
                   [--answer-tokens 512] [--workers 2] [--pairs 20] [--lives 4] [--seconds 3]
                   [--flag=F] [--before-flag=F] [--after-flag=F]

Both servers run at the same time, each with its workers, and only one of them is asked at a time. A pair is the same load
on the one and then on the other, and the next pair begins with the other, so that a machine which slows down or speeds up
counts for both. The load of a turn: so many sequences at once, greedy, from random prompts, all to the same length, again
and again, as often as --before took --seconds for; the same work for both. With --lives N the servers start N times, since
where the pages of one life happened to lie is part of every turn of that life.

Columns: tokens/s of all sequences (medians), the ratio after / before of the pairs (quartiles and range), the ratio of
processor time a token of the servers' processes (less is better; other programs disturb it less than the time), and what
else ran: the share of the machine that neither the measured server nor this program took during the turns, its thieves
under a hypervisor included, and the most processor time that the server which had nothing to do took.

Left out: the first round of each life (warm-up); loading; the time to the first token as such (a round's prefill of the
short prompt is inside its time); streaming (answers come whole, since a client that reads every token would take the
cores that are measured). Prompts are random ids, so routing is that of random hidden states.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Protocol, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent))
from pool_faults import cpu_seconds  # noqa: E402
from sheaf_server import SheafServer  # noqa: E402

PATIENCE_SECONDS = 600.0


class Side(Protocol):
    """What is measured: an HTTP address, and the processor time of all that answers there."""
    name: str

    def address(self) -> str: ...

    def cpu(self) -> float: ...


class BinarySide(SheafServer):
    """A server of this binary, which may be older than flags that tests give."""

    def __init__(self, name: str, binary: Path, checkpoint: Path, flags: Sequence[str]) -> None:
        super().__init__(checkpoint, *flags)
        self.name, self.binary = name, binary

    def command(self) -> list[str]:
        known = subprocess.run([self.binary, "serve", "--help"], capture_output=True, text=True, check=True).stdout
        words, kept = super().command()[1:], []
        while words:
            word = words.pop(0)
            if word == "--cluster-port" and word not in known:
                words.pop(0)
            else:
                kept.append(word)
        return [str(self.binary), *kept]

    def address(self) -> str:
        return self.ready["http"]

    def cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in (self.pid, *self.worker_pids()))


@dataclass(frozen=True)
class Load:
    prompts: list[list[int]]  # one for each sequence
    tokens: int               # of each answer; 1: prefill is measured
    rounds: int
    temperature: float = 0

    def counted(self) -> int:
        """Tokens of all rounds: of the answers, or of the prompts where an answer is one token."""
        each = self.tokens if self.tokens > 1 else len(self.prompts[0])
        return len(self.prompts) * each * self.rounds


@dataclass(frozen=True)
class Turn:
    tokens_per_second: float
    cpu_us_per_token: float
    others: float  # share of the machine
    idle_cpu: float  # seconds that the other server took


@dataclass(frozen=True)
class Pair:
    before: Turn
    after: Turn

    @property
    def ratio(self) -> float:
        return self.after.tokens_per_second / self.before.tokens_per_second

    @property
    def cpu_ratio(self) -> float:
        return self.after.cpu_us_per_token / self.before.cpu_us_per_token


def busy_seconds() -> float:
    """Of all processors together since boot, stolen time included."""
    fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _, _, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def play(side: Side, load: Load, pool: concurrent.futures.Executor) -> None:
    """The load once, to its end. RuntimeError where an answer is not what was asked for."""
    host, port = side.address().rsplit(":", 1)

    def ask(prompt: list[int]) -> None:
        body = {"prompt": prompt, "max_tokens": load.tokens, "temperature": load.temperature, "ignore_eos": True}
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_SECONDS)
        try:
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != 200 or json.loads(text)["usage"]["completion_tokens"] != load.tokens:
            raise RuntimeError(f"{side.name}: HTTP {response.status}: {text[:300]!r}")

    for _ in range(load.rounds):
        list(pool.map(ask, load.prompts))


def take_turn(side: Side, idle: Side, load: Load, pool: concurrent.futures.Executor) -> Turn:
    def own() -> float:
        return side.cpu() + time.process_time()

    start, own_before, busy, cpu, idle_cpu = time.perf_counter(), own(), busy_seconds(), side.cpu(), idle.cpu()
    play(side, load, pool)
    seconds = time.perf_counter() - start
    tokens = load.counted()
    others = max(0.0, busy_seconds() - busy - (own() - own_before)) / (seconds * (os.cpu_count() or 1))
    return Turn(tokens / seconds, 1e6 * (side.cpu() - cpu) / tokens, others, idle.cpu() - idle_cpu)


def sized_load(side: Side, prompts: list[list[int]], tokens: int, seconds: float,
               pool: concurrent.futures.Executor) -> Load:
    """As many rounds as this server does in that time; one, cut short, where a whole one takes longer."""
    trial = Load(prompts, min(32, tokens), 1)
    play(side, trial, pool)
    start = time.perf_counter()
    play(side, trial, pool)
    in_time = seconds * trial.tokens / (time.perf_counter() - start)  # tokens of a sequence
    if in_time < tokens:
        return Load(prompts, max(min(4, tokens), int(in_time)), 1)
    return Load(prompts, tokens, round(in_time / tokens))


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def report(count: int, load: Load, pairs: Sequence[Pair]) -> dict[str, Any]:
    low, middle, high = quartiles([pair.ratio for pair in pairs])
    cpu_low, cpu, cpu_high = quartiles([pair.cpu_ratio for pair in pairs])
    turns = [turn for pair in pairs for turn in (pair.before, pair.after)]
    return {
        "sequences": count, "pairs": len(pairs), "tokens_a_turn": load.counted(),
        "before_tokens_per_second": statistics.median(pair.before.tokens_per_second for pair in pairs),
        "after_tokens_per_second": statistics.median(pair.after.tokens_per_second for pair in pairs),
        "ratio": middle, "ratio_quartiles": [low, high],
        "ratio_range": [min(pair.ratio for pair in pairs), max(pair.ratio for pair in pairs)],
        "cpu_ratio": cpu, "cpu_ratio_quartiles": [cpu_low, cpu_high],
        "others": statistics.median(turn.others for turn in turns), "idle_cpu_most": max(turn.idle_cpu for turn in turns),
    }


HEAD = ("| sequences | pairs | before | after | ratio | quartiles | range | processor time a token | quartiles | others "
        "| idle server |\n|" + "---|" * 11)


def print_row(row: dict[str, Any]) -> None:
    def two(values: Sequence[float]) -> str:
        return f"{values[0]:.3f}-{values[1]:.3f}"
    print(f"| {row['sequences']} | {row['pairs']} | {row['before_tokens_per_second']:.1f} | "
          f"{row['after_tokens_per_second']:.1f} | {row['ratio']:.3f} | {two(row['ratio_quartiles'])} | "
          f"{two(row['ratio_range'])} | {row['cpu_ratio']:.3f} | {two(row['cpu_ratio_quartiles'])} | "
          f"{100 * row['others']:.0f} % | {row['idle_cpu_most']:.2f} s |", flush=True)


@contextlib.contextmanager
def two_binaries(arguments: argparse.Namespace) -> Iterator[tuple[Side, Side]]:
    with contextlib.ExitStack() as stack:
        before, after = (stack.enter_context(BinarySide(name, binary, arguments.checkpoint, [
            "--workers", str(arguments.workers), *arguments.flag, *flags])) for name, binary, flags in (
                ("before", arguments.before, arguments.before_flag), ("after", arguments.after, arguments.after_flag)))
        yield before, after


Sides = Callable[[argparse.Namespace], contextlib.AbstractContextManager[tuple[Side, Side]]]


def measure(arguments: argparse.Namespace, sides: Sides) -> Iterator[dict[str, Any]]:
    """A row for each number of sequences, from pairs of all lives. sides: starts both, and ends them."""
    vocabulary = json.loads((arguments.checkpoint / "config.json").read_text())["vocab_size"]
    rng, counts = random.Random(1), [int(word) for word in arguments.sequences.split(",")]
    prompts = [[rng.randrange(min(vocabulary, 4000)) for _ in range(arguments.prompt_tokens)]
               for _ in range(max(counts))]
    loads: dict[int, Load] = {}
    pairs: dict[int, list[Pair]] = {count: [] for count in counts}
    try:
        for life in range(arguments.lives):
            one_life(arguments, sides, life, {count: prompts[:count] for count in counts}, loads, pairs)
    except KeyboardInterrupt:
        print("interrupted: the pairs so far", file=sys.stderr)
    for count in counts:
        if pairs[count]:
            yield report(count, loads[count], pairs[count])


def one_life(arguments: argparse.Namespace, sides: Sides, life: int, prompts: dict[int, list[list[int]]],
             loads: dict[int, Load], pairs: dict[int, list[Pair]]) -> None:
    """Its share of the pairs of every number of sequences. Sizes the loads in the first life."""
    per_life = -(-arguments.pairs // arguments.lives)
    with sides(arguments) as (first, second), concurrent.futures.ThreadPoolExecutor(max(prompts)) as pool:
        for count, own_prompts in prompts.items():
            if count not in loads:
                loads[count] = sized_load(first, own_prompts, arguments.answer_tokens, arguments.seconds, pool)
            for side in (first, second):
                play(side, Load(own_prompts, loads[count].tokens, 1), pool)
            for i in range(min(per_life, arguments.pairs - len(pairs[count]))):
                order = (first, second) if (life + i) % 2 == 0 else (second, first)
                turns = {side.name: take_turn(side, idle, loads[count], pool)
                         for side, idle in (order, order[::-1])}
                pair = Pair(turns[first.name], turns[second.name])
                pairs[count].append(pair)
                if arguments.verbose:
                    print(f"  {count} sequences, life {life}: {pair.before.tokens_per_second:.1f} and "
                          f"{pair.after.tokens_per_second:.1f}, {pair.ratio:.3f}", file=sys.stderr, flush=True)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What measure() wants."""
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--sequences", default="1,8,32", help="how many at once, a row for each")
    parser.add_argument("--prompt-tokens", type=int, default=8)
    parser.add_argument("--answer-tokens", type=int, default=512, help="at most; 1: tokens/s are those of the prompts")
    parser.add_argument("--workers", type=int, default=2, help="of each server")
    parser.add_argument("--pairs", type=int, default=20, help="of each row")
    parser.add_argument("--lives", type=int, default=4, help="how often both servers start; the pairs are split evenly")
    parser.add_argument("--seconds", type=float, default=3, help="about what a turn takes")
    parser.add_argument("--flag", action="append", default=[], help="further flag of both, repeatable")
    parser.add_argument("--verbose", action="store_true", help="every pair on stderr")
    parser.add_argument("--json", action="store_true", help="one JSON object a row instead of the table")


def show(arguments: argparse.Namespace, rows: Iterator[dict[str, Any]]) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was measured is shown, and all servers end
    if not arguments.json:
        print(HEAD, flush=True)
    for row in rows:
        print(json.dumps(row), flush=True) if arguments.json else print_row(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="binary; may be the same as --after")
    parser.add_argument("--after", type=Path, required=True)
    parser.add_argument("--before-flag", action="append", default=[])
    parser.add_argument("--after-flag", action="append", default=[])
    add_flags(parser)
    arguments = parser.parse_args()
    arguments.before, arguments.after = arguments.before.resolve(), arguments.after.resolve()
    show(arguments, measure(arguments, two_binaries))


if __name__ == "__main__":
    main()
