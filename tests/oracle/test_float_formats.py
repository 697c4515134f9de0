"""Rounding to bf16 and fp8: hand-picked values, and the published decode tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import float_formats


def test_bf16_rounds_to_nearest_even() -> None:
    # 1 + 2^-8 lies between 1 and 1 + 2^-7: the even one is 1. 1 + 3 * 2^-8 goes up to 1 + 2^-6.
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -2.5, 0.0])
    assert [hex(b) for b in float_formats.bf16_bits(values)] == [
        "0x3f80", "0x3f80", "0x3f82", "0xc020", "0x0"]
    np.testing.assert_array_equal(float_formats.round_bf16(values),
                                  [1.0, 1.0, 1 + 2**-6, -2.5, 0.0])


def test_bf16_bits_and_rounding_agree(seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(10000).astype(np.float32)
    np.testing.assert_array_equal(float_formats.bf16_values(float_formats.bf16_bits(values)),
                                  float_formats.round_bf16(values))


@pytest.mark.parametrize("value, e4m3, e5m2", [
    (1.0, 1.0, 1.0),
    (1.0625, 1.0, 1.0),  # a tie in e4m3 (step 1/8): to even
    (1.1875, 1.25, 1.25),  # a tie in e4m3 between 1.125 and 1.25: to even
    (17.0, 16.0, 16.0),
    (460.0, 448.0, 448.0),
    (1e6, 448.0, 57344.0),  # saturates; never an infinity
    (-1e6, -448.0, -57344.0),
    (2.0**-9, 2.0**-9, 2.0**-9),  # the smallest e4m3 subnormal
    (2.0**-10, 0.0, 2.0**-10),  # a tie between 0 and it: to even
    (2.0**-16, 0.0, 2.0**-16),  # the smallest e5m2 subnormal
])
def test_fp8_values(value: float, e4m3: float, e5m2: float) -> None:
    assert float_formats.round_fp8_e4m3(np.array(value)) == e4m3
    assert float_formats.round_fp8_e5m2(np.array(value)) == e5m2


@pytest.mark.parametrize("name, largest", [("e4m3", 448.0), ("e5m2", 57344.0)])
def test_fp8_picks_the_nearest_table_entry(reference_data: Path, name: str, largest: float,
                                           seed: int) -> None:
    tables = json.loads((reference_data / "fp8_decode_tables.json").read_text())
    key = next(k for k in tables if name in k)
    entries = [float(v) for v in tables[key] if v is not None]
    table = np.unique([v for v in entries if abs(v) <= largest])
    rounding = getattr(float_formats, f"round_fp8_{name}")
    np.testing.assert_array_equal(rounding(table), table)
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(2000) * 2.0 ** rng.integers(-20, 18, 2000)
    distance = np.abs(values[:, None] - table)
    np.testing.assert_array_equal(np.abs(values - rounding(values)), distance.min(axis=1))


def test_unknown_kv_rounding_is_named() -> None:
    with pytest.raises(ValueError, match="fp4"):
        float_formats.round_kv(np.zeros(1), "fp4")


def test_scaled_e4m3_by_hand() -> None:
    # Largest 896: the scale is 2. 896 / 2 = 448 is exact; 100 / 2 = 50 lies between 48 and 52, and
    # the tie goes to the even mantissa, 48.
    values = np.array([[896.0, 100.0, -2.0]])
    got = float_formats.round_scaled_e4m3(values, 1e-4, power_of_two=False)
    np.testing.assert_array_equal(got, [[896.0, 96.0, -2.0]])
    # Largest 900: a power of two is rounded up, to 4: 225 becomes 224, 25 becomes 24 (a tie).
    got = float_formats.round_scaled_e4m3(np.array([[900.0, 100.0]]), 1e-4, power_of_two=True)
    np.testing.assert_array_equal(got, [[896.0, 96.0]])
    # Exactly a power of two stays: 448 * 2 has scale 2, not 4.
    got = float_formats.round_scaled_e4m3(np.array([[896.0, 104.0]]), 1e-4, power_of_two=True)
    np.testing.assert_array_equal(got, [[896.0, 104.0]])
    zeros = np.zeros((2, 3))
    got = float_formats.round_scaled_e4m3(zeros, 1e-4, power_of_two=True)
    np.testing.assert_array_equal(got, zeros)


def test_scaled_e4m3_has_one_scale_for_each_tile(seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((2, 5, 320))
    values[..., 128:256] *= 1e4
    got = float_formats.round_scaled_e4m3(values, 1e-4, power_of_two=True)
    alone = [float_formats.round_scaled_e4m3(values[..., b:e], 1e-4, power_of_two=True)
             for b, e in ((0, 128), (128, 256), (256, 320))]
    np.testing.assert_array_equal(got, np.concatenate(alone, axis=-1))
    for part, value in zip(alone, np.split(values, [128, 256], axis=-1)):
        # Half a step of a normal value, or of the smallest ones, times a scale of up to 2 / 448.
        smallest = np.abs(value).max() * 2 / 448 * 2.0**-10
        np.testing.assert_allclose(part, value, rtol=2.0**-4, atol=smallest)
