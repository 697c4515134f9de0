"""FP8 weights by hand, against the published table, and through files."""

from __future__ import annotations

import numpy as np
import pytest

import float_formats
import fp8_formats
from safetensors_io import Tensor


def test_values_by_hand() -> None:
    values = fp8_formats.e4m3_values()
    assert [values[c] for c in (0x00, 0x01, 0x07, 0x08, 0x38, 0xBC, 0x7E)] == [
        0, 2.0 ** -9, 7 * 2.0 ** -9, 2.0 ** -6, 1, -1.5, 448]
    assert np.isnan(values[[0x7F, 0xFF]]).all() and np.signbit(values[0x80])


def test_encoding_inverts_decoding_and_rounds_to_nearest(seed: int) -> None:
    codes = np.array([c for c in range(256) if c & 0x7F != 0x7F], np.uint8)
    np.testing.assert_array_equal(fp8_formats.encode(fp8_formats.decode(codes)), codes)
    values = np.random.default_rng(seed).standard_normal(1000) * 100
    np.testing.assert_array_equal(fp8_formats.decode(fp8_formats.encode(values)),
                                  float_formats.round_fp8_e4m3(values))


def test_a_block_scale_by_hand() -> None:
    codes = np.full((2, 130), 0x38, np.uint8)  # 1
    tensors = {"w": Tensor("F8_E4M3", codes),
               "w_scale_inv": Tensor("F32", np.array([[0.5, 3.0]], np.float32))}
    values = fp8_formats.unpack("w", tensors)
    assert (values[:, :128] == 0.5).all() and (values[:, 128:] == 3.0).all()


@pytest.mark.parametrize("scaling, scales", [("block", (2, 3)), ("channel", (200, 1))])
def test_packing_keeps_values_to_three_bits(seed: int, scaling: str, scales: tuple) -> None:
    values = np.random.default_rng(seed).standard_normal((200, 300)) * 0.02
    suffix, codes, scale = fp8_formats.pack(values, scaling, 128)
    assert codes.dtype == "F8_E4M3" and scale.array.shape == scales
    read = fp8_formats.unpack("w", {"w": codes, f"w{suffix}": scale})
    np.testing.assert_allclose(read, values, rtol=0.066, atol=2e-5)
