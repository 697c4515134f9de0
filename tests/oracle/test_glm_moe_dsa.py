"""Latent attention and the sparse indexer against numbers worked out by hand, and properties of the
whole model."""

from __future__ import annotations

import math

import numpy as np
import pytest

import decoder
import glm_moe_dsa
from glm_moe_dsa import Config, GlmMoeDsa, KvCache

SMALL = Config(hidden_size=8, num_hidden_layers=4, num_attention_heads=2, q_lora_rank=6,
               kv_lora_rank=5, qk_nope_head_dim=3, qk_rope_head_dim=4, v_head_dim=7, index_topk=3,
               index_n_heads=8, index_head_dim=6, intermediate_size=16, moe_intermediate_size=8,
               n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=2,
               first_k_dense_replace=1, vocab_size=11, routed_scaling_factor=2.5,
               indexer_types=("full", "full", "shared", "full"))
IDS = [1, 5, 2, 9, 4, 10, 3, 7, 0, 6, 8, 2]


def random_weights(config: Config, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    hidden, heads = config.hidden_size, config.num_attention_heads
    q_rank, kv_rank = config.q_lora_rank, config.kv_lora_rank
    nope, rope, index = config.qk_nope_head_dim, config.qk_rope_head_dim, config.index_head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "lm_head.weight": (config.vocab_size, hidden), "model.norm.weight": (hidden,)}

    def mlp(prefix: str, width: int) -> None:
        shapes.update({f"{prefix}.gate_proj.weight": (width, hidden),
                       f"{prefix}.up_proj.weight": (width, hidden),
                       f"{prefix}.down_proj.weight": (hidden, width)})

    for layer, kind in enumerate(config.indexer_types):
        name, at = f"model.layers.{layer}", f"model.layers.{layer}.self_attn"
        shapes.update({
            f"{name}.input_layernorm.weight": (hidden,),
            f"{name}.post_attention_layernorm.weight": (hidden,),
            f"{at}.q_a_proj.weight": (q_rank, hidden), f"{at}.q_a_layernorm.weight": (q_rank,),
            f"{at}.q_b_proj.weight": (heads * (nope + rope), q_rank),
            f"{at}.kv_a_proj_with_mqa.weight": (kv_rank + rope, hidden),
            f"{at}.kv_a_layernorm.weight": (kv_rank,),
            f"{at}.kv_b_proj.weight": (heads * (nope + config.v_head_dim), kv_rank),
            f"{at}.o_proj.weight": (hidden, heads * config.v_head_dim)})
        if kind == "full":
            shapes.update({
                f"{at}.indexer.wq_b.weight": (config.index_n_heads * index, q_rank),
                f"{at}.indexer.wk.weight": (index, hidden),
                f"{at}.indexer.k_norm.weight": (index,), f"{at}.indexer.k_norm.bias": (index,),
                f"{at}.indexer.weights_proj.weight": (config.index_n_heads, hidden)})
        if config.is_dense(layer):
            mlp(f"{name}.mlp", config.intermediate_size)
            continue
        shapes[f"{name}.mlp.gate.weight"] = (config.n_routed_experts, hidden)
        shapes[f"{name}.mlp.gate.e_score_correction_bias"] = (config.n_routed_experts,)
        for expert in range(config.n_routed_experts):
            mlp(f"{name}.mlp.experts.{expert}", config.moe_intermediate_size)
        mlp(f"{name}.mlp.shared_experts", config.moe_intermediate_size)
    return {n: rng.standard_normal(shape) for n, shape in shapes.items()}


def small_model(seed: int, config: Config = SMALL, kv_rounding: str = "none",
                **switches: object) -> GlmMoeDsa:
    return GlmMoeDsa(config, random_weights(config, seed).__getitem__, kv_rounding, **switches)


def changed(**changes: object) -> Config:
    return Config(**{**vars(SMALL), **changes})


