"""The mathematics that both architectures share, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np

import decoder
from decoder import Config

SMALL = Config(hidden_size=8, num_hidden_layers=2, num_attention_heads=4, intermediate_size=16,
               moe_intermediate_size=8, n_routed_experts=6, n_shared_experts=1,
               num_experts_per_tok=2, first_k_dense_replace=1, vocab_size=11)


def test_rms_norm() -> None:
    # mean of squares (9 + 16) / 2 = 12.5; 3 / sqrt(12.5) = 0.848528, 4 / sqrt(12.5) = 1.131371
    got = decoder.rms_norm(np.array([[3.0, 4.0]]), np.array([1.0, 2.0]), 0.0)
    np.testing.assert_allclose(got, [[0.8485281374, 2.2627416998]], rtol=1e-9)
    # eps is added to the mean, not to the root: 1 / sqrt(1 + 3) = 0.5
    np.testing.assert_allclose(decoder.rms_norm(np.ones((1, 2)), np.ones(2), 3.0), [[0.5, 0.5]])


def test_rope_rotates_halves_and_passes_the_rest() -> None:
    # rotary_dim 4, theta 10000: frequencies 1 and 0.01; pairs (0, 2) and (1, 3); position 1.
    x = np.array([[[1.0, 2.0, 3.0, 4.0, 9.0]]])
    got = decoder.rope_half_split(x, np.array([1]), 10000.0, 4)
    np.testing.assert_allclose(
        got, [[[-1.9841106486, 1.9599006675, 2.4623779024, 4.0197996683, 9.0]]], rtol=1e-9)
    np.testing.assert_array_equal(decoder.rope_half_split(x, np.array([0]), 10000.0, 4), x)


def test_interleaved_rope_rotates_neighbours_and_passes_the_rest() -> None:
    # The same frequencies; pairs (0, 1) and (2, 3), left in place:
    # cos 1 = .5403023059, sin 1 = .8414709848; cos .01 = .9999500004, sin .01 = .0099998333.
    x = np.array([[[1.0, 2.0, 3.0, 4.0, 9.0]]])
    got = decoder.rope_interleaved(x, np.array([1]), 10000.0, 4)
    np.testing.assert_allclose(
        got, [[[-1.1426396637, 1.9220755966, 2.9598506679, 4.0297995017, 9.0]]], rtol=1e-9)
    np.testing.assert_array_equal(decoder.rope_interleaved(x, np.array([0]), 10000.0, 4), x)


def test_rope_makes_dot_products_depend_on_the_distance_alone(seed: int) -> None:
    q, k = np.random.default_rng(seed).standard_normal((2, 1, 1, 6))
    for rotate in (decoder.rope_half_split, decoder.rope_interleaved):
        dots = [np.sum(rotate(q, np.array([at + 5]), 99.0, 6) * rotate(k, np.array([at]), 99.0, 6))
                for at in (0, 3, 1000)]
        np.testing.assert_allclose(dots, dots[0], rtol=1e-9, atol=1e-9)


def test_layer_norm() -> None:
    # Mean 2, variance 1; with eps 3 the root is 2: -1/2 and 1/2, times the weight, plus the bias.
    got = decoder.layer_norm(np.array([[1.0, 3.0]]), np.array([2.0, 4.0]), np.array([1.0, -3.0]),
                             3.0)
    np.testing.assert_allclose(got, [[0.0, -1.0]])


def test_silu() -> None:
    # sigmoid(ln 3) = 3/4
    np.testing.assert_allclose(decoder.silu(np.array([math.log(3), 0.0])),
                               [0.75 * math.log(3), 0.0])
    np.testing.assert_array_equal(decoder.sigmoid(np.array([-1e4, 1e4])), [0.0, 1.0])


def gate_config(**changes: object) -> Config:
    return Config(**{**vars(SMALL), "num_experts_per_tok": 2, "routed_scaling_factor": 1.5,
                     **changes})


def gate(logits: list[float], bias: list[float], config: Config) -> decoder.Routes:
    return decoder.route(np.ones((1, 1)), np.array(logits)[:, None], np.array(bias), config, 3)


def test_gate_chooses_with_the_bias_and_weighs_without() -> None:
    # scores .5 .75 .25 .5; with the bias .5 .25 .55 .45: experts 2 and 0, and .05 to spare.
    # Weights .5 and .25 over .75, times 1.5.
    ln3 = math.log(3)
    got = gate([0, ln3, -ln3, 0], [0, -0.5, 0.3, -0.05], gate_config(n_routed_experts=4))
    assert got.experts.tolist() == [[0, 2]]
    np.testing.assert_allclose(got.weights, [[1.0, 0.5]])
    np.testing.assert_allclose(got.margins, [0.05])
    assert got.layer == 3


def test_gate_without_normalisation() -> None:
    got = gate([0, 0, -50, -50], [0] * 4, gate_config(n_routed_experts=4, norm_topk_prob=False))
    np.testing.assert_allclose(got.weights, [[0.75, 0.75]])


def test_gate_gives_ties_to_the_lowest_expert() -> None:
    got = gate([0] * 6, [0] * 6, gate_config())
    assert got.experts.tolist() == [[0, 1]]
    assert got.margins.tolist() == [0.0]


def test_gate_groups_mask_with_minus_infinity() -> None:
    # All choices are negative: a mask of 0 would win over the kept group. Group sums of the two
    # best: -.7 (experts 0..2) and -.9 (3..5); kept: 0..2, although expert 3 has the largest.
    config = gate_config(n_group=2, topk_group=1)
    got = gate([0] * 6, [-0.8, -0.9, -1.0, -0.6, -1.3, -2.0], config)
    assert got.experts.tolist() == [[0, 1]]
    # Within the group the next one is .1 away; the other group .2.
    np.testing.assert_allclose(got.margins, [0.1])
    got = gate([0] * 6, [-0.8, -0.9, -1.5, -0.6, -1.15, -2.0], config)
    np.testing.assert_allclose(got.margins, [0.05])  # the groups are closer than the experts
