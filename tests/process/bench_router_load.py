#!/usr/bin/python3
"""Prints what prompts and streams do to each other in a served checkpoint.

    bench_router_load.py --checkpoint DIR [--prompts 2048,32768] [--streams 8] [--runs 3] [--rows streams,chat]
                         [--flag=--threads=2 ...]

streams   --streams sequences decode all the time. In turn: nothing else for a while; a prompt arrives (max_tokens 1); and, on a
          server without streams, the same length of prompt alone. Ratios: p99 (and median) of the time between tokens while the
          prompt is being computed / without it; the prompt's tokens/s beside the streams / alone.
chat      a prompt of 20 tokens arrives while the longest of --prompts is being computed, alone and beside the streams. Its time to the
          first token / (two steps of that moment + what it takes on an idle server).

Left out: tokenizing (prompts are ids), and the prefix cache (every prompt is new). HTTP and this client's threads are inside the
figures, on the server's own cores. Prompts are random ids, so routing is that of random hidden states. A prompt of n tokens is
measured over one arrival a run: of a short one, with few tokens of the streams meanwhile, p99 is nearly the worst.
"""
from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sheaf_server import SheafServer, wait_for  # noqa: E402

QUIET_GAPS = 40  # a stream
CHAT_TOKENS = 20


class Stream(threading.Thread):
    """One streamed completion; when each of its tokens came. Ends with the output, or by leave()."""

    def __init__(self, server: SheafServer, prompt: list[int], max_tokens: int) -> None:
        super().__init__(daemon=True)
        host, _, port = server.ready["http"].rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=3600)
        # With log-probabilities every token has an event, text or not.
        self._body = {"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "temperature": 0, "logprobs": 1,
                      "stream": True}
        self._left = False
        self.began = time.perf_counter()
        self.times: list[float] = []
        self.error: Any = None
        self.start()

    def run(self) -> None:
        try:
            self._connection.request("POST", "/v1/completions", json.dumps(self._body), {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(answer.read()[:300])
            for line in answer:
                if line.startswith(b"data: {"):
                    now = time.perf_counter()
                    choices = json.loads(line[6:])["choices"]
                    tokens = len((choices[0].get("logprobs") or {}).get("tokens", [])) if choices else 0
                    self.times.extend([now] * tokens)
        except Exception as error:  # pylint: disable=broad-except
            if not self._left:
                self.error = error

    def leave(self) -> None:
        self._left = True
        if self._connection.sock:
            self._connection.sock.shutdown(2)
        self.join()

    def first_token_seconds(self) -> float:
        self.join()
        if self.error or not self.times:
            raise RuntimeError(f"no token: {self.error}")
        return self.times[0] - self.began


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Bench:
    def __init__(self, server: SheafServer, vocab: int, streams: int) -> None:
        self.server, self.vocab, self.count = server, vocab, streams
        self.rng = np.random.default_rng()
        self.streams: list[Stream] = []

    def prompt(self, tokens: int) -> list[int]:
        return self.rng.integers(0, min(self.vocab, 4000), size=tokens).tolist()

    def begin_streams(self, max_tokens: int) -> None:
        self.streams = [Stream(self.server, self.prompt(8), max_tokens) for _ in range(self.count)]
        wait_for(lambda: all(len(s.times) > 8 for s in self._alive()), 600, "all streams decode")

    def end_streams(self) -> None:
        for stream in self.streams:
            stream.leave()
        self.streams = []
        wait_for(lambda: self.server.metric("sheaf_requests_running") == 0, 60, "the streams are gone")

    def _alive(self) -> list[Stream]:
        for stream in self.streams:
            if stream.error or not stream.is_alive():
                raise RuntimeError(f"a stream ended after {len(stream.times)} tokens: {stream.error}")
        return self.streams

    def gaps(self, begin: float, end: float) -> list[float]:
        """Times between tokens that lie, in part, between two moments."""
        return [b - a for s in self._alive() for a, b in zip(s.times, s.times[1:]) if b > begin and a < end]

    def quiet(self) -> list[float]:
        counts = [len(s.times) for s in self._alive()]
        begin = time.perf_counter()
        wait_for(lambda: all(len(s.times) >= n + QUIET_GAPS for s, n in zip(self._alive(), counts)), 600, "quiet tokens")
        return self.gaps(begin, time.perf_counter())

    def mean_step_seconds(self, before: tuple[float, float]) -> float:
        steps, seconds = self.steps()
        return (seconds - before[1]) / max(1.0, steps - before[0])

    def steps(self) -> tuple[float, float]:
        return (self.server.metric("sheaf_step_duration_seconds_count"), self.server.metric("sheaf_step_duration_seconds_sum"))

    def row_streams(self, lengths: list[int], runs: int) -> None:
        for length in lengths:
            alone, beside, p99, p50, quiet_ms, busy_ms = [], [], [], [], [], []
            for _ in range(runs):
                alone.append(length / Stream(self.server, self.prompt(length), 1).first_token_seconds())
                self.begin_streams(max_tokens=100000)
                quiet = self.quiet()
                began = time.perf_counter()
                seconds = Stream(self.server, self.prompt(length), 1).first_token_seconds()
                busy = self.gaps(began, began + seconds)
                quiet += self.quiet()
                self.end_streams()
                beside.append(length / seconds)
                p99.append(percentile(busy, 0.99) / percentile(quiet, 0.99))
                p50.append(percentile(busy, 0.5) / percentile(quiet, 0.5))
                quiet_ms.append(percentile(quiet, 0.5) * 1e3)
                busy_ms.append(percentile(busy, 0.99) * 1e3)
            rates = [b / a for a, b in zip(alone, beside)]
            print(f"prompt of {length} beside {self.count} streams: gap p99 {statistics.median(p99):.2f}x (of {min(p99):.2f} to "
                  f"{max(p99):.2f}), median {statistics.median(p50):.2f}x of the quiet {statistics.median(quiet_ms):.1f} ms, worst "
                  f"p99 {max(busy_ms):.1f} ms; prefill {statistics.median(rates):.2f}x of {statistics.median(alone):.0f} tokens/s "
                  f"alone", flush=True)

    def row_chat(self, length: int, runs: int) -> None:
        for streams in (0, self.count):
            ratios, first, idle = [], [], []
            for _ in range(runs):
                own = Stream(self.server, self.prompt(CHAT_TOKENS), 1).first_token_seconds()
                self.count, count = streams, self.count
                self.begin_streams(max_tokens=100000)
                before = self.server.metric("sheaf_prompt_tokens_total")
                long = Stream(self.server, self.prompt(length), 1)
                wait_for(lambda: self.server.metric("sheaf_prompt_tokens_total") > before, 600, "the long prompt is under way")
                steps = self.steps()
                chat = Stream(self.server, self.prompt(CHAT_TOKENS), 1).first_token_seconds()
                step = self.mean_step_seconds(steps)
                if not long.is_alive():
                    raise RuntimeError("the long prompt had ended: take a longer one")
                long.leave()
                self.end_streams()
                self.count = count
                ratios.append(chat / (2 * step + own))
                first.append(chat * 1e3)
                idle.append(own * 1e3)
            print(f"chat of {CHAT_TOKENS} tokens in a prompt of {length}, {streams} streams: first token after "
                  f"{statistics.median(first):.0f} ms (idle {statistics.median(idle):.0f} ms) = {statistics.median(ratios):.2f}x of two "
                  f"steps and its own work (worst {max(ratios):.2f}x)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--prompts", default="2048")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rows", default="streams,chat")
    parser.add_argument("--flag", action="append", default=[], help="further flag of `sheaf serve`, repeatable")
    arguments = parser.parse_args()
    lengths = [int(length) for length in arguments.prompts.split(",")]
    config = json.loads((arguments.checkpoint / "config.json").read_text())
    with SheafServer(arguments.checkpoint, *arguments.flag) as server:
        bench = Bench(server, config["vocab_size"], arguments.streams)
        server.completion(prompt=bench.prompt(64), max_tokens=8, ignore_eos=True)
        if "streams" in arguments.rows:
            bench.row_streams(lengths, arguments.runs)
        if "chat" in arguments.rows:
            bench.row_chat(max(lengths), arguments.runs)
        ratio = server.metric("sheaf_step_time_ratio_sum") / max(1, server.metric("sheaf_step_time_ratio_count"))
        print(f"steps took {ratio:.3f}x of what was predicted, in the mean; the last target was "
              f"{server.metric('sheaf_step_target_seconds') * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
