#!/usr/bin/python3
"""Prints what the prefix cache does for agents' conversations: hit rate, time to first token with and without, bytes.

    bench_prefix_cache.py --checkpoint DIR [--sessions 8] [--turns 20] [--tokens 16000] [--answer 24] [--shared 0.12]
                          [--flag=--threads=2 ...]

Every session begins with the same instructions (--shared of --tokens), then each turn adds something new and an answer of
--answer tokens, up to --tokens in the last turn. The sessions go on side by side, a turn of all of them at a time. Two
servers are up, with and without the cache, and take each turn one after the other, the order changing from turn to turn;
so both see the same minutes of the machine. Prompts are token ids; the time to first token is that of the first event.

Left out: a client's own time between turns; other traffic that would evict what a session comes back for.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sheaf_server import SheafServer  # noqa: E402


@dataclass
class Arm:
    server: SheafServer
    first_token_ms: list[list[float]] = field(default_factory=list)  # [turn][session]
    prompt_tokens: int = 0
    cached_tokens: int = 0


def ask(server: SheafServer, prompt: list[int], max_tokens: int) -> tuple[float, list[int], dict[str, object]]:
    """Milliseconds to the first token, the answer's ids, usage."""
    start = time.perf_counter()
    first, ids, usage = 0.0, [], {}
    for event in server.events("/v1/completions", prompt=prompt, max_tokens=max_tokens, temperature=0, ignore_eos=True,
                               return_token_ids=True, stream_options={"include_usage": True}):
        for choice in event["choices"]:
            if choice.get("token_ids"):
                first = first or (time.perf_counter() - start) * 1e3
                ids += choice["token_ids"]
        usage = event.get("usage") or usage
    return first, ids, usage


def take_turn(arm: Arm, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
    with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
        results = list(pool.map(lambda prompt: ask(arm.server, prompt, max_tokens), prompts))
    arm.first_token_ms.append([first for first, _, _ in results])
    for _, _, usage in results:
        arm.prompt_tokens += usage["prompt_tokens"]
        arm.cached_tokens += usage["prompt_tokens_details"]["cached_tokens"]
    return [ids for _, ids, _ in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=16000, help="of the last turn, answer included")
    parser.add_argument("--answer", type=int, default=24)
    parser.add_argument("--shared", type=float, default=0.12, help="share of --tokens that all sessions begin with")
    parser.add_argument("--vocab", type=int, default=512, help="prompts are ids below it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--flag", action="append", default=[], help="of sheaf serve")
    args = parser.parse_args()
    flags = ["--workers", "0", *args.flag]
    rng = np.random.default_rng(args.seed)
    instructions = rng.integers(0, args.vocab, size=int(args.tokens * args.shared)).tolist()
    added = (args.tokens - len(instructions)) // args.turns - args.answer
    prompts = [list(instructions) for _ in range(args.sessions)]
    equal = True
    with SheafServer(args.checkpoint, *flags) as on, \
            SheafServer(args.checkpoint, *flags, "--no-enable-prefix-caching") as off:
        arms = [Arm(on), Arm(off)]
        for arm in arms:
            arm.server.patience_seconds = 3600
            ask(arm.server, rng.integers(0, args.vocab, size=40).tolist(), 4)  # warms up
        for turn in range(args.turns):
            prompts = [prompt + rng.integers(0, args.vocab, size=added).tolist() for prompt in prompts]
            answers = {i: take_turn(arms[i], prompts, args.answer) for i in ((0, 1) if turn % 2 else (1, 0))}
            equal = equal and answers[0] == answers[1]
            prompts = [prompt + answer for prompt, answer in zip(prompts, answers[0])]
            medians = [statistics.median(arm.first_token_ms[-1]) for arm in arms]
            print(f"turn {turn + 1:2}: prompts of {len(prompts[0]) - args.answer:6} tokens, first token: "
                  f"{medians[0]:9.1f} ms with, {medians[1]:9.1f} ms without ({medians[1] / medians[0]:.2f}x)", flush=True)
    with_cache, without = arms
    print(f"hit rate: {with_cache.cached_tokens / with_cache.prompt_tokens:.3f} of {with_cache.prompt_tokens} prompt tokens")
    for name, turns in (("all turns", slice(None)), ("from the second on", slice(1, None)),
                        ("last quarter", slice(-max(1, args.turns // 4), None))):
        a, b = ([ms for row in arm.first_token_ms[turns] for ms in row] for arm in arms)
        print(f"time to first token, {name}: mean {statistics.mean(a):.1f} ms with, {statistics.mean(b):.1f} ms without "
              f"({statistics.mean(b) / statistics.mean(a):.2f}x); median {statistics.median(a):.1f} / "
              f"{statistics.median(b):.1f} ({statistics.median(b) / statistics.median(a):.2f}x)")
    print("bytes equal" if equal else "BYTES DIFFER")
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
