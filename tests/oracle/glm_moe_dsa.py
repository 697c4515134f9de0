"""The forward pass of GlmMoeDsaForCausalLM in float64, written from the mathematics.

Latent attention (MLA) in its naive form: every head's keys and values are expanded from the cached
latent. Which positions a token attends to is the choice of the sparse indexer (DSA), or of the last
indexer before it in layers of type "shared". The choice is exact: the min(index_topk, t + 1)
largest scores of positions 0..t, and among equals the lowest position (so that a score of -0.0 is
no less than one of 0.0: whole blocks of them occur, since ReLU comes before the head weights).

What can be switched:
  kv_rounding         how the cache holds the latent and the rotated key; "fp8_ds_mla" is e4m3 with
                      one float32 scale for 128 elements of the latent, and a bf16 rotated key
  index_key_rounding  how it holds the indexer's keys (None: as follows from kv_rounding)
  latent_norm_eps     of q_a_layernorm and kv_a_layernorm. Serving engines take rms_norm_eps (None),
                      transformers 1e-6, and no checkpoint says which
  dense_attention     attend to every position: what a product without an indexer computes
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

import numpy as np

import decoder
import float_formats
from decoder import Array, IndexChoice, Output, Weights

INDEX_NORM_EPS = 1e-6  # of the indexer's LayerNorm, in no config
BLOCK_KEYS = 1024  # scored at once
BLOCK_SCORES = 1 << 21  # chosen from at once in a thread of the indexer
INDEXER_TYPES = ("full", "shared")
KV_ROUNDINGS = (*float_formats.KV_ROUNDINGS, "fp8_ds_mla")
INDEX_KEY_ROUNDINGS = ("none", "f32", "bf16", "fp8")


@dataclass(frozen=True, kw_only=True)
class Config(decoder.Config):
    q_lora_rank: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    index_topk: int
    index_n_heads: int
    index_head_dim: int
    indexer_types: tuple[str, ...]  # of each layer: "full" or "shared"
    mlp_layer_types: tuple[str, ...] | None = None  # "dense" or "sparse"; None: the first k dense
    rope_interleave: bool = True
    indexer_rope_interleave: bool = True

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Config":
        kinds = raw.get("mlp_layer_types")
        return super().from_json({
            **raw, "indexer_types": indexer_types(raw),
            "mlp_layer_types": None if kinds is None else tuple(kinds)})

    def __post_init__(self) -> None:
        if self.index_topk < 1:
            raise ValueError(f"index_topk {self.index_topk}: want 1 or more")
        if len(self.indexer_types) != self.num_hidden_layers:
            raise ValueError(f"indexer_types of {len(self.indexer_types)} layers, "
                             f"the model has {self.num_hidden_layers}")
        for layer, kind in enumerate(self.indexer_types):
            if kind not in INDEXER_TYPES:
                raise ValueError(f"indexer_types: layer {layer} is {kind!r}, want full or shared")
        if self.indexer_types[0] != "full":
            raise ValueError("indexer_types: layer 0 is shared, but there is no choice before it")

    def is_dense(self, layer: int) -> bool:
        if self.mlp_layer_types is None:
            return super().is_dense(layer)
        return self.mlp_layer_types[layer] == "dense"


def indexer_types(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Of each layer, from config.json: a list; or a pattern of F and S; or every `freq`-th layer
    from `offset` on (and those before it) is full. Without any of these keys all are."""
    layers = raw["num_hidden_layers"]
    listed = raw.get("indexer_types") or raw.get("index_topk_pattern")
    if isinstance(listed, str):
        return tuple({"F": "full", "S": "shared"}.get(letter, letter) for letter in listed)
    if listed is not None:
        return tuple(listed)
    freq, offset = max(raw.get("index_topk_freq", 1), 1), raw.get("index_skip_topk_offset", 2)
    return tuple("shared" if max(layer - offset + 1, 0) % freq else "full"
                 for layer in range(layers))


@dataclass
class KvCache(decoder.KvCache):
    """By layer: [positions, width]. Shared layers have no index keys."""
    latents: dict[int, Array] = field(default_factory=dict)  # normed
    rope_keys: dict[int, Array] = field(default_factory=dict)  # rotated, one for all heads
    index_keys: dict[int, Array] = field(default_factory=dict)  # normed and rotated


def index_key_rounding_of(kv_rounding: str) -> str:
    """How a cache of this type holds the indexer's keys: every fp8 cache as e4m3 with scales."""
    return "fp8" if kv_rounding.startswith("fp8") else kv_rounding


def round_index_keys(keys: Array, rounding: str) -> Array:
    if rounding == "fp8":
        return float_formats.round_scaled_e4m3(keys, smallest_amax=1e-4, power_of_two=True)
    return float_formats.round_kv(keys, rounding)


