#!/usr/bin/python3
"""Prints the oracle's logits for a checkpoint folder of any format.

    logits.py --checkpoint DIR --ids 1,2,3                  JSON: {"logits": [[...], ...], ...}
    echo '{"ids": [1,2,3], "greedy": 8}' | logits.py --checkpoint DIR
    logits.py --checkpoint DIR --ids 1,2,3 --last --out x.npy    (or x.f32: little-endian floats)
    logits.py --checkpoint DIR --ids 1,2,3 --compare y.f32       relative error of y
    logits.py --checkpoint DIR --draw-prompt 24 --seed 5 --min-gate-margin 5e-4
    logits.py --checkpoint DIR --ids 1,2,3 --index-choices       what the sparse indexers chose

The JSON has "ids"; "logits" (one row for each id, or the last alone); "gate_margins" (of each
position, the smallest over the layers); "index_margins" (the same of the sparse indexers, in
deviations of their scores; only where the model has them); with --greedy N, "greedy": {"ids",
"margins", "gate_margins", "index_margins"}, where a margin is how far the largest logit is above
the second, and the gate and index margins are the smallest of all choices that the token depends
on. A margin of null cannot change. A product may leave the oracle's tokens only from a position on
where one of its margins is within the product's own error.

--index-choices adds "index_choices", of each indexer: {"layer", "positions" (a list of each token's
chosen positions), "margins", "relative_margins"}.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import clear_prompt
import decoder
import glm_moe_dsa
from checkpoint_reader import CheckpointReader


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    """Relative L2 error of the logits, each position's mean removed (softmax does not see it);
    the largest over the positions."""
    got = np.atleast_2d(np.asarray(got, np.float64))
    wanted = np.atleast_2d(np.asarray(wanted, np.float64))
    if got.shape != wanted.shape:
        raise ValueError(f"logits of shape {got.shape}, wanted {wanted.shape}")
    got = got - got.mean(axis=-1, keepdims=True)
    wanted = wanted - wanted.mean(axis=-1, keepdims=True)
    return float(np.max(np.linalg.norm(got - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)))


def read_logits(path: Path, vocab: int) -> np.ndarray:
    """From .npy, or from raw little-endian float32 rows of `vocab`."""
    if path.suffix == ".npy":
        return np.load(path)
    return np.fromfile(path, dtype="<f4").reshape(-1, vocab)


def write_logits(path: Path, logits: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, logits)
    else:
        logits.astype("<f4").tofile(path)


def finite(values: np.ndarray | list[float]) -> list[float | None]:
    """For JSON, which has no infinity."""
    return [float(v) if np.isfinite(v) else None for v in values]


def index_choices_json(output: decoder.Output) -> list[dict[str, object]]:
    return [{"layer": c.layer, "positions": [c.positions(t) for t in range(len(c.chosen))],
             "margins": finite(c.margins), "relative_margins": finite(c.relative_margins)}
            for c in output.index_choices]


def switches(arguments: argparse.Namespace, model_type: str) -> dict[str, object]:
    """The model's switches that the command line names."""
    given = {"index_key_rounding": arguments.index_key_rounding,
             "latent_norm_eps": arguments.latent_norm_eps,
             "dense_attention": arguments.dense_attention or None}
    named = {k: v for k, v in given.items() if v is not None}
    if named and model_type != "glm_moe_dsa":
        raise ValueError(f"{', '.join(named)}: not of {model_type}")
    return named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--ids", help="comma-separated; default: JSON from stdin")
    parser.add_argument("--draw-prompt", type=int, metavar="N",
                        help="N random ids whose routes are all clear, instead of --ids")
    parser.add_argument("--seed", type=int, default=0, help="of --draw-prompt")
    parser.add_argument("--min-gate-margin", type=float, default=5e-4, help="of --draw-prompt")
    parser.add_argument("--min-index-margin", type=float, default=0.0, help="of --draw-prompt")
    parser.add_argument("--greedy", type=int, default=0, metavar="N")
    parser.add_argument("--kv-rounding", choices=glm_moe_dsa.KV_ROUNDINGS, default="none")
    parser.add_argument("--index-key-rounding", choices=glm_moe_dsa.INDEX_KEY_ROUNDINGS,
                        help="default: as follows from --kv-rounding")
    parser.add_argument("--latent-norm-eps", type=float, help="default: rms_norm_eps")
    parser.add_argument("--dense-attention", action="store_true",
                        help="attend to every position, whatever the indexers choose")
    parser.add_argument("--index-choices", action="store_true")
    parser.add_argument("--last", action="store_true", help="the last position's logits only")
    parser.add_argument("--out", type=Path, help="write the logits to a .npy or .f32 file")
    parser.add_argument("--compare", type=Path, help="print the relative error of this file")
    arguments = parser.parse_args()

    reader = CheckpointReader(arguments.checkpoint)
    try:
        model = reader.model(arguments.kv_rounding,
                             **switches(arguments, reader.raw_config["model_type"]))
    except ValueError as error:
        parser.error(str(error))
    vocab, count = reader.config.vocab_size, arguments.greedy
    if arguments.draw_prompt is not None:
        ids = clear_prompt.draw_clear_prompt(model, np.random.default_rng(arguments.seed),
                                             arguments.draw_prompt, arguments.min_gate_margin,
                                             arguments.min_index_margin)
    elif arguments.ids is not None:
        ids = [int(i) for i in arguments.ids.split(",")]
    else:
        request = json.load(sys.stdin)
        ids, count = request["ids"], request.get("greedy", count)
    if not ids or not all(0 <= i < vocab for i in ids):
        parser.error(f"ids must be one or more of 0..{vocab - 1}")

    output, continuation = clear_prompt.greedy(model, ids, count)
    logits = output.logits[-1:] if arguments.last else output.logits
    report: dict[str, Any] = {
        "ids": ids, "gate_margins": finite(clear_prompt.smallest_gate_margins(output))}
    if count:
        report["greedy"] = {"ids": continuation.ids, "margins": continuation.margins,
                            "gate_margins": finite(continuation.gate_margins)}
    if output.index_choices:
        report["index_margins"] = finite(clear_prompt.smallest_index_margins(output))
        if count:
            report["greedy"]["index_margins"] = finite(continuation.index_margins)
        if arguments.index_choices:
            report["index_choices"] = index_choices_json(output)
    if arguments.compare is not None:
        report["relative_error"] = relative_error(read_logits(arguments.compare, vocab), logits)
    elif arguments.out is not None:
        write_logits(arguments.out, logits)
    else:
        report["logits"] = logits.tolist()
    json.dump(report, sys.stdout)
    print()


if __name__ == "__main__":
    main()
