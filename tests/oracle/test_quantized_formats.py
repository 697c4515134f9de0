"""The integer layouts: words worked out by hand, round trips, and the published golden vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from quantized_formats import QuantizedLinear, pack, pack_codes, unpack, unpack_codes
from safetensors_io import Tensor


def random_linear(seed: int, outputs: int = 24, inputs: int = 96, group: int = 32,
                  permuted: bool = False, low_zero: int = 0, bits: int = 4) -> QuantizedLinear:
    rng = np.random.default_rng(seed)
    groups = inputs // group
    g_idx = rng.permutation(np.repeat(np.arange(groups, dtype=np.int32), group))
    scales = rng.standard_normal((outputs, groups)).astype(np.float16)  # of both signs
    top = 1 << bits
    return QuantizedLinear(rng.integers(0, top, (outputs, inputs), dtype=np.uint8),
                           scales.astype(np.float64),
                           rng.integers(low_zero, top, (outputs, groups), dtype=np.uint8),
                           g_idx if permuted else None, bits)


def hex_words(array: np.ndarray) -> list[str]:
    return [f"{w:08x}" for w in array.view(np.uint32).ravel()]


def column_linear(zero: int) -> QuantizedLinear:
    """8 outputs, 8 inputs, one group: code of output n, input k is (n + k) mod 16."""
    codes = np.add.outer(np.arange(8), np.arange(8)).astype(np.uint8)
    return QuantizedLinear(codes, np.ones((8, 1)), np.full((8, 1), zero, np.uint8))


def test_nibbles_are_packed_low_first() -> None:
    assert hex_words(pack_codes(np.arange(8), 0)) == ["76543210"]
    assert hex_words(pack_codes(np.arange(10) % 8, 0)) == ["76543210", "00000010"]
    assert unpack_codes(np.array([0x76543210], np.int32), 0, 5).tolist() == [0, 1, 2, 3, 4]


def test_gptq_words() -> None:
    v1, v2 = pack(column_linear(8), "gptq_v1", "F16"), pack(column_linear(8), "gptq_v2", "F16")
    # Word (0, n) holds inputs 0..7 of output n.
    assert hex_words(v1["qweight"].array)[:2] == ["76543210", "87654321"]
    assert v1["qweight"].array.shape == (1, 8)
    assert hex_words(v1["qzeros"].array) == ["77777777"]  # v1 stores the zero less one
    assert hex_words(v2["qzeros"].array) == ["88888888"]
    assert v1["scales"].dtype == "F16" and v1["scales"].array.shape == (1, 8)
    assert "g_idx" not in v1


def test_awq_words() -> None:
    # Word (k, 0) holds columns 0 2 4 6 1 3 5 7 of input k; input 0 has codes 0..7.
    tensors = pack(column_linear(8), "awq", "F16")
    assert hex_words(tensors["qweight"].array)[0] == "75316420"
    assert tensors["qweight"].array.shape == (8, 1)
    assert hex_words(tensors["qzeros"].array) == ["88888888"]


def test_pack_quantized_words() -> None:
    linear = column_linear(8)
    tensors = pack(linear, "pack_quantized", "BF16", store_zeros=False)
    # Word (n, 0) holds inputs 0..7 of output n.
    assert hex_words(tensors["weight_packed"].array)[:2] == ["76543210", "87654321"]
    assert tensors["weight_packed"].array.shape == (8, 1)
    assert tensors["weight_shape"].array.tolist() == [8, 8]
    assert tensors["weight_scale"].dtype == "BF16"
    assert "weight_zero_point" not in tensors
    zeros = np.arange(8, dtype=np.uint8)[:, None]
    asymmetric = QuantizedLinear(linear.codes, linear.scales, zeros)
    tensors = pack(asymmetric, "pack_quantized", "BF16")
    assert hex_words(tensors["weight_zero_point"].array) == ["76543210"]  # packed along outputs


def test_dequantize_by_hand() -> None:
    linear = QuantizedLinear(np.array([[15, 0, 9, 8]], np.uint8), np.array([[0.5, -2.0]]),
                             np.array([[8, 7]], np.uint8))
    np.testing.assert_array_equal(linear.dequantize(), [[3.5, -4.0, -4.0, -2.0]])
    permuted = QuantizedLinear(linear.codes, linear.scales, linear.zeros,
                               np.array([1, 0, 0, 1], np.int32))
    np.testing.assert_array_equal(permuted.dequantize(), [[-16.0, -4.0, 0.5, -2.0]])


def test_eight_bit_words() -> None:
    codes = np.add.outer(np.arange(8), np.arange(8)).astype(np.uint8) + 0x70
    linear = QuantizedLinear(codes, np.ones((8, 1)), np.full((8, 1), 128, np.uint8), bits=8)
    v1, v2 = pack(linear, "gptq_v1", "F16"), pack(linear, "gptq_v2", "F16")
    # Word (0, n) holds inputs 0..3 of output n, the second row inputs 4..7.
    assert v1["qweight"].array.shape == (2, 8)
    assert hex_words(v1["qweight"].array)[:2] == ["73727170", "74737271"]
    assert hex_words(v1["qweight"].array)[8] == "77767574"
    assert hex_words(v1["qzeros"].array) == ["7f7f7f7f"] * 2
    assert hex_words(v2["qzeros"].array) == ["80808080"] * 2
    packed = pack(linear, "pack_quantized", "BF16", store_zeros=False)
    assert packed["weight_packed"].array.shape == (8, 2)
    assert hex_words(packed["weight_packed"].array)[:2] == ["73727170", "77767574"]
    signed = pack(linear, "int_quantized", "BF16", store_zeros=False)
    assert signed["weight"].dtype == "I8"
    assert signed["weight"].array[0].tolist() == [-16, -15, -14, -13, -12, -11, -10, -9]


@pytest.mark.parametrize("layout, permuted, bits", [
    ("gptq_v1", False, 4), ("gptq_v1", True, 4), ("gptq_v2", False, 4), ("gptq_v2", True, 4),
    ("awq", False, 4), ("pack_quantized", False, 4), ("pack_quantized", True, 4),
    ("gptq_v1", False, 8), ("gptq_v1", True, 8), ("gptq_v2", False, 8),
    ("pack_quantized", False, 8), ("pack_quantized", True, 8), ("int_quantized", False, 8)])
def test_round_trip(layout: str, permuted: bool, bits: int, seed: int) -> None:
    linear = random_linear(seed, permuted=permuted, low_zero=1 if layout == "gptq_v1" else 0,
                           bits=bits)
    got = unpack(pack(linear, layout, "F16"), layout, symmetric=False, bits=bits)
    np.testing.assert_array_equal(got.codes, linear.codes)
    np.testing.assert_array_equal(got.zeros, linear.zeros)
    np.testing.assert_array_equal(got.scales, linear.scales)
    np.testing.assert_array_equal(got.dequantize(), linear.dequantize())


def test_pack_quantized_takes_any_shape(seed: int) -> None:
    """Rows and columns that fill no word: the padding is cut off again."""
    rng = np.random.default_rng(seed)
    linear = QuantizedLinear(rng.integers(0, 16, (11, 12), dtype=np.uint8), np.ones((11, 2)),
                             rng.integers(0, 16, (11, 2), dtype=np.uint8))
    got = unpack(pack(linear, "pack_quantized", "BF16"), "pack_quantized", symmetric=False)
    np.testing.assert_array_equal(got.codes, linear.codes)
    np.testing.assert_array_equal(got.zeros, linear.zeros)


def test_symmetric_reading_ignores_stored_zeros(seed: int) -> None:
    linear = random_linear(seed, low_zero=1)
    got = unpack(pack(linear, "gptq_v1", "F16"), "gptq_v1", symmetric=True)
    assert np.all(got.zeros == 8)


def test_v1_zero_of_15_wraps() -> None:
    tensors = pack(column_linear(8), "gptq_v1", "F16")
    tensors["qzeros"] = Tensor("I32", np.array([[-1]], np.int32))  # every nibble 15
    assert np.all(unpack(tensors, "gptq_v1", symmetric=False).zeros == 0)


@pytest.mark.parametrize("layout, change, message", [
    ("gptq_v1", {"zeros": np.zeros((8, 1), np.uint8)}, "zero point of 0"),
    ("gptq_v1", {"codes": np.zeros((8, 12), np.uint8)}, "multiples of 8"),
    ("awq", {"scales": np.ones((8, 3)), "zeros": np.ones((8, 3), np.uint8)}, "3 groups"),
    ("gptq_v1", {"scales": np.ones((7, 1))}, "do not match"),
    ("gguf", {}, "unknown layout"),
    ("awq", {"bits": 8}, "no 8-bit codes"),
    ("int_quantized", {}, "no 4-bit codes"),
])
def test_what_cannot_be_packed_is_refused(layout: str, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(QuantizedLinear(**{**vars(column_linear(8)), **change}), layout, "F16")


@pytest.fixture
def golden(reference_data: Path) -> dict:
    return json.loads((reference_data / "golden_quant_vectors.json").read_text())


def golden_linear(golden: dict, scales: np.ndarray) -> QuantizedLinear:
    codes = np.array(golden["q_in_out_unsigned"], np.uint8).T
    return QuantizedLinear(codes, scales, np.full(scales.shape, 8, np.uint8))


def i32(values: list) -> np.ndarray:
    return np.array(values, np.int64).astype(np.int32)


@pytest.mark.parametrize("layout, section, zeros_key", [
    ("gptq_v1", "gptq", "qzeros_v1"), ("gptq_v2", "gptq", "qzeros_v2"),
    ("awq", "awq_gemm", "qzeros")])
def test_golden_qweight_formats(golden: dict, layout: str, section: str, zeros_key: str) -> None:
    want = golden[section]
    scales = np.array(want["scales_fp16_bits"], np.uint16).view(np.float16)
    got = pack(golden_linear(golden, scales.T.astype(np.float64)), layout, "F16",
               store_g_idx=section == "gptq")
    np.testing.assert_array_equal(got["qweight"].array, i32(want["qweight"]))
    np.testing.assert_array_equal(got["qzeros"].array, i32(want[zeros_key]))
    np.testing.assert_array_equal(got["scales"].array.view(np.uint16), want["scales_fp16_bits"])
    if section == "gptq":
        np.testing.assert_array_equal(got["g_idx"].array, want["g_idx"])
    linear = unpack(got, layout, symmetric=False)
    np.testing.assert_array_equal(linear.dequantize(), want["dequant_out_in"])


def test_golden_compressed_tensors(golden: dict) -> None:
    want = golden["compressed_tensors"]
    bits = np.array(want["weight_scale_bf16_bits_out_group"], np.uint32)
    scales = (bits << 16).view(np.float32).astype(np.float64)
    got = pack(golden_linear(golden, scales), "pack_quantized", "BF16", store_zeros=False)
    np.testing.assert_array_equal(got["weight_packed"].array, i32(want["weight_packed"]))
    np.testing.assert_array_equal(got["weight_scale"].array, bits)
    np.testing.assert_array_equal(got["weight_shape"].array, want["weight_shape"])
    linear = unpack(got, "pack_quantized", symmetric=False)
    np.testing.assert_array_equal(linear.dequantize(), want["dequant_out_in"])