def test_index_scores_by_hand() -> None:
    # Two heads of 4, so dot products are halved and weights divided by the root of 2. Key 0: 3 and
    # -1; key 1: -1/2 and 4. ReLU first, then the weights -1 and 1: -3 and 4.
    q = np.array([[[2.0, 0, 0, 0], [0, -2.0, 0, 0]]])
    k = np.array([[3.0, 1, 0, 0], [-0.5, -4, 0, 0]])
    root = math.sqrt(2.0)
    np.testing.assert_allclose(glm_moe_dsa.index_scores(q, k, np.array([[-root, root]])),
                               [[-3.0, 4.0]])


def choose(scores: list[float], visible: int, topk: int) -> glm_moe_dsa.IndexChoice:
    seen = np.arange(len(scores))[None, :] < visible
    return glm_moe_dsa.choose_positions(np.array([scores]), seen, topk, 7)


def test_top_k_takes_the_largest_visible_ones() -> None:
    got = choose([1.0, 5.0, 2.0, 4.0, 9.0], 4, 2)
    assert got.layer == 7
    assert got.positions(0) == [1, 3]
    np.testing.assert_allclose(got.margins, [2.0])  # 4 chosen, 2 left out
    # 1, 5, 2, 4: mean 3, squares of the distances 4 + 4 + 1 + 1.
    np.testing.assert_allclose(got.deviations, [math.sqrt(2.5)])
    np.testing.assert_allclose(got.relative_margins, [2.0 / math.sqrt(2.5)])


def test_top_k_gives_ties_to_the_lowest_position() -> None:
    assert choose([3.0, 2.0, 2.0, 5.0, 2.0], 5, 3).positions(0) == [0, 1, 3]
    assert choose([3.0, 2.0, 2.0, 5.0, 2.0], 5, 3).margins[0] == 0.0
    # Zeros of both signs are equal: ReLU makes many of them.
    assert choose([-0.0, 0.0, -0.0, 0.0], 4, 2).positions(0) == [0, 1]
    assert choose([0.0] * 4, 4, 2).relative_margins[0] == 0.0


def test_top_k_takes_all_while_there_are_no_more() -> None:
    for visible in (1, 2, 3):
        got = choose([-1.0, 2.0, -3.0, 4.0], visible, 3)
        assert got.positions(0) == list(range(visible))
        assert got.margins[0] == np.inf and got.relative_margins[0] == np.inf
    assert choose([-1.0, 2.0, -3.0, 4.0], 4, 9).positions(0) == [0, 1, 2, 3]
    assert choose([-1.0, 2.0, -3.0, 4.0], 4, 3).margins[0] == 2.0


def test_attention_by_hand() -> None:
    # d = 4: scores ln 3, 0 and 99 (not attended): weights 3/4 and 1/4; values (1, 0) and (5, 4).
    q = np.array([[[2.0, 0, 0, 0]]])
    k = np.array([[[math.log(3), 0, 0, 0]], [[0, 1.0, 0, 0]], [[99.0, 0, 0, 0]]])
    v = np.array([[[1.0, 0.0]], [[5.0, 4.0]], [[7.0, 7.0]]])
    got = glm_moe_dsa.sparse_attention(q, k, v, np.array([[True, True, False]]))
    np.testing.assert_allclose(got, [[2.0, 1.0]])


def test_naive_attention_equals_the_absorbed_form(seed: int) -> None:
    """Queries taken into the latent space, and the latent sum taken out of it, by head."""
    config, weights = SMALL, random_weights(SMALL, seed)
    model, name = GlmMoeDsa(config, weights.__getitem__), "model.layers.0.self_attn"
    x = np.random.default_rng(seed).standard_normal((5, 8))
    cache = KvCache()
    choices: list[glm_moe_dsa.IndexChoice] = []
    got = model._attention(x, 0, cache, choices)

    nope, width = config.qk_nope_head_dim, config.qk_nope_head_dim + config.v_head_dim
    q_latent = decoder.rms_norm(x @ weights[f"{name}.q_a_proj.weight"].T,
                                weights[f"{name}.q_a_layernorm.weight"], config.rms_norm_eps)
    q = (q_latent @ weights[f"{name}.q_b_proj.weight"].T).reshape(5, 2, -1)
    q_rope = decoder.rope_interleaved(q[..., nope:], np.arange(5), 1e6, 4)
    out = []
    for head in range(2):
        rows = weights[f"{name}.kv_b_proj.weight"][head * width:(head + 1) * width]
        scores = (q[:, head, :nope] @ rows[:nope] @ cache.latents[0].T
                  + q_rope[:, head] @ cache.rope_keys[0].T) / math.sqrt(7.0)
        probabilities = decoder.softmax(np.where(choices[0].chosen, scores, -np.inf))
        out.append(probabilities @ cache.latents[0] @ rows[nope:].T)
    want = np.concatenate(out, axis=-1) @ weights[f"{name}.o_proj.weight"].T
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


