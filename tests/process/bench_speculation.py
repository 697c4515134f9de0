#!/usr/bin/python3
"""Prints what prompt lookup drafts (--speculative-config) bring: tokens/s with them over tokens/s without, and whether the bytes
are the same.

    bench_speculation.py [--checkpoint checkpoints/sheaf-nano-120] [--pairs 12] [--rounds 8] [--sequences 1,8] [--tokens 8]
                         [--workers 0] [--flag=F]

Two servers of one binary, one with drafts; both are up all the time and only one is asked at a time, each pair of turns begins
with the other one. Loads:

    edit     a conversation in which a record is written as JSON and then again with one value changed, several times; the next
             such answer is timed: most of it stands in the prompt
    answers  the same model's questions without a repetition: drafts seldom come true
    random   random ids, temperature 1: there is nothing to draft from, and what it costs to look

Two ratios: `whole` is tokens/s by the clients' clock, with prompts, JSON and HTTP inside; `decode` is tokens over the time between the
first and the last token of each answer, by the servers' own sheaf_sequence_decode_seconds. Left out: the first round of each life.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import random
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sheaf_server import ROOT, SheafServer  # noqa: E402

CONFIG = {"method": "ngram", "prompt_lookup_max": 4, "prompt_lookup_min": 2}
NAMES = ["Belka", "Velorin", "Mira", "Zorvik", "Tarn", "Oskel"]
PLACES = ["Tarvo", "Lindu", "Karst", "Ombra", "Velde", "Nira"]


def edit_prompt(rng: random.Random) -> str:
    """A chat of several turns, as the checkpoint's template writes it, without thoughts."""
    name, age, place = rng.choice(NAMES), rng.randrange(20, 90), rng.choice(PLACES)
    text = "[gMASK]<sop>"
    for turn in range(5):
        text += f"<|user|>\nWrite a person as JSON with name {name}, age {age} and city {place}./nothink<|assistant|>\n<think></think>"
        if turn < 4:
            text += "\n" + json.dumps({"name": name, "age": age, "city": place})
            age += 1
    return text


def question_prompt(rng: random.Random) -> str:
    first, second = rng.randrange(10, 99), rng.randrange(10, 99)
    return f"[gMASK]<sop><|user|>\nWhat is {first} + {second}?<|assistant|>"


def bodies(load: str, sequences: int, seed: int, vocabulary: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    made = []
    for _ in range(sequences):
        if load == "random":
            prompt: Any = [rng.randrange(vocabulary) for _ in range(64)]
            made.append({"prompt": prompt, "max_tokens": 64, "temperature": 1, "seed": rng.randrange(1 << 30), "ignore_eos": True})
        else:
            prompt = edit_prompt(rng) if load == "edit" else question_prompt(rng)
            made.append({"prompt": prompt, "max_tokens": 64, "temperature": 0, "add_special_tokens": False})
    return made


@dataclass
class Turn:
    whole_rate: float  # tokens/s
    decode_rate: float  # tokens/s of a sequence, after its first
    texts: list[str]


def turn(server: SheafServer, rounds: list[list[dict[str, Any]]], pool: concurrent.futures.Executor) -> Turn:
    begin, tokens, texts = time.perf_counter(), 0, []
    decoded_before = decode_seconds(server)
    for requests in rounds:
        for answer in pool.map(lambda body: server.completion(**body), requests):
            tokens += answer["usage"]["completion_tokens"]
            texts.append(answer["choices"][0]["text"])
    seconds = time.perf_counter() - begin
    return Turn(tokens / seconds, (tokens - len(texts)) / (decode_seconds(server) - decoded_before), texts)


def decode_seconds(server: SheafServer) -> float:
    return sum(float(line.split()[-1]) for line in server.get("/metrics").splitlines()
               if line.startswith("sheaf_sequence_decode_seconds_sum"))


def accepted(server: SheafServer) -> tuple[float, float]:
    lines = server.get("/metrics").splitlines()
    true = sum(float(line.split()[-1]) for line in lines if line.startswith("sheaf_speculation_accepted_tokens_total"))
    drafted = sum(float(line.split()[-1]) for line in lines if line.startswith("sheaf_speculation_draft_tokens_total"))
    return true, drafted


def column(pairs: list[tuple[float, float]]) -> str:
    low, middle, high = statistics.quantiles([after / before for before, after in pairs], n=4)
    return (f"{statistics.median(a for a, _ in pairs):8.0f} {statistics.median(b for _, b in pairs):6.0f}: "
            f"{middle:.3f} ({low:.3f} {high:.3f})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints/sheaf-nano-120")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--sequences", default="1,8")
    parser.add_argument("--loads", default="edit,answers,random")
    parser.add_argument("--workers", default="0")
    parser.add_argument("--flag", action="append", default=[], help="of both servers, e.g. --flag=--threads=1")
    parser.add_argument("--tokens", type=int, default=8, help="num_speculative_tokens")
    options = parser.parse_args()
    vocabulary = json.loads((options.checkpoint / "config.json").read_text())["vocab_size"]
    common = ["--workers", options.workers, "--no-enable-prefix-caching", *options.flag]
    different = 0
    print(f"{os.environ.get('SHEAF_BINARY', 'build/release/sheaf')}: {options.pairs} pairs of {options.rounds} rounds")
    print("load     sequences  whole without, with: ratio (quartiles)   decode without, with: ratio (quartiles)   drafts that came true")
    with SheafServer(options.checkpoint, *common) as plain, \
            SheafServer(options.checkpoint, *common, "--speculative-config", json.dumps({**CONFIG, "num_speculative_tokens": options.tokens})) as drafting, \
            concurrent.futures.ThreadPoolExecutor(64) as pool:
        for load in options.loads.split(","):
            for sequences in map(int, options.sequences.split(",")):
                turn(plain, [bodies(load, sequences, 0, vocabulary)], pool)
                turn(drafting, [bodies(load, sequences, 0, vocabulary)], pool)
                before, turns = accepted(drafting), []
                for pair in range(options.pairs):
                    rounds = [bodies(load, sequences, 1000 * pair + i + 1, vocabulary) for i in range(options.rounds)]
                    order = [plain, drafting] if pair % 2 == 0 else [drafting, plain]
                    results = {id(server): turn(server, rounds, pool) for server in order}
                    turns.append((results[id(plain)], results[id(drafting)]))
                    different += sum(a != b for a, b in zip(turns[-1][0].texts, turns[-1][1].texts))
                after = accepted(drafting)
                true, drafted = after[0] - before[0], after[1] - before[1]
                whole = column([(a.whole_rate, b.whole_rate) for a, b in turns])
                decode = column([(a.decode_rate, b.decode_rate) for a, b in turns])
                print(f"{load:8} {sequences:9}  {whole}   {decode}   {true:.0f} of {drafted:.0f}", flush=True)
    print(f"answers that differ: {different}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
