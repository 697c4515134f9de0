#!/usr/bin/python3
"""Prints the speed of a served checkpoint beside the machine's read bandwidth of the same minute.

    bench_serving.py --checkpoint DIR [--workers N] [--runs 5] [--decode-tokens 48] [--flag=--threads=2 ...]

Rows: decode of one sequence (tokens/s, GB/s of weights read, share of read bandwidth), total tokens/s of 8 and 32
sequences, prefill of 512 tokens (tokens/s, multiply-adds/s). Each figure is the median of --runs; the bandwidth is
measured before and after each (build/release/benchmarks/machine_bench).

Left out: HTTP and tokenization are inside the figures; the first token's time is not shown; prompts are random ids, so
routing is that of random hidden states.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sheaf_server import ROOT, SheafServer  # noqa: E402


def read_bandwidth_gbs() -> float:
    """Of two threads, by the benchmark program of the same build."""
    program = Path(os.environ.get("SHEAF_BINARY", ROOT / "build/release/sheaf")).parent / "benchmarks/machine_bench"
    out = subprocess.run([program, "2", "5"], capture_output=True, text=True, check=True).stdout
    return float(re.search(r"median ([0-9.]+) GB/s", out).group(1))


class Model:
    """Weights and bytes that one token touches, from config.json (4-bit groups of 128, bf16 lm_head)."""

    def __init__(self, checkpoint: Path) -> None:
        c = json.loads((checkpoint / "config.json").read_text())
        h, d = c["hidden_size"], c["head_dim"]
        q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
        dense, layers = c["first_k_dense_replace"], c["num_hidden_layers"]
        attention = layers * (h * q * 2 + 2 * h * kv)
        mlp = dense * 3 * h * c["intermediate_size"]
        expert = 3 * h * c["moe_intermediate_size"]
        self.moe_layers, self.experts = layers - dense, c["n_routed_experts"]
        self.top_k = c["num_experts_per_tok"]
        self.shared_weights = attention + mlp + self.moe_layers * expert * c["n_shared_experts"]
        self.expert_weights = expert
        self.head = c["vocab_size"] * h
        self.vocab = c["vocab_size"]

    def multiply_adds(self) -> float:
        """Of one prefill token, lm_head left out."""
        return self.shared_weights + self.moe_layers * self.top_k * self.expert_weights

    def bytes(self) -> float:
        """Read by one decoded token: nibbles, one f16 scale in 128, lm_head in bf16."""
        return self.multiply_adds() * (0.5 + 2 / 128) + 2 * self.head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--workers", default="0")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--decode-tokens", type=int, default=48)
    parser.add_argument("--rows", default="decode,batch,prefill")
    parser.add_argument("--flag", action="append", default=[], help="further flag of `sheaf serve`, repeatable")
    arguments = parser.parse_args()
    model, rng = Model(arguments.checkpoint), np.random.default_rng(1)

    def prompt(length: int) -> list[int]:
        return rng.integers(0, min(model.vocab, 4000), size=length).tolist()

    with SheafServer(arguments.checkpoint, "--workers", arguments.workers, "--max-model-len", "2048",
                     *arguments.flag) as server:
        def run(ids: list[int], tokens: int) -> float:
            start = time.perf_counter()
            server.completion(prompt=ids, max_tokens=tokens, temperature=0, ignore_eos=True)
            return time.perf_counter() - start

        def together(count: int, tokens: int) -> float:
            prompts = [prompt(8) for _ in range(count)]
            start = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(count) as pool:
                list(pool.map(lambda ids: run(ids, tokens), prompts))
            return time.perf_counter() - start

        def measure(name: str, unit: str, once, share=None) -> None:
            values, shares = [], []
            for _ in range(arguments.runs):
                before = read_bandwidth_gbs()
                value = once()
                bandwidth = (before + read_bandwidth_gbs()) / 2
                values.append(value)
                shares.append(share(value) / bandwidth if share else bandwidth)
            text = f"{name}: {statistics.median(values):.4g} {unit} (min {min(values):.4g}, max {max(values):.4g})"
            if share:
                text += (f", {statistics.median(map(share, values)):.1f} GB/s"
                         f" = {100 * statistics.median(shares):.1f} % of read bandwidth")
            else:
                text += f", read bandwidth then {statistics.median(shares):.1f} GB/s"
            print(text, flush=True)

        run(prompt(8), 8)
        n = arguments.decode_tokens
        print(f"workers {arguments.workers} {' '.join(arguments.flag)}: {model.bytes() / 1e6:.0f} MB and "
              f"{model.multiply_adds() / 1e9:.3f} G multiply-adds a token", flush=True)
        if "decode" in arguments.rows:
            ids = prompt(8)
            measure("decode, 1 sequence", "tokens/s", lambda: n / (run(ids, n + 4) - run(ids, 4)),
                    lambda rate: rate * model.bytes() / 1e9)
        if "batch" in arguments.rows:
            for count in (8, 32):
                measure(f"decode, {count} sequences", "tokens/s in all",
                        lambda: count * n / (together(count, n + 4) - together(count, 4)))
        if "prefill" in arguments.rows:
            def prefill() -> float:
                return 512 / run(prompt(512), 1)
            measure("prefill, 512 tokens", "tokens/s", prefill)
            best = max(prefill() for _ in range(arguments.runs))
            print(f"prefill best: {best:.1f} tokens/s = {best * model.multiply_adds() / 1e9:.1f} G multiply-adds/s")


if __name__ == "__main__":
    main()
