"""The attention of glm4_moe against numbers worked out by hand; properties of the whole model."""

from __future__ import annotations

import math

import numpy as np
import pytest

import decoder
import glm4_moe
from glm4_moe import Config, Glm4Moe, KvCache

SMALL = Config(hidden_size=8, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
               head_dim=4, intermediate_size=16, moe_intermediate_size=8, n_routed_experts=6,
               n_shared_experts=1, num_experts_per_tok=2, first_k_dense_replace=1, vocab_size=11,
               use_qk_norm=True, routed_scaling_factor=2.5)


def random_weights(config: Config, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    hidden, dim = config.hidden_size, config.head_dim
    weights = {"model.embed_tokens.weight": (config.vocab_size, hidden),
               "lm_head.weight": (config.vocab_size, hidden), "model.norm.weight": (hidden,)}

    def mlp(prefix: str, width: int) -> None:
        weights[f"{prefix}.gate_proj.weight"] = (width, hidden)
        weights[f"{prefix}.up_proj.weight"] = (width, hidden)
        weights[f"{prefix}.down_proj.weight"] = (hidden, width)

    for layer in range(config.num_hidden_layers):
        name = f"model.layers.{layer}"
        weights[f"{name}.input_layernorm.weight"] = (hidden,)
        weights[f"{name}.post_attention_layernorm.weight"] = (hidden,)
        for projection, heads in (("q", config.num_attention_heads),
                                  ("k", config.num_key_value_heads),
                                  ("v", config.num_key_value_heads)):
            weights[f"{name}.self_attn.{projection}_proj.weight"] = (heads * dim, hidden)
            weights[f"{name}.self_attn.{projection}_proj.bias"] = (heads * dim,)
        weights[f"{name}.self_attn.o_proj.weight"] = (hidden, config.num_attention_heads * dim)
        weights[f"{name}.self_attn.q_norm.weight"] = (dim,)
        weights[f"{name}.self_attn.k_norm.weight"] = (dim,)
        if layer < config.first_k_dense_replace:
            mlp(f"{name}.mlp", config.intermediate_size)
            continue
        weights[f"{name}.mlp.gate.weight"] = (config.n_routed_experts, hidden)
        weights[f"{name}.mlp.gate.e_score_correction_bias"] = (config.n_routed_experts,)
        for expert in range(config.n_routed_experts):
            mlp(f"{name}.mlp.experts.{expert}", config.moe_intermediate_size)
        mlp(f"{name}.mlp.shared_experts", config.moe_intermediate_size)
    return {n: rng.standard_normal(shape) for n, shape in weights.items()}


def test_attention_by_hand() -> None:
    # d = 4: scores 2 * ln(3) / sqrt(4) = ln 3 and 0, so weights 3/4 and 1/4; values 1 and 5 give 2.
    zero = [0.0] * 4
    q = np.array([[[2.0, 0, 0, 0], zero], [[2.0, 0, 0, 0], zero]])
    k = np.array([[[math.log(3), 0, 0, 0]], [zero]])
    v = np.array([[[1.0] * 4], [[5.0] * 4]])
    got = glm4_moe.causal_attention(q, k, v, 0)
    # The first token sees itself alone; the second head has no preference: (1 + 5) / 2 = 3.
    np.testing.assert_allclose(got, [[1.0] * 8, [2.0] * 4 + [3.0] * 4])


def test_attention_shares_kv_heads_in_blocks() -> None:
    # 4 query heads, 2 KV heads: heads 0, 1 read the first, heads 2, 3 the second.
    got = glm4_moe.causal_attention(np.zeros((1, 4, 1)), np.zeros((1, 2, 1)),
                                    np.array([[[7.0], [8.0]]]), 0)
    np.testing.assert_array_equal(got, [[7.0, 7.0, 8.0, 8.0]])
    # The same for keys: position 1 sees keys (50, 0) and (0, 50) of the two KV heads, so that
    # heads 0, 1 take the value of position 0 (3) and heads 2, 3 that of position 1 (4).
    k = np.array([[[50.0], [0.0]], [[0.0], [50.0]]])
    v = np.array([[[3.0], [3.0]], [[4.0], [4.0]]])
    got = glm4_moe.causal_attention(np.ones((1, 4, 1)), k, v, 1)
    np.testing.assert_allclose(got, [[3.0, 3.0, 4.0, 4.0]])


def test_model_without_mixing_is_norm_and_head() -> None:
    # o_proj and down_proj zero: logits = lm_head . norm(embedding).
    weights = random_weights(SMALL, 1)
    for name in weights:
        if "o_proj" in name or "down_proj" in name:
            weights[name] = np.zeros_like(weights[name])
    embedding = weights["model.embed_tokens.weight"][[4]]
    embedding = embedding / np.sqrt(np.mean(embedding**2) + 1e-5)
    want = embedding * weights["model.norm.weight"] @ weights["lm_head.weight"].T
    np.testing.assert_allclose(Glm4Moe(SMALL, weights.__getitem__).forward([4]).logits, want)


def test_equal_experts_make_one_dense_mlp(seed: int) -> None:
    """With all experts the same, routing cannot matter: the layer is 2.5 of it plus the shared."""
    weights = random_weights(SMALL, seed)
    for name in list(weights):
        if ".experts." in name:
            parts = name.split(".")
            parts[5] = "0"
            weights[name] = weights[".".join(parts)]
    model = Glm4Moe(SMALL, weights.__getitem__)
    x = np.random.default_rng(seed).standard_normal((5, 8))
    prefix = "model.layers.1.mlp"
    routes = decoder.route(x, weights[f"{prefix}.gate.weight"],
                            weights[f"{prefix}.gate.e_score_correction_bias"], SMALL, 1)
    one, shared = model._mlp(x, f"{prefix}.experts.0"), model._mlp(x, f"{prefix}.shared_experts")
    np.testing.assert_allclose(model._experts(x, routes, prefix), 2.5 * one + shared)


def test_chunks_and_cache_change_nothing(seed: int) -> None:
    model = Glm4Moe(SMALL, random_weights(SMALL, seed).__getitem__)
    ids = np.random.default_rng(seed).integers(0, SMALL.vocab_size, 9).tolist()
    whole = model.forward(ids).logits
    cache = KvCache()
    parts = [model.forward(part, cache).logits for part in (ids[:4], ids[4:5], ids[5:])]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-9, atol=1e-9)
    assert cache.length == 9


