"""Prompts and continuations in which a correct product has no choice.

A product with its own rounding may route a token to another expert where two experts score almost
the same, and from there on its numbers are others. Comparing logits to a tolerance needs a prompt
without such tokens; at 160 experts about every tenth token is within 5e-4 of another route.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import glm4_moe

TRIES_PER_TOKEN = 200


def smallest_gate_margins(output: glm4_moe.Output) -> np.ndarray:
    """float64 [T]: the smallest margin of each position over the MoE layers."""
    endless = np.full(len(output.logits), np.inf)
    return np.min([r.margins for r in output.routes] + [endless], axis=0)


def draw_clear_prompt(model: glm4_moe.Glm4Moe, rng: np.random.Generator, length: int,
                      min_gate_margin: float) -> list[int]:
    """`length` random ids, each with every route at least `min_gate_margin` from another one."""
    ids: list[int] = []
    cache = glm4_moe.KvCache()
    for position in range(length):
        for _ in range(TRIES_PER_TOKEN):
            candidate = int(rng.integers(model.config.vocab_size))
            trial = glm4_moe.KvCache(dict(cache.keys), dict(cache.values), cache.length)
            if smallest_gate_margins(model.forward([candidate], trial))[0] >= min_gate_margin:
                ids.append(candidate)
                cache = trial
                break
        else:
            raise ValueError(f"position {position}: no token with a gate margin of "
                             f"{min_gate_margin} in {TRIES_PER_TOKEN} tries")
    return ids


@dataclass(frozen=True)
class Greedy:
    ids: list[int]
    margins: list[float]  # of each id: the best logit minus the second best
    gate_margins: list[float]  # of each id: the smallest over all positions before it


def greedy(model: glm4_moe.Glm4Moe, ids: list[int],
           count: int) -> tuple[glm4_moe.Output, Greedy]:
    """The prompt's output, and `count` further tokens: each the lowest id of the largest logit."""
    cache = glm4_moe.KvCache()
    output = prompt = model.forward(ids, cache)
    result = Greedy([], [], [])
    route_margin = float(smallest_gate_margins(output).min())
    for step in range(count):
        last = output.logits[-1]
        best = int(np.argmax(last))
        result.ids.append(best)
        result.margins.append(float(last[best] - np.partition(last, -2)[-2]))
        result.gate_margins.append(route_margin)
        if step + 1 < count:
            output = model.forward([best], cache)
            route_margin = min(route_margin, float(smallest_gate_margins(output).min()))
    return prompt, result
