"""FP8 (e4m3fn) weights as checkpoint files have them: codes [out, in] with scales, encoded and decoded.

Scalings:
  block    weight_scale_inv [ceil(out/b), ceil(in/b)] float32: one for each block of b x b, the last ones cut short
           (its name says inverse; it multiplies)
  channel  weight_scale [out, 1] bf16: one for each row

A weight is float32(code) * scale, rounded once to float32.
"""

from __future__ import annotations

from typing import Mapping

import numpy as np

import float_formats
from safetensors_io import Tensor, float_tensor, int_tensor

SCALINGS = ("block", "channel")
LARGEST = 448.0


def e4m3_values() -> np.ndarray:
    """float64 [256], by the format's definition: bias 7, no infinities, NaN at 0x7F and 0xFF."""
    codes = np.arange(256)
    exponent, fraction = (codes >> 3) & 15, codes & 7
    magnitude = np.where(exponent == 0, np.ldexp(fraction / 8.0, -6),
                         np.ldexp(1.0 + fraction / 8.0, exponent - 7))
    magnitude[(codes & 0x7F) == 0x7F] = np.nan
    return np.where(codes & 0x80, -magnitude, magnitude)


_VALUES = e4m3_values()


def decode(codes: np.ndarray) -> np.ndarray:
    return _VALUES[codes]


def encode(values: np.ndarray) -> np.ndarray:
    """The nearest codes (uint8), ties to even, saturating."""
    rounded = float_formats.round_fp8_e4m3(values)
    magnitude = np.searchsorted(_VALUES[:0x7F], np.abs(rounded)).astype(np.uint8)
    return np.where(np.signbit(rounded), magnitude | 0x80, magnitude).astype(np.uint8)


def _spread(scales: np.ndarray, shape: tuple[int, ...], block: int) -> np.ndarray:
    """The scale of each element."""
    if scales.shape[-1] == 1 and scales.shape[-2] == shape[-2]:
        return np.broadcast_to(scales, shape)
    rows = np.repeat(scales, block, axis=-2)[..., :shape[-2], :]
    return np.repeat(rows, block, axis=-1)[..., :shape[-1]]


def _largest(values: np.ndarray, scaling: str, block: int) -> np.ndarray:
    """Of each part that has a scale of its own."""
    magnitude = np.abs(values)
    if scaling == "channel":
        return magnitude.max(axis=-1, keepdims=True)
    rows, columns = values.shape[-2:]
    down = np.maximum.reduceat(magnitude, np.arange(0, rows, block), axis=-2)
    return np.maximum.reduceat(down, np.arange(0, columns, block), axis=-1)


def pack(values: np.ndarray, scaling: str, block: int) -> tuple[str, Tensor, Tensor]:
    """(what is appended to the weight's name for the scales, codes, scales) of [..., out, in]."""
    if scaling not in SCALINGS:
        raise ValueError(f"unknown scaling {scaling!r}: want one of {SCALINGS}")
    scales = float_tensor("BF16" if scaling == "channel" else "F32",
                          np.maximum(_largest(values, scaling, block), 1e-12) / LARGEST)
    codes = encode(values / _spread(scales.to_float64(), values.shape, block))
    suffix = "_scale" if scaling == "channel" else "_scale_inv"
    return suffix, int_tensor("F8_E4M3", codes), scales


def unpack(name: str, tensors: Mapping[str, Tensor]) -> np.ndarray | None:
    """float64 values of the weight of this name, or None if it is not FP8. Blocks are square powers of two."""
    codes = tensors[name]
    if codes.dtype != "F8_E4M3":
        return None
    scales = tensors[f"{name}_scale_inv" if f"{name}_scale_inv" in tensors else f"{name}_scale"]
    spread = _spread(scales.to_float64(), codes.array.shape,
                     _block(codes.array.shape[-2:], scales.array.shape[-2:]))
    return (decode(codes.array).astype(np.float32)
            * spread.astype(np.float32)).astype(np.float64)


def _block(shape: tuple[int, ...], blocks: tuple[int, ...]) -> int:
    for block in (1 << power for power in range(4, 13)):
        if blocks == tuple(-(-size // block) for size in shape):
            return block
    return max(shape)
