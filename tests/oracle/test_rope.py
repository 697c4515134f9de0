"""YaRN on hand-computed numbers: pair j of 8 dimensions turns 10^-j radians a position."""

from __future__ import annotations

import math

import numpy as np
import pytest

import decoder
import rope
from rope import Rope, Scaling

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096,
        "rope_theta": 10000.0}


def of(changes: dict[str, object]) -> Scaling | None:
    return rope.scaling_from_json({"rope_parameters": {**YARN, **changes},
                                   "max_position_embeddings": 16384})


def test_frequencies() -> None:
    # 32 turns within 4096 positions are at pair log10(4096 / 64 pi) = 1.309, one turn at 2.814.
    np.testing.assert_allclose(Rope(1e4, of({})).frequencies(8), [1, 0.1, 0.00625, 0.00025])
    np.testing.assert_allclose(Rope(1e4, of({"truncate": False})).frequencies(8),
                               [1, 0.1, 0.00655697, 0.00025], rtol=1e-6)
    np.testing.assert_allclose(Rope(1e4).frequencies(8), [1, 0.1, 0.01, 0.001])
    np.testing.assert_allclose(Rope(1e4, of({"rope_type": "linear"})).frequencies(8),
                               [0.25, 0.025, 0.0025, 0.00025])


def test_magnitudes() -> None:
    whole = 1 + 0.1 * math.log(4)
    assert of({}).magnitude == pytest.approx(whole) and of({}).score_factor == 1.0
    assert of({"attention_factor": 1.25}).magnitude == 1.25
    both = of({"mscale": 0.5, "mscale_all_dim": 1.0})
    assert both.magnitude == pytest.approx((1 + 0.05 * math.log(4)) / whole)
    assert both.score_factor == pytest.approx(whole ** 2)
    assert of({"mscale": 0, "mscale_all_dim": 0}).magnitude == pytest.approx(whole)


def test_a_rotation_is_longer_by_the_magnitude() -> None:
    x = np.zeros((1, 1, 8))
    x[..., 1] = 1.0
    got = decoder.rope_half_split(x, np.array([3]), Rope(1e4, of({"attention_factor": 2.0})), 8)
    np.testing.assert_allclose(got[0, 0, [1, 5]], [2 * math.cos(0.3), 2 * math.sin(0.3)])


def test_other_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="longrope"):
        of({"rope_type": "longrope"})
    assert of({"rope_type": "default"}) is None
