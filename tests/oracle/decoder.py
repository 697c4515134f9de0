"""What the two architectures share, in float64 and from the mathematics: norms, RoPE, the gate, the
experts, and the order of a decoder's layers. Attention is what differs (glm4_moe.py,
glm_moe_dsa.py).

One formula a line, no code in common with the product. Float64 everywhere, so that its own error
(about 1e-15) is nothing beside any real arithmetic. Every discrete choice (experts, attended
positions) is reported with its margin, because where two candidates score almost the same a correct
implementation may choose the other one.

Shapes: T tokens, S positions seen so far, H hidden, E experts. Weights are asked for by name
("model.layers.0....") as float64 [out, in]; see checkpoint_reader.py for weights from files.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Protocol, Sequence

import numpy as np

import rope
from rope import Rope, Scaling

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Config:
    """The numbers of config.json that both architectures have."""
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    moe_intermediate_size: int
    n_routed_experts: int
    n_shared_experts: int
    num_experts_per_tok: int
    first_k_dense_replace: int
    vocab_size: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 1e6
    attention_bias: bool = False
    n_group: int = 1
    topk_group: int = 1
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 1.0
    tie_word_embeddings: bool = False
    rope_scaling: Scaling | None = None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Config":
        """From config.json in either spelling (rope_theta outside or inside rope_parameters)."""
        flat = {**raw, **(raw.get("rope_parameters") or {}),
                "rope_scaling": rope.scaling_from_json(raw)}
        return cls(**{k: flat[k] for k in cls.__dataclass_fields__ if k in flat})

    @property
    def rope(self) -> Rope:
        return Rope(self.rope_theta, self.rope_scaling)

    def is_dense(self, layer: int) -> bool:
        """Whether the layer has one MLP instead of experts."""
        return layer < self.first_k_dense_replace


class Weights(Protocol):
    def __call__(self, name: str) -> Array:
        """float64 tensor of this name (quantized Linears by their ".weight" name)."""


@dataclass(frozen=True)
class Routes:
    """What the gate of one layer chose for T tokens."""
    layer: int
    experts: Array  # int [T, k], ascending
    weights: Array  # float64 [T, k], of the same experts
    margins: Array  # float64 [T]: how far the choice is from another one, in units of the score


@dataclass(frozen=True)
class IndexChoice:
    """The positions that the sparse indexer of one layer chose for T tokens."""
    layer: int
    chosen: Array  # bool [T, S]
    margins: Array  # float64 [T]: score of the last one chosen minus the best one left out
    deviations: Array  # float64 [T]: standard deviation of the scores chosen from

    def positions(self, token: int) -> list[int]:
        """Chosen for the `token`-th of the T tokens, ascending."""
        return np.flatnonzero(self.chosen[token]).tolist()

    @property
    def relative_margins(self) -> Array:
        """The margins in units of the scores' deviation: comparable between models and layers,
        and with a product's relative error. inf where nothing was left out, 0 at a tie."""
        return self.margins / np.where(self.deviations > 0, self.deviations, 1.0)


@dataclass
class KvCache:
    """What attention keeps of the positions already seen; each architecture adds its parts, dicts
    from the layer to an array whose first axis is the position."""
    length: int = 0

    def copy(self) -> "KvCache":
        """Extending the copy leaves this one as it is."""
        parts = {k: dict(v) if isinstance(v, dict) else v for k, v in vars(self).items()}
        duplicate = copy.copy(self)
        vars(duplicate).update(parts)
        return duplicate


def extend(part: dict[int, Array], layer: int, new: Array) -> Array:
    """Appends the new positions to a part of a cache; returns all positions of the layer."""
    part[layer] = np.concatenate([part[layer], new]) if layer in part else new
    return part[layer]


@dataclass(frozen=True)
class Output:
    logits: Array  # float64 [T, vocab]
    routes: list[Routes]  # one for each MoE layer
    index_choices: list[IndexChoice] = field(default_factory=list)  # one for each indexer


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """Over the last axis."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -x))


def softmax(x: Array) -> Array:
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Over the last axis: mean removed, divided by the root of the variance + eps."""
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weight + bias


def _rotation(positions: Array, rope: Rope | float, rotary_dim: int) -> tuple[Array, Array]:
    """cos and sin of each position and pair, [T, 1, d/2]. A number is a theta."""
    rope = rope if isinstance(rope, Rope) else Rope(rope)
    angle = positions[:, None, None] * rope.frequencies(rotary_dim)
    return np.cos(angle) * rope.magnitude, np.sin(angle) * rope.magnitude


def rope_half_split(x: Array, positions: Array, rope: Rope | float, rotary_dim: int) -> Array:
    """x [T, heads, head_dim]; rotates the first `rotary_dim`, half-split: j pairs with j + d/2."""
    half = rotary_dim // 2
    cos, sin = _rotation(positions, rope, rotary_dim)
    low, high = x[..., :half], x[..., half:rotary_dim]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin, x[..., rotary_dim:]],
                          axis=-1)


