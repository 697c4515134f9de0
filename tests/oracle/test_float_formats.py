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