def test_model_without_mixing_is_norm_and_head() -> None:
    weights = random_weights(SMALL, 1)
    for name in weights:
        if "o_proj" in name or "down_proj" in name:
            weights[name] = np.zeros_like(weights[name])
    normed = decoder.rms_norm(weights["model.embed_tokens.weight"][[4]],
                              weights["model.norm.weight"], 1e-5)
    np.testing.assert_allclose(GlmMoeDsa(SMALL, weights.__getitem__).forward([4]).logits,
                               normed @ weights["lm_head.weight"].T)


def test_attention_bias_is_added(seed: int) -> None:
    config, weights = changed(attention_bias=True), random_weights(SMALL, seed)
    for layer in range(SMALL.num_hidden_layers):
        for module, width in (("q_a_proj", 6), ("kv_a_proj_with_mqa", 9), ("o_proj", 8)):
            weights[f"model.layers.{layer}.self_attn.{module}.bias"] = np.zeros(width)
    plain = GlmMoeDsa(SMALL, weights.__getitem__).forward(IDS).logits
    np.testing.assert_allclose(GlmMoeDsa(config, weights.__getitem__).forward(IDS).logits, plain,
                               atol=1e-12)
    for module in ("q_a_proj", "kv_a_proj_with_mqa", "o_proj"):
        name = f"model.layers.1.self_attn.{module}.bias"
        other = {**weights, name: weights[name] + 1.0}
        assert not np.allclose(GlmMoeDsa(config, other.__getitem__).forward(IDS).logits, plain)


def test_later_tokens_change_nothing_before(seed: int) -> None:
    model = small_model(seed)
    whole = model.forward(IDS)
    for length in (1, 3, 4, 7):
        other = model.forward([*IDS[:length], *[(i + 1) % 11 for i in IDS[length:]]])
        np.testing.assert_allclose(other.logits[:length], whole.logits[:length])
        assert not np.allclose(other.logits[length:], whole.logits[length:])
        for a, b in zip(whole.index_choices, other.index_choices):
            np.testing.assert_array_equal(a.chosen[:length], b.chosen[:length])


def test_chunks_and_cache_change_nothing(seed: int) -> None:
    model = small_model(seed)
    whole = model.forward(IDS)
    for cuts in ([4, 5, 9], list(range(1, 12)), [2]):
        cache = model.new_cache()
        parts = [model.forward(part.tolist(), cache) for part in np.split(np.array(IDS), cuts)]
        np.testing.assert_allclose(np.concatenate([p.logits for p in parts]), whole.logits,
                                   rtol=1e-9, atol=1e-9)
        assert cache.length == len(IDS)
        of_parts = [p.index_choices[1].positions(t) for p in parts for t in range(len(p.logits))]
        assert of_parts == [whole.index_choices[1].positions(t) for t in range(len(IDS))]


def test_a_copied_cache_is_independent(seed: int) -> None:
    model, cache = small_model(seed), KvCache()
    model.forward(IDS[:5], cache)
    branch = cache.copy()
    model.forward([0, 1, 2], branch)
    assert (cache.length, branch.length) == (5, 8)
    np.testing.assert_allclose(model.forward(IDS[5:], cache).logits,
                               model.forward(IDS).logits[5:], rtol=1e-9, atol=1e-9)