def test_later_tokens_change_nothing_before(seed: int) -> None:
    model = Glm4Moe(SMALL, random_weights(SMALL, seed).__getitem__)
    a, b = model.forward([1, 2, 3, 4]).logits, model.forward([1, 2, 3, 5]).logits
    np.testing.assert_allclose(a[:3], b[:3])
    assert not np.allclose(a[3], b[3])


@pytest.mark.parametrize("kind, step", [("bf16", 2.0**-7), ("fp8_e4m3", 2.0**-3),
                                        ("fp8_e5m2", 2.0**-2)])
def test_kv_rounding_rounds_keys_and_values(kind: str, step: float, seed: int) -> None:
    weights = random_weights(SMALL, seed)
    exact, rounded = KvCache(), KvCache()
    Glm4Moe(SMALL, weights.__getitem__).forward([1, 2, 3], exact)
    Glm4Moe(SMALL, weights.__getitem__, kind).forward([1, 2, 3], rounded)
    for name in ("keys", "values"):
        e, r = getattr(exact, name)[0], getattr(rounded, name)[0]
        assert not np.array_equal(e, r)
        np.testing.assert_allclose(r, e, rtol=step / 2, atol=2.0**-10)


def test_config_reads_both_spellings() -> None:
    old = {**{k: v for k, v in vars(SMALL).items()}, "rope_theta": 5.0,
           "partial_rotary_factor": 0.25, "unknown_key": 1}
    new = {k: v for k, v in old.items() if k not in ("rope_theta", "partial_rotary_factor")}
    new["rope_parameters"] = {"rope_theta": 5.0, "partial_rotary_factor": 0.25,
                              "rope_type": "default"}
    assert Config.from_json(old) == Config.from_json(new)
    assert Config.from_json(old).rope_theta == 5.0
