#!/usr/bin/python3
"""A server with ten times the load that it can carry, a third of it with deadlines; and a burst of a thousand.

    bench_overload.py [--checkpoint checkpoints/sheaf-nano-120] [--seconds 180] [--times 10]

1. Burst: --burst requests at once at the default flags: none may be refused.
2. Best: as many clients as slots, each with one request after the other: answers a second.
3. Overload: requests come at --times that rate for --seconds, whatever becomes of them; of a third the client gives up
   by a gRPC deadline of one to four times what an answer takes in 2. Goodput: answers that came in time, against 2 (which
   is measured before and after). Refusals: how long they took. Prefilled and not answered: by the server's counter of
   prompt tokens; those whose deadline passed while they ran, and those that the clients left at the end.
4. Afterwards: the clients leave at once; how long until one request takes no more than twice its time on the quiet server.

Left out: the client shares the machine's cores with the server, so the rates are lower than the server's own; the best
rate is measured with the same client. Requests whose client left at the end are in no figure.
"""
from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parent))
from load_clients import allow_many_connections, percentile, post, remember_address, resident_mb  # noqa: E402
from sheaf_grpc import pb, tokens_request  # noqa: E402
from sheaf_server import ROOT, SheafServer  # noqa: E402

PROMPT, OUTPUT = 48, 64  # tokens


class Load:
    def __init__(self, server: SheafServer, seed: int) -> None:
        self.server, self.rng = server, random.Random(seed)
        self.channel = grpc.aio.insecure_channel(server.grpc)
        self.call = self.channel.unary_stream("/sheaf.v1.Inference/Generate",
                                              request_serializer=pb.GenerateRequest.SerializeToString,
                                              response_deserializer=pb.GenerateResponse.FromString)
        self.ends: Counter[str] = Counter()
        self.refusals: list[float] = []
        self.retry_after: Counter[str] = Counter()

    def prompt(self) -> list[int]:
        return [self.rng.randrange(1000) for _ in range(PROMPT)]

    async def http(self) -> float | None:
        """Seconds of an answer; None: refused."""
        answer = await post(self.server, "/v1/completions", {"prompt": self.prompt(), "max_tokens": OUTPUT,
                                                             "ignore_eos": True, "temperature": 0})
        if answer.status == 200:
            self.ends["answered"] += 1
            return answer.seconds
        self.ends[f"refused {answer.status}"] += 1
        self.retry_after[answer.headers.get("retry-after", "none")] += 1
        self.refusals.append(answer.seconds)
        return None

    async def with_deadline(self, seconds: float) -> None:
        began = time.monotonic()
        try:
            async for _ in self.call(tokens_request(self.prompt(), OUTPUT), timeout=seconds):
                pass
            self.ends["answered in time"] += 1
        except grpc.aio.AioRpcError as error:
            took = time.monotonic() - began
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and "cannot end in time" in (error.details() or ""):
                self.ends["refused: too late"] += 1
                self.refusals.append(took)
            elif error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                self.ends["deadline passed"] += 1
            elif error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.ends["refused 503"] += 1
                self.refusals.append(took)
            else:
                self.ends[error.code().name] += 1


async def best_rate(load: Load, clients: int, seconds: float) -> tuple[float, float]:
    """Answers a second, seconds an answer."""
    times: list[float] = []
    stop_at = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < stop_at:
            took = await load.http()
            assert took is not None
            times.append(took)
    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    return len(times) / (time.monotonic() - began), statistics.median(times)


async def burst(load: Load, count: int) -> None:
    began = time.monotonic()
    took = await asyncio.gather(*(load.http() for _ in range(count)))
    print(f"{count} at once: {sum(t is not None for t in took)} answered, {sum(t is None for t in took)} refused, "
          f"in {time.monotonic() - began:.1f} s", flush=True)


async def overload(load: Load, rate: float, answer_seconds: float, seconds: float) -> set[asyncio.Task]:
    """Those still under way at the end."""
    tasks: set[asyncio.Task] = set()
    began, number = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        while number < now * rate:
            number += 1
            work = (load.with_deadline(answer_seconds * load.rng.uniform(1, 4)) if number % 3 == 0 else load.http())
            task = asyncio.create_task(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.005)
    return set(tasks)


async def measure(server: SheafServer, arguments: argparse.Namespace) -> None:
    times, seconds, slots = arguments.times, arguments.seconds, arguments.slots
    load = Load(server, arguments.seed)
    quiet = statistics.median([await load.http() or 0 for _ in range(10)])
    await burst(load, arguments.burst)
    best, answer_seconds = await best_rate(load, slots, min(20, seconds))
    print(f"best: {best:.1f} answers/s ({best * OUTPUT:.0f} tokens/s), {answer_seconds:.2f} s an answer", flush=True)
    before = resident_mb(server)
    computed = server.metric("sheaf_prompt_tokens_total")
    load.ends.clear(), load.refusals.clear(), load.retry_after.clear()
    began = time.monotonic()
    under_way = await overload(load, times * best, answer_seconds, seconds)
    took = time.monotonic() - began
    during = resident_mb(server)
    ends, good = dict(load.ends), load.ends["answered"] + load.ends["answered in time"]
    prefilled = (server.metric("sheaf_prompt_tokens_total") - computed) / PROMPT
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    left = time.monotonic()
    while (once := await load.http()) is None or once > 2 * quiet:
        assert time.monotonic() - left < 60, "it does not become normal"
    normal = time.monotonic() - left - once
    print(f"overload {times:.0f}x for {took:.0f} s: {ends}; at the end {len(under_way)} were under way")
    print(f"refusals: median {percentile(load.refusals, 0.5) * 1e3:.1f} ms, p99 "
          f"{percentile(load.refusals, 0.99) * 1e3:.1f} ms; Retry-After {dict(load.retry_after)}")
    print(f"normal again {normal:.2f} s after the clients left (quiet: {quiet:.2f} s a request)")
    again, _ = await best_rate(load, slots, min(20, seconds))
    print(f"goodput: {good / took:.1f} answers/s = {good / took / ((best + again) / 2):.3f} of the best "
          f"({best:.1f} before, {again:.1f} after)")
    print(f"RSS: {before:.0f} MB before, {during:.0f} MB at the end of it, {resident_mb(server):.0f} MB now")
    refused = {cause: server.metric("sheaf_requests_refused_total", cause=cause)
               for cause in ("full", "too_late", "never_fits")}
    print(f"prefilled {prefilled:.0f}, answered {good}: {prefilled - good:.0f} not answered, of {slots} that run at the end "
          f"and those whose deadline passed while they ran; the server refused {refused}")
    await load.channel.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints/sheaf-nano-120")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--burst", type=int, default=1000)
    parser.add_argument("--times", type=float, default=10)
    parser.add_argument("--slots", type=int, default=64, help="the server's --max-num-seqs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--flag", action="append", default=[], help="further flag of `sheaf serve`, repeatable")
    arguments = parser.parse_args()
    allow_many_connections()
    with SheafServer(arguments.checkpoint, "--workers", "0", "--max-num-seqs", str(arguments.slots),
                     *arguments.flag) as server:
        remember_address(server)
        asyncio.run(measure(server, arguments))


if __name__ == "__main__":
    main()
