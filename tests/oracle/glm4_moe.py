"""The forward pass of Glm4MoeForCausalLM in float64, written from the mathematics.

This is the oracle: slow, plain, one formula a line, no code in common with the product. Float64
everywhere, so that its own error (about 1e-15) is nothing beside any real arithmetic. Two things
can be switched: `kv_rounding` rounds K (after norm and RoPE) and V as a cache of that type holds
them; and every route is reported with its margin, because where two experts score almost the same
a correct implementation may choose the other one.

Shapes: T tokens, H hidden, E experts. Weights are asked for by name ("model.layers.0....") as
float64 [out, in]; see checkpoint_reader.py for weights that come from files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Protocol

import numpy as np

import float_formats

Array = np.ndarray


@dataclass(frozen=True)
class Config:
    """The numbers of config.json that the mathematics needs."""
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    moe_intermediate_size: int
    n_routed_experts: int
    n_shared_experts: int
    num_experts_per_tok: int
    first_k_dense_replace: int
    vocab_size: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 1e6
    partial_rotary_factor: float = 0.5
    use_qk_norm: bool = False
    attention_bias: bool = True
    n_group: int = 1
    topk_group: int = 1
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 1.0
    tie_word_embeddings: bool = False

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> "Config":
        """From config.json in either spelling (rope_theta outside or inside rope_parameters)."""
        flat = {**raw, **(raw.get("rope_parameters") or {})}
        return Config(**{k: flat[k] for k in Config.__dataclass_fields__ if k in flat})


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


@dataclass
class KvCache:
    """Keys and values of the positions already seen, by layer: [positions, kv_heads, head_dim]."""
    keys: dict[int, Array] = field(default_factory=dict)
    values: dict[int, Array] = field(default_factory=dict)
    length: int = 0


@dataclass(frozen=True)
class Output:
    logits: Array  # float64 [T, vocab]
    routes: list[Routes]  # one for each MoE layer


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


def rope(x: Array, positions: Array, theta: float, rotary_dim: int) -> Array:
    """x [T, heads, head_dim]; rotates the first `rotary_dim`, half-split: j pairs with j + d/2."""
    half = rotary_dim // 2
    frequency = theta ** (-2.0 * np.arange(half) / rotary_dim)
    angle = positions[:, None, None] * frequency
    cos, sin = np.cos(angle), np.sin(angle)
    low, high = x[..., :half], x[..., half:rotary_dim]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin, x[..., rotary_dim:]],
                          axis=-1)


def causal_attention(q: Array, k: Array, v: Array, first_position: int) -> Array:
    """q [T, heads, d] at positions first_position..; k, v [S, kv_heads, d] from position 0.
    Query head h uses KV head h // (heads / kv_heads). Returns [T, heads * d]."""
    tokens, heads, dim = q.shape
    share = heads // k.shape[1]
    visible = np.arange(k.shape[0])[None, :] <= first_position + np.arange(tokens)[:, None]
    out = np.empty((tokens, heads, dim))
    for head in range(heads):
        scores = q[:, head] @ k[:, head // share].T * dim ** -0.5
        out[:, head] = softmax(np.where(visible, scores, -np.inf)) @ v[:, head // share]
    return out.reshape(tokens, heads * dim)


def largest_lowest_first(scores: Array, count: int) -> Array:
    """Indices of the `count` largest along the last axis; among equals the lowest index wins."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :count]


def _gap_after(scores: Array, count: int) -> Array:
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
        margins = _gap_after(group_score, config.topk_group)
        mask = np.zeros(group_score.shape, bool)
        np.put_along_axis(mask, kept, True, axis=-1)
        choice = np.where(mask[..., None], by_group, -np.inf).reshape(choice.shape)
    experts = np.sort(largest_lowest_first(choice, config.num_experts_per_tok), axis=-1)
    margins = np.minimum(margins, _gap_after(choice, config.num_experts_per_tok))
    weights = np.take_along_axis(scores, experts, axis=-1)
    if config.norm_topk_prob:
        weights = weights / (weights.sum(axis=-1, keepdims=True) + 1e-20)
    return Routes(layer, experts, weights * config.routed_scaling_factor, margins)


class Glm4Moe:
    """The model. Not thread-safe; holds no state of a sequence (the caller keeps the KvCache)."""

    def __init__(self, config: Config, weights: Weights, kv_rounding: str = "none") -> None:
        self.config = config
        self._weights = weights
        self._kv_rounding = kv_rounding

    def forward(self, ids: list[int] | Array, cache: KvCache | None = None) -> Output:
        """Logits for each of `ids`, which follow what `cache` has seen (it is extended)."""
        config = self.config
        cache = cache if cache is not None else KvCache()
        h = self._weights("model.embed_tokens.weight")[np.asarray(ids)]
        routes: list[Routes] = []
        for layer in range(config.num_hidden_layers):
            name = f"model.layers.{layer}"
            normed = self._norm(h, f"{name}.input_layernorm.weight")
            h = h + self._attention(normed, layer, cache)
            normed = self._norm(h, f"{name}.post_attention_layernorm.weight")
            if layer < config.first_k_dense_replace:
                h = h + self._mlp(normed, f"{name}.mlp")
            else:
                chosen = route(normed, self._weights(f"{name}.mlp.gate.weight"),
                               self._weights(f"{name}.mlp.gate.e_score_correction_bias"),
                               config, layer)
                h = h + self._experts(normed, chosen, f"{name}.mlp")
                routes.append(chosen)
        cache.length += len(h)
        head = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
        return Output(self._norm(h, "model.norm.weight") @ self._weights(head).T, routes)

    def _norm(self, x: Array, name: str) -> Array:
        return rms_norm(x, self._weights(name), self.config.rms_norm_eps)

    def _linear(self, x: Array, module: str, bias: bool = False) -> Array:
        y = x @ self._weights(f"{module}.weight").T
        return y + self._weights(f"{module}.bias") if bias else y

    def _mlp(self, x: Array, module: str) -> Array:
        gate = silu(self._linear(x, f"{module}.gate_proj"))
        return self._linear(gate * self._linear(x, f"{module}.up_proj"), f"{module}.down_proj")

    def _attention(self, x: Array, layer: int, cache: KvCache) -> Array:
        config, name = self.config, f"model.layers.{layer}.self_attn"
        bias, dim = config.attention_bias, config.head_dim
        q = self._linear(x, f"{name}.q_proj", bias).reshape(len(x), -1, dim)
        k = self._linear(x, f"{name}.k_proj", bias).reshape(len(x), -1, dim)
        v = self._linear(x, f"{name}.v_proj", bias).reshape(len(x), -1, dim)
        if config.use_qk_norm:
            q = self._norm(q, f"{name}.q_norm.weight")
            k = self._norm(k, f"{name}.k_norm.weight")
        positions = cache.length + np.arange(len(x))
        rotary = int(dim * config.partial_rotary_factor)
        q = rope(q, positions, config.rope_theta, rotary)
        k = rope(k, positions, config.rope_theta, rotary)
        k = float_formats.round_kv(k, self._kv_rounding)
        v = float_formats.round_kv(v, self._kv_rounding)
        if layer in cache.keys:
            k = np.concatenate([cache.keys[layer], k])
            v = np.concatenate([cache.values[layer], v])
        cache.keys[layer], cache.values[layer] = k, v
        return self._linear(causal_attention(q, k, v, cache.length), f"{name}.o_proj")

    def _experts(self, x: Array, routes: Routes, module: str) -> Array:
        y = np.zeros_like(x)
        for expert in np.unique(routes.experts):
            token, slot = np.nonzero(routes.experts == expert)
            weight = routes.weights[token, slot][:, None]
            y[token] += weight * self._mlp(x[token], f"{module}.experts.{expert}")
        if self.config.n_shared_experts:
            y += self._mlp(x, f"{module}.shared_experts")
        return y