def rope_interleaved(x: Array, positions: Array, rope: Rope | float, rotary_dim: int) -> Array:
    """x [T, heads, head_dim]; rotates the first `rotary_dim` in place: 2j pairs with 2j + 1."""
    cos, sin = _rotation(positions, rope, rotary_dim)
    even, odd = x[..., 0:rotary_dim:2], x[..., 1:rotary_dim:2]
    out = np.array(x)
    out[..., 0:rotary_dim:2] = even * cos - odd * sin
    out[..., 1:rotary_dim:2] = odd * cos + even * sin
    return out


def largest_lowest_first(scores: Array, count: int) -> Array:
    """Indices of the `count` largest along the last axis; among equals the lowest index wins."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :count]


def gap_after(scores: Array, count: int) -> Array:
    """Between the last one chosen and the first one left out; inf where none is left out."""
    if count >= scores.shape[-1]:
        return np.full(scores.shape[:-1], np.inf)
    ordered = -np.sort(-scores, axis=-1)
    return ordered[..., count - 1] - ordered[..., count]


def route(x: Array, gate_weight: Array, correction_bias: Array, config: Config,
          layer: int) -> Routes:
    """The gate: sigmoid scores; bias, groups and top-k choose; the scores alone give weights."""
    scores = sigmoid(x @ gate_weight.T)
    choice = scores + correction_bias
    margins = np.full(len(x), np.inf)
    if config.n_group > 1:
        by_group = choice.reshape(len(x), config.n_group, -1)
        group_score = -np.sort(-by_group, axis=-1)[..., :2].sum(axis=-1)
        kept = largest_lowest_first(group_score, config.topk_group)
        margins = gap_after(group_score, config.topk_group)
        mask = np.zeros(group_score.shape, bool)
        np.put_along_axis(mask, kept, True, axis=-1)
        choice = np.where(mask[..., None], by_group, -np.inf).reshape(choice.shape)
    experts = np.sort(largest_lowest_first(choice, config.num_experts_per_tok), axis=-1)
    margins = np.minimum(margins, gap_after(choice, config.num_experts_per_tok))
    weights = np.take_along_axis(scores, experts, axis=-1)
    if config.norm_topk_prob:
        weights = weights / (weights.sum(axis=-1, keepdims=True) + 1e-20)
    return Routes(layer, experts, weights * config.routed_scaling_factor, margins)


class Decoder:
    """Everything of a model but its attention. Not thread-safe; holds no state of a sequence."""

    def __init__(self, config: Config, weights: Weights) -> None:
        self.config = config
        self._weights = weights

    def _run(self, ids: Sequence[int] | Array, cache: KvCache,
             attention: Callable[[Array, int], Array]) -> tuple[Array, list[Routes]]:
        """Logits and routes of `ids`, which follow what `cache` has seen. `attention` gets the
        normed [T, H] and the layer, and extends the cache's parts; the length is counted here."""
        config = self.config
        h = self._weights("model.embed_tokens.weight")[np.asarray(ids)]
        routes: list[Routes] = []
        for layer in range(config.num_hidden_layers):
            name = f"model.layers.{layer}"
            h = h + attention(self._norm(h, f"{name}.input_layernorm.weight"), layer)
            normed = self._norm(h, f"{name}.post_attention_layernorm.weight")
            if config.is_dense(layer):
                h = h + self._mlp(normed, f"{name}.mlp")
            else:
                chosen = route(normed, self._weights(f"{name}.mlp.gate.weight"),
                               self._weights(f"{name}.mlp.gate.e_score_correction_bias"),
                               config, layer)
                h = h + self._experts(normed, chosen, f"{name}.mlp")
                routes.append(chosen)
        cache.length += len(h)
        head = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
        return self._norm(h, "model.norm.weight") @ self._weights(head).T, routes

    def _norm(self, x: Array, name: str) -> Array:
        return rms_norm(x, self._weights(name), self.config.rms_norm_eps)

    def _linear(self, x: Array, module: str, bias: bool = False) -> Array:
        y = x @ self._weights(f"{module}.weight").T
        return y + self._weights(f"{module}.bias") if bias else y

    def _mlp(self, x: Array, module: str) -> Array:
        gate = silu(self._linear(x, f"{module}.gate_proj"))
        return self._linear(gate * self._linear(x, f"{module}.up_proj"), f"{module}.down_proj")

    def _experts(self, x: Array, routes: Routes, module: str) -> Array:
        y = np.zeros_like(x)
        for expert in np.unique(routes.experts):
            token, slot = np.nonzero(routes.experts == expert)
            weight = routes.weights[token, slot][:, None]
            y[token] += weight * self._mlp(x[token], f"{module}.experts.{expert}")
        if self.config.n_shared_experts:
            y += self._mlp(x, f"{module}.shared_experts")
        return y
