#!/usr/bin/python3
"""Prints what --activation-bits costs in accuracy: errors of one product, and of a served checkpoint's logits.

    SHEAF_BINARY=... bench_activation_bits.py [--checkpoint checkpoints/sheaf-nano-120]

The product is of 512 outputs and 5120 inputs, 4-bit weights in groups of 128, normal activations, against float64. Logits are of
the questions of nano_questions.json with their answers, against the oracle in float64 (tests/oracle); "bf16" is that oracle with
the input of every product of a layer rounded to bf16, which is the least that an engine of bf16 activations does. Where the 8th
and the 9th expert of a token are nearly equal rounding may choose another, which is no error of a product: medians tell the
arithmetic, and the last column how often the most likely token is another one.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "oracle")]
from answers import logits  # noqa: E402
from checkpoint_reader import CheckpointReader  # noqa: E402
from float_formats import round_bf16  # noqa: E402
from logits import relative_error  # noqa: E402
from oracle_check import serve  # noqa: E402


def in_groups(values: np.ndarray, group: int, steps: int) -> np.ndarray:
    """The last axis rounded to `steps` steps of each group's largest magnitude."""
    parts = values.reshape(*values.shape[:-1], -1, group)
    scale = np.maximum(np.abs(parts).max(-1, keepdims=True), 1e-30) / steps
    return (np.rint(parts / scale) * scale).reshape(values.shape)


def show_products(rng: np.random.Generator) -> None:
    x = rng.normal(size=(32, 5120))
    weights = (rng.integers(0, 16, size=(512, 5120)) - 8) * np.repeat(rng.uniform(0.5, 1.5, size=(512, 40)), 128, axis=1)
    wanted = x @ weights.T
    size = np.sqrt(np.mean(wanted ** 2))
    print(f"{'one product':30} {'RMS':>9} {'largest, of RMS':>16}")
    for name, rounded in (("16 bits", in_groups(x, 128, 32512)), ("bf16", round_bf16(x)), ("8 bits", in_groups(x, 32, 127)),
                          ("8 bits in groups of 128", in_groups(x, 128, 127))):
        error = rounded @ weights.T - wanted
        print(f"{name:30} {np.sqrt(np.mean(error ** 2)) / size:9.1e} {np.abs(error).max() / size:16.1e}")


def bf16_model(reader: CheckpointReader) -> Any:
    model = reader.model()
    exact = model._linear
    model._linear = lambda x, *rest, **named: exact(round_bf16(x), *rest, **named)
    return model


def show_logits(checkpoint: Path) -> None:
    reader = CheckpointReader(checkpoint)
    texts = [question["prompt"] + question["answer"] for question in json.loads((HERE / "nano_questions.json").read_text())]
    rows: dict[str, list[np.ndarray]] = {}
    prompts: list[list[int]] = []
    for bits in ("16", "8"):
        with serve(checkpoint, "--kv-cache-dtype", "float32", "--activation-bits", bits) as server:
            if not prompts:
                for text in texts:
                    body = server.completion(prompt=text, max_tokens=1, add_special_tokens=False, return_token_ids=True)
                    prompts.append(body["choices"][0]["prompt_token_ids"][:200])
            rows[f"{bits} bits"] = [row for prompt in prompts
                                    for row in logits(server, prompt, reader.config.vocab_size)]
    wanted = [row for prompt in prompts for row in reader.model().forward(prompt).logits]
    rows["bf16"] = [row for prompt in prompts for row in bf16_model(reader).forward(prompt).logits]
    print(f"{f'logits of {len(wanted)} positions':30} {'median':>9} {'90 %':>9} {'largest':>9} {'other first':>12}")
    for name in ("16 bits", "bf16", "8 bits"):
        errors = [relative_error(got, want) for got, want in zip(rows[name], wanted)]
        others = np.mean([np.argmax(got) != np.argmax(want) for got, want in zip(rows[name], wanted)])
        print(f"{name:30} {np.median(errors):9.1e} {np.quantile(errors, 0.9):9.1e} {max(errors):9.1e} {others:12.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=HERE.parents[1] / "checkpoints/sheaf-nano-120")
    arguments = parser.parse_args()
    show_products(np.random.default_rng(1))
    show_logits(arguments.checkpoint)


if __name__ == "__main__":
    main()