def round_latents(latents: Array, kv_rounding: str) -> Array:
    if kv_rounding == "fp8_ds_mla":
        return float_formats.round_scaled_e4m3(latents, smallest_amax=448 * 2.0**-126,
                                               power_of_two=False)
    return float_formats.round_kv(latents, kv_rounding)


def round_rope_keys(keys: Array, kv_rounding: str) -> Array:
    return float_formats.round_kv(keys, "bf16" if kv_rounding == "fp8_ds_mla" else kv_rounding)


def visible_positions(tokens: int, first_position: int) -> Array:
    """bool [T, S]: what tokens at first_position.. may see, themselves included."""
    positions = np.arange(first_position + tokens)
    return positions[None, :] <= positions[first_position:, None]


def index_scores(q: Array, k: Array, head_weights: Array) -> Array:
    """q [T, heads, d], k [S, d], head_weights [T, heads] (of either sign): [T, S]. ReLU comes
    before the weights."""
    tokens, heads, dim = q.shape
    queries = (q * dim ** -0.5).reshape(tokens * heads, dim)
    weights = (head_weights * heads ** -0.5)[:, None]
    scores = np.empty((tokens, len(k)))
    for first in range(0, len(k), BLOCK_KEYS):  # few enough for a processor's cache
        block = slice(first, first + BLOCK_KEYS)
        dots = queries @ k[block].T
        np.maximum(dots, 0.0, out=dots)
        scores[:, block] = (weights @ dots.reshape(tokens, heads, -1))[:, 0]
    return scores


def choose_positions(scores: Array, visible: Array, topk: int, layer: int) -> IndexChoice:
    """The `topk` largest visible scores of each row, or all where fewer are visible. In linear time:
    contexts may be long."""
    masked = np.where(visible, scores, -np.inf)
    chosen = visible.copy()
    margins = np.full(len(scores), np.inf)
    some = np.flatnonzero(visible.sum(axis=-1) > topk)
    if len(some):
        rows = masked[some]
        place = rows.shape[-1] - topk
        left_out, last = np.partition(rows, (place - 1, place), axis=-1)[:, place - 1:place + 1].T
        chosen[some] = rows >= last[:, None]
        margins[some] = last - left_out
        for row in some[last == left_out]:  # a tie at the border: the lowest positions win
            border = last[np.searchsorted(some, row)]
            room = topk - np.count_nonzero(masked[row] > border)
            chosen[row, np.flatnonzero(masked[row] == border)[room:]] = False
    deviations = np.array([row[seen].std() for row, seen in zip(scores, visible)])
    return IndexChoice(layer, chosen, margins, deviations)


def sparse_attention(q: Array, k: Array, v: Array, attended: Array,
                     score_factor: float = 1.0) -> Array:
    """q [T, heads, d], k [S, heads, d], v [S, heads, dv], attended bool [T, S]: [T, heads * dv]."""
    tokens, heads, dim = q.shape
    out = np.empty((tokens, heads, v.shape[-1]))
    for head in range(heads):
        scores = q[:, head] @ k[:, head].T * dim ** -0.5 * score_factor
        out[:, head] = decoder.softmax(np.where(attended, scores, -np.inf)) @ v[:, head]
    return out.reshape(tokens, -1)


