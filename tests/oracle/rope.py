"""Angles of the rotary embedding, from the mathematics, in float64.

Pair j of a head of d rotated dimensions turns by theta^(-2j/d) radians a position. For contexts
longer than those of training, "linear" divides every frequency by `factor`, and YaRN divides a pair
by as much as it turned seldom in training: not at all where it turned `beta_fast` times or more, by
`factor` where `beta_slow` times or less, and by a mixture between (Peng et al. 2023, section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Mapping

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Scaling:
    kind: str  # "linear" or "yarn"
    factor: float
    original_positions: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    magnitude: float = 1.0  # of cos and sin
    score_factor: float = 1.0  # of latent attention's scores


@dataclass(frozen=True)
class Rope:
    theta: float
    scaling: Scaling | None = None

    @property
    def magnitude(self) -> float:
        return 1.0 if self.scaling is None else self.scaling.magnitude

    @property
    def score_factor(self) -> float:
        return 1.0 if self.scaling is None else self.scaling.score_factor

    def frequencies(self, rotary_dim: int) -> np.ndarray:
        """Radians a position, [rotary_dim / 2]."""
        plain = self.theta ** (-2.0 * np.arange(rotary_dim // 2) / rotary_dim)
        if self.scaling is None:
            return plain
        if self.scaling.kind == "linear":
            return plain / self.scaling.factor
        share = divided_share(rotary_dim, self.theta, self.scaling)
        return (1 - share) * plain + share * plain / self.scaling.factor


def divided_share(rotary_dim: int, theta: float, yarn: Scaling) -> np.ndarray:
    """Of each pair: 0 where its frequency stays, 1 where it is divided by the factor."""
    def pair_that_turns(times: float) -> float:
        # original * theta^(-2j/d) = 2 pi times, solved for j
        return (rotary_dim * math.log(yarn.original_positions / (2 * math.pi * times))
                / (2 * math.log(theta)))

    first, last = pair_that_turns(yarn.beta_fast), pair_that_turns(yarn.beta_slow)
    if yarn.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rotary_dim - 1)
    if first == last:
        last += 0.001
    return np.clip((np.arange(rotary_dim // 2) - first) / (last - first), 0.0, 1.0)


def magnitude(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 1.0 + 0.1 * mscale * math.log(factor)


def scaling_from_json(raw: Mapping[str, Any]) -> Scaling | None:
    """From config.json: rope_scaling or rope_parameters."""
    inner = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    kind = inner.get("rope_type") or inner.get("type") or "default"
    if kind == "default":
        return None
    if kind not in ("linear", "yarn"):
        raise ValueError(f"rope_type {kind!r}: want default, linear or yarn")
    factor, every = inner["factor"], inner.get("mscale_all_dim")
    score_factor = magnitude(factor, every) ** 2 if every else 1.0
    if kind == "linear":
        return Scaling(kind=kind, factor=factor, score_factor=score_factor)
    of_table = inner.get("attention_factor")
    if of_table is None and inner.get("mscale") and every:
        of_table = magnitude(factor, inner["mscale"]) / magnitude(factor, every)
    return Scaling(
        kind=kind, factor=factor, score_factor=score_factor,
        original_positions=(inner.get("original_max_position_embeddings")
                            or raw["max_position_embeddings"]),
        beta_fast=inner.get("beta_fast") or 32.0, beta_slow=inner.get("beta_slow") or 1.0,
        truncate=inner.get("truncate", True),
        magnitude=magnitude(factor, 1.0) if of_table is None else of_table)