def test_sparse_is_dense_up_to_index_topk_and_differs_beyond(seed: int) -> None:
    for topk in (1, 3, 6):
        config = changed(index_topk=topk)
        sparse = small_model(seed, config).forward(IDS)
        dense = small_model(seed, config, dense_attention=True).forward(IDS)
        np.testing.assert_allclose(sparse.logits[:topk], dense.logits[:topk], atol=1e-12)
        apart = np.linalg.norm(sparse.logits - dense.logits, axis=-1)
        assert np.all(apart[topk:] > 1e-6)
        assert np.max(apart[topk:] / np.linalg.norm(dense.logits[topk:], axis=-1)) > 0.05
        for choice in sparse.index_choices:
            np.testing.assert_array_equal(choice.chosen.sum(axis=-1),
                                          np.minimum(np.arange(12) + 1, topk))
            assert np.all(np.isinf(choice.margins[:topk]))
            assert np.all(np.isfinite(choice.margins[topk:]))


def test_shared_layers_reuse_the_choice_before(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer 2 is shared: it attends where layer 1 chose, and layer 3 chooses anew."""
    attended: list[np.ndarray] = []
    original = glm_moe_dsa.sparse_attention

    def watched(q: np.ndarray, k: np.ndarray, v: np.ndarray, positions: np.ndarray) -> np.ndarray:
        attended.append(positions)
        return original(q, k, v, positions)

    monkeypatch.setattr(glm_moe_dsa, "sparse_attention", watched)
    cache = KvCache()
    output = small_model(seed).forward(IDS, cache)
    assert [c.layer for c in output.index_choices] == [0, 1, 3]
    for layer, choice in enumerate((0, 1, 1, 2)):
        chosen = output.index_choices[choice].chosen
        # Positions that no token attends to are not expanded.
        np.testing.assert_array_equal(attended[layer], chosen[:, chosen.any(axis=0)])
    choices = [choice.chosen for choice in output.index_choices]
    assert not np.array_equal(choices[0], choices[1])
    assert not np.array_equal(choices[1], choices[2])
    assert sorted(cache.index_keys) == [0, 1, 3] and sorted(cache.latents) == [0, 1, 2, 3]


def test_index_keys_are_stored_before_they_are_needed(seed: int) -> None:
    cache = KvCache()
    small_model(seed).forward(IDS[:2], cache)
    assert cache.index_keys[0].shape == (2, 6)
    assert cache.latents[0].shape == (2, 5) and cache.rope_keys[0].shape == (2, 4)


@pytest.mark.parametrize("kind, latent, rope, index", [
    ("f32", 2.0**-24, 2.0**-24, 2.0**-24), ("bf16", 2.0**-8, 2.0**-8, 2.0**-8),
    ("fp8_e4m3", 2.0**-4, 2.0**-4, 2.0**-4), ("fp8_e5m2", 2.0**-3, 2.0**-3, 2.0**-4),
    ("fp8_ds_mla", 2.0**-4, 2.0**-8, 2.0**-4)])
def test_kv_rounding_rounds_what_is_cached(kind: str, latent: float, rope: float, index: float,
                                           seed: int) -> None:
    exact, rounded = KvCache(), KvCache()
    small_model(seed).forward([1, 2, 3], exact)
    small_model(seed, SMALL, kind).forward([1, 2, 3], rounded)
    for part, step in (("latents", latent), ("rope_keys", rope), ("index_keys", index)):
        e, r = getattr(exact, part)[0], getattr(rounded, part)[0]
        np.testing.assert_allclose(r, e, rtol=step, atol=2.0**-9 if step > 2.0**-8 else 0)
        assert np.abs(r - e).max() > step / 64 * np.abs(e).min()


def test_index_keys_can_be_rounded_alone(seed: int) -> None:
    exact, rounded = KvCache(), KvCache()
    small_model(seed).forward([1, 2, 3], exact)
    small_model(seed, SMALL, index_key_rounding="fp8").forward([1, 2, 3], rounded)
    np.testing.assert_array_equal(rounded.latents[0], exact.latents[0])
    np.testing.assert_array_equal(rounded.index_keys[0], glm_moe_dsa.round_index_keys(
        exact.index_keys[0], "fp8"))
    assert not np.array_equal(rounded.index_keys[0], exact.index_keys[0])


def test_the_two_latent_eps_differ_where_latents_are_small(seed: int) -> None:
    weights = random_weights(SMALL, seed)
    for name in weights:
        if "q_a_proj" in name or "kv_a_proj" in name:
            weights[name] = weights[name] * 1e-3
    a, b, c = (GlmMoeDsa(SMALL, weights.__getitem__, latent_norm_eps=eps).forward(IDS).logits
               for eps in (None, 1e-5, 1e-6))
    np.testing.assert_allclose(a, b, atol=1e-12)
    assert np.abs(a - c).max() > 1e-3


def test_rope_styles_of_attention_and_indexer(seed: int) -> None:
    both = small_model(seed).forward(IDS)
    other = small_model(seed, changed(indexer_rope_interleave=False)).forward(IDS)
    # Invisible up to index_topk.
    np.testing.assert_allclose(both.logits[:3], other.logits[:3], atol=1e-12)
    assert not np.allclose(both.logits[3:], other.logits[3:])
    assert not np.allclose(both.logits[1:3], small_model(seed, changed(
        rope_interleave=False)).forward(IDS[:3]).logits[1:])


def raw_config(**changes: object) -> dict[str, object]:
    raw = {k: v for k, v in vars(SMALL).items() if k not in ("indexer_types", "mlp_layer_types")}
    return {**raw, "unknown_key": 1, **changes}


def test_config_reads_the_published_spelling() -> None:
    raw = raw_config(rope_parameters={"rope_theta": 8000000, "rope_type": "default"}, head_dim=192)
    del raw["rope_theta"]
    config = Config.from_json(raw)
    assert config.rope_theta == 8e6 and config.qk_rope_head_dim == 4
    assert config.indexer_types == ("full",) * 4
    assert [config.is_dense(n) for n in range(4)] == [True, False, False, False]
    kinds = ["dense", "sparse", "dense", "sparse"]
    assert [Config.from_json(raw_config(mlp_layer_types=kinds)).is_dense(n) for n in range(4)] == [
        True, False, True, False]


@pytest.mark.parametrize("keys, want", [
    ({"indexer_types": ["full", "shared", "full", "shared"]}, "FSFS"),
    ({"index_topk_pattern": "FFSS"}, "FFSS"),
    ({"index_topk_pattern": ["full", "full", "full", "shared"]}, "FFFS"),
    ({"index_topk_freq": 2}, "FFSF"),
    ({"index_topk_freq": 2, "index_skip_topk_offset": 1}, "FSFS"),
    ({"index_topk_freq": 4, "index_skip_topk_offset": 3}, "FFFS"),
    ({"index_topk_pattern": None, "index_topk_freq": 1}, "FFFF"),
])
def test_indexer_types(keys: dict, want: str) -> None:
    names = {"F": "full", "S": "shared"}
    assert Config.from_json(raw_config(**keys)).indexer_types == tuple(names[c] for c in want)


def test_indexer_types_of_glm_5_2() -> None:
    types = glm_moe_dsa.indexer_types({"num_hidden_layers": 78, "index_topk_freq": 4,
                                       "index_skip_topk_offset": 3, "index_topk_pattern": None})
    assert [n for n, kind in enumerate(types) if kind == "full"] == [0, 1, *range(2, 78, 4)]


@pytest.mark.parametrize("changes, message", [
    ({"index_topk": 0}, "index_topk 0"),
    ({"indexer_types": ["full"]}, "indexer_types of 1 layers, the model has 4"),
    ({"indexer_types": ["shared", "full", "full", "full"]}, "layer 0 is shared"),
    ({"index_topk_pattern": "FFXF"}, "layer 2 is 'X'"),
])
def test_impossible_configs_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config.from_json(raw_config(**changes))
