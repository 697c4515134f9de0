"""Prompts and continuations in which a correct product has no choice.

A product with its own rounding may route a token to another expert where two experts score almost
the same, and from there on its numbers are others. Comparing logits to a tolerance needs a prompt
without such tokens; at 160 experts about every tenth token is within 5e-4 of another route. The
same holds for the positions that a sparse indexer chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import decoder
from checkpoint_reader import Model

TRIES_PER_TOKEN = 200


def smallest_gate_margins(output: decoder.Output) -> np.ndarray:
    """float64 [T]: the smallest margin of each position over the MoE layers."""
    endless = np.full(len(output.logits), np.inf)
    return np.min([r.margins for r in output.routes] + [endless], axis=0)


def smallest_index_margins(output: decoder.Output) -> np.ndarray:
    """float64 [T]: the smallest relative margin of each position over the indexers; inf where
    there are none or they leave nothing out."""
    endless = np.full(len(output.logits), np.inf)
    return np.min([c.relative_margins for c in output.index_choices] + [endless], axis=0)


def draw_clear_prompt(model: Model, rng: np.random.Generator, length: int,
                      min_gate_margin: float, min_index_margin: float = 0.0) -> list[int]:
    """`length` random ids, each with every route at least `min_gate_margin` and every indexer's
    choice at least `min_index_margin` deviations from another one."""
    ids: list[int] = []
    cache = model.new_cache()
    for position in range(length):
        for _ in range(TRIES_PER_TOKEN):
            candidate = int(rng.integers(model.config.vocab_size))
            trial = cache.copy()
            output = model.forward([candidate], trial)
            if (smallest_gate_margins(output)[0] >= min_gate_margin
                    and smallest_index_margins(output)[0] >= min_index_margin):
                ids.append(candidate)
                cache = trial
                break
        else:
            also = f" and an index margin of {min_index_margin}" if min_index_margin else ""
            raise ValueError(f"position {position}: no token with a gate margin of "
                             f"{min_gate_margin}{also} in {TRIES_PER_TOKEN} tries")
    return ids


@dataclass(frozen=True)
class Greedy:
    ids: list[int]
    margins: list[float]  # of each id: the best logit minus the second best
    gate_margins: list[float]  # of each id: the smallest over all positions before it
    index_margins: list[float]  # the same of the indexers' relative margins


def greedy(model: Model, ids: list[int], count: int) -> tuple[decoder.Output, Greedy]:
    """The prompt's output, and `count` further tokens: each the lowest id of the largest logit."""
    cache = model.new_cache()
    output = prompt = model.forward(ids, cache)
    result = Greedy([], [], [], [])
    route_margin = float(smallest_gate_margins(output).min())
    index_margin = float(smallest_index_margins(output).min())
    for step in range(count):
        last = output.logits[-1]
        best = int(np.argmax(last))
        result.ids.append(best)
        result.margins.append(float(last[best] - np.partition(last, -2)[-2]))
        result.gate_margins.append(route_margin)
        result.index_margins.append(index_margin)
        if step + 1 < count:
            output = model.forward([best], cache)
            route_margin = min(route_margin, float(smallest_gate_margins(output).min()))
            index_margin = min(index_margin, float(smallest_index_margins(output).min()))
    return prompt, result
