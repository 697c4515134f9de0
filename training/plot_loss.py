"""Draws the loss curve: python plot_loss.py --log DIR/loss.jsonl --out loss.png. Training loss, smoothed, and held-out loss."""
from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def smoothed(values: list[float], keep: float = 0.9) -> list[float]:
    """Exponential mean, corrected for its start."""
    result, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        result.append(mean / weight)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.log.read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    held_out = [line for line in lines if "held_out_loss" in line]
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=90)
    tokens = [line["tokens"] / 1e6 for line in steps]
    axes.plot(tokens, [line["loss"] for line in steps], color="0.8", linewidth=0.7, label="training")
    axes.plot(tokens, smoothed([line["loss"] for line in steps]), color="tab:blue", label="training, smoothed")
    axes.plot([line["tokens"] / 1e6 for line in held_out], [line["held_out_loss"] for line in held_out], "o-",
              color="tab:orange", markersize=3, label="held out")
    axes.set(xlabel="million tokens", ylabel="cross entropy of learnt tokens", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.tight_layout()
    figure.savefig(options.out)


if __name__ == "__main__":
    main()
