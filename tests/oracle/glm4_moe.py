"""The forward pass of Glm4MoeForCausalLM in float64, written from the mathematics.

Grouped-query attention over per-head keys and values with half-split RoPE; the rest is decoder.py.
`kv_rounding` rounds K (after norm and RoPE) and V as a cache of that type holds them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

import numpy as np

import decoder
import float_formats
from decoder import Array, Output, Weights


@dataclass(frozen=True, kw_only=True)
class Config(decoder.Config):
    num_key_value_heads: int
    head_dim: int
    partial_rotary_factor: float = 0.5
    use_qk_norm: bool = False
    attention_bias: bool = True


@dataclass
class KvCache(decoder.KvCache):
    """By layer: [positions, kv_heads, head_dim]."""
    keys: dict[int, Array] = field(default_factory=dict)
    values: dict[int, Array] = field(default_factory=dict)


def causal_attention(q: Array, k: Array, v: Array, first_position: int) -> Array:
    """q [T, heads, d] at positions first_position..; k, v [S, kv_heads, d] from position 0.
    Query head h uses KV head h // (heads / kv_heads). Returns [T, heads * d]."""
    tokens, heads, dim = q.shape
    share = heads // k.shape[1]
    visible = np.arange(k.shape[0])[None, :] <= first_position + np.arange(tokens)[:, None]
    out = np.empty((tokens, heads, dim))
    for head in range(heads):
        scores = q[:, head] @ k[:, head // share].T * dim ** -0.5
        out[:, head] = decoder.softmax(np.where(visible, scores, -np.inf)) @ v[:, head // share]
    return out.reshape(tokens, heads * dim)


class Glm4Moe(decoder.Decoder):
    """The model. Not thread-safe; holds no state of a sequence (the caller keeps the KvCache)."""

    config: Config

    def __init__(self, config: Config, weights: Weights, kv_rounding: str = "none") -> None:
        super().__init__(config, weights)
        self._kv_rounding = kv_rounding

    def new_cache(self) -> KvCache:
        return KvCache()

    def forward(self, ids: Sequence[int] | Array, cache: KvCache | None = None) -> Output:
        """Logits for each of `ids`, which follow what `cache` has seen (it is extended)."""
        seen = cache if cache is not None else KvCache()
        logits, routes = self._run(ids, seen, lambda x, layer: self._attention(x, layer, seen))
        return Output(logits, routes)

    def _cached(self, values: Array, scale_name: str) -> Array:
        """As the cache gives them back; in e4m3 divided by the calibrated scale, if there is one."""
        scale = 1.0
        if self._kv_rounding == "fp8_e4m3":
            try:
                scale = float(self._weights(scale_name).reshape(()))
            except KeyError:
                pass
        return float_formats.round_kv(values / scale, self._kv_rounding) * scale

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
        q = decoder.rope_half_split(q, positions, config.rope, rotary)
        k = decoder.rope_half_split(k, positions, config.rope, rotary)
        k = decoder.extend(cache.keys, layer, self._cached(k, f"{name}.k_scale"))
        v = decoder.extend(cache.values, layer, self._cached(v, f"{name}.v_scale"))
        return self._linear(causal_attention(q, k, v, cache.length), f"{name}.o_proj")