class GlmMoeDsa(decoder.Decoder):
    """The model. Not thread-safe; holds no state of a sequence (the caller keeps the KvCache)."""

    config: Config

    def __init__(self, config: Config, weights: Weights, kv_rounding: str = "none", *,
                 index_key_rounding: str | None = None, latent_norm_eps: float | None = None,
                 dense_attention: bool = False) -> None:
        super().__init__(config, weights)
        self._kv_rounding = kv_rounding
        self._index_key_rounding = index_key_rounding or index_key_rounding_of(kv_rounding)
        self._latent_norm_eps = (config.rms_norm_eps if latent_norm_eps is None
                                 else latent_norm_eps)
        self._dense_attention = dense_attention

    def new_cache(self) -> KvCache:
        return KvCache()

    def forward(self, ids: Sequence[int] | Array, cache: KvCache | None = None) -> Output:
        """Logits for each of `ids`, which follow what `cache` has seen (it is extended)."""
        seen = cache if cache is not None else KvCache()
        choices: list[IndexChoice] = []
        logits, routes = self._run(
            ids, seen, lambda x, layer: self._attention(x, layer, seen, choices))
        return Output(logits, routes, choices)

    def _latent_norm(self, x: Array, module: str) -> Array:
        return decoder.rms_norm(x, self._weights(f"{module}.weight"), self._latent_norm_eps)

    def _rope(self, x: Array, first_position: int, interleaved: bool) -> Array:
        """Rotates the first qk_rope_head_dim of [T, heads, d]."""
        rotate = decoder.rope_interleaved if interleaved else decoder.rope_half_split
        return rotate(x, first_position + np.arange(len(x)), self.config.rope,
                      self.config.qk_rope_head_dim)

    def _attention(self, x: Array, layer: int, cache: KvCache,
                   choices: list[IndexChoice]) -> Array:
        config, name = self.config, f"model.layers.{layer}.self_attn"
        bias, nope, rank = config.attention_bias, config.qk_nope_head_dim, config.kv_lora_rank
        q_latent, q = self._queries(x, name)
        q = q.reshape(len(x), config.num_attention_heads, -1)
        q_rope = self._rope(q[..., nope:], cache.length, config.rope_interleave)

        compressed = self._linear(x, f"{name}.kv_a_proj_with_mqa", bias)
        latent = self._latent_norm(compressed[:, :rank], f"{name}.kv_a_layernorm")
        k_rope = self._rope(compressed[:, None, rank:], cache.length, config.rope_interleave)[:, 0]
        latents = decoder.extend(cache.latents, layer, round_latents(latent, self._kv_rounding))
        k_ropes = decoder.extend(cache.rope_keys, layer,
                                 round_rope_keys(k_rope, self._kv_rounding))

        attended = self._attended(x, q_latent, layer, cache, choices)

        # What no token attends to need not be expanded.
        used = np.flatnonzero(attended.any(axis=0))
        attended = attended[:, used]
        expanded = self._linear(latents[used], f"{name}.kv_b_proj")
        expanded = expanded.reshape(len(used), config.num_attention_heads, -1)
        k_nope, v = expanded[..., :nope], expanded[..., nope:]
        of_all_heads = np.broadcast_to(k_ropes[used, None], (*k_nope.shape[:2], k_ropes.shape[-1]))
        score_factor = [config.rope.score_factor] if config.rope.score_factor != 1.0 else []
        out = sparse_attention(np.concatenate([q[..., :nope], q_rope], axis=-1),
                               np.concatenate([k_nope, of_all_heads], axis=-1), v, attended,
                               *score_factor)
        return self._linear(out, f"{name}.o_proj", bias)

    def _queries(self, x: Array, name: str) -> tuple[Array, Array]:
        """Of all heads, and the latent that they come from."""
        q_latent = self._latent_norm(
            self._linear(x, f"{name}.q_a_proj", self.config.attention_bias),
            f"{name}.q_a_layernorm")
        return q_latent, self._linear(q_latent, f"{name}.q_b_proj")

    def _attended(self, x: Array, q_latent: Array, layer: int, cache: KvCache,
                  choices: list[IndexChoice]) -> Array:
        """bool [T, S]: the positions that the layer's tokens read."""
        if self.config.indexer_types[layer] == "full":
            choices.append(self._choose(x, q_latent, layer, cache))
        if self._dense_attention:
            return visible_positions(len(x), cache.length)
        return choices[-1].chosen

    def _choose(self, x: Array, q_latent: Array, layer: int, cache: KvCache) -> IndexChoice:
        """The indexer: stores its keys of the new positions, scores all and chooses."""
        config, name = self.config, f"model.layers.{layer}.self_attn.indexer"
        interleaved = config.indexer_rope_interleave
        q = self._linear(q_latent, f"{name}.wq_b").reshape(len(x), config.index_n_heads, -1)
        q = self._rope(q, cache.length, interleaved)
        weight, bias = (self._weights(f"{name}.k_norm.{leaf}") for leaf in ("weight", "bias"))
        k = decoder.layer_norm(self._linear(x, f"{name}.wk"), weight, bias, INDEX_NORM_EPS)
        k = self._rope(k[:, None], cache.length, interleaved)[:, 0]
        keys = decoder.extend(cache.index_keys, layer,
                              round_index_keys(k, self._index_key_rounding))
        head_weights = self._linear(x, f"{name}.weights_proj")

        def choose(rows: slice) -> IndexChoice:
            scores = index_scores(q[rows], keys, head_weights[rows])
            visible = visible_positions(len(scores), cache.length + rows.start)
            visible = np.pad(visible, ((0, 0), (0, len(keys) - visible.shape[1])))
            return choose_positions(scores, visible, config.index_topk, layer)

        # Some rows at a time: what a long context needs for a row stays in the cache.
        size = max(1, BLOCK_SCORES // len(keys))
        with ThreadPoolExecutor() as pool:
            parts = list(pool.map(choose, [slice(first, min(first + size, len(x)))
                                           for first in range(0, len(x), size)]))
        return IndexChoice(layer, *(np.concatenate([getattr(part, name) for part in parts])
                                    for name in ("chosen", "margins", "deviations")))
