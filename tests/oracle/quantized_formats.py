"""The 4-bit weight layouts found in checkpoint files: pack, unpack and dequantize, bit by bit.

A Linear is held as a `QuantizedLinear` in one orientation, [out, in], whatever the file does:
    W[n, k] = scales[n, g] * (codes[n, k] - zeros[n, g])   with g = g_idx[k] (k // group if None)
codes and zeros are unsigned nibbles 0..15; scales may be negative.

Layouts (all words are int32, low nibble first):
  gptq_v1        qweight [in/8, out] packed along in; qzeros [groups, out/8] holding zero-1; scales
                 [groups, out]; optional g_idx [in]
  gptq_v2        the same with the zero itself in qzeros
  awq            qweight [in, out/8] and qzeros [groups, out/8], 8 columns a word in AWQ's order
  pack_quantized weight_packed [out, ceil(in/8)], weight_scale [out, groups], weight_shape [2];
                 weight_zero_point [ceil(out/8), groups] packed along out, or I8 [out, groups] of
                 the zero minus 8; weight_g_idx [in]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

import numpy as np

from safetensors_io import Tensor, float_tensor, int_tensor

LAYOUTS = ("gptq_v1", "gptq_v2", "awq", "pack_quantized")
# Word nibble j holds column AWQ_ORDER[j] of its 8.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
SYMMETRIC_ZERO = 8


@dataclass(frozen=True)
class QuantizedLinear:
    codes: np.ndarray  # uint8 [out, in]
    scales: np.ndarray  # float [out, groups]
    zeros: np.ndarray  # uint8 [out, groups]
    g_idx: np.ndarray | None = None  # int32 [in]

    @property
    def groups_of_inputs(self) -> np.ndarray:
        """int [in]: the group of each input feature."""
        if self.g_idx is not None:
            return self.g_idx
        inputs, groups = self.codes.shape[1], self.scales.shape[1]
        return np.arange(inputs) // (inputs // groups)

    def dequantize(self) -> np.ndarray:
        """float64 [out, in]; exact, since a scale has at most 24 bits and a code 5."""
        groups = self.groups_of_inputs
        zeros = self.zeros.astype(np.float64)[:, groups]
        return self.scales.astype(np.float64)[:, groups] * (self.codes - zeros)


def pack_nibbles(values: np.ndarray, axis: int) -> np.ndarray:
    """Packs 8 neighbours along `axis` into one int32, low nibble first; pads with zeros."""
    moved = np.moveaxis(np.asarray(values, dtype=np.uint32), axis, 0)
    pad = -moved.shape[0] % 8
    if pad:
        moved = np.concatenate([moved, np.zeros((pad, *moved.shape[1:]), np.uint32)])
    words = np.zeros((moved.shape[0] // 8, *moved.shape[1:]), np.uint32)
    for j in range(8):
        words |= moved[j::8] << np.uint32(4 * j)
    return np.ascontiguousarray(np.moveaxis(words, 0, axis)).view(np.int32)


def unpack_nibbles(words: np.ndarray, axis: int, count: int | None = None) -> np.ndarray:
    """The inverse: uint8 nibbles, cut to `count` along `axis` where given."""
    unsigned = np.ascontiguousarray(words).view(np.uint32)
    moved = np.moveaxis(unsigned, axis, 0)
    out = np.empty((moved.shape[0] * 8, *moved.shape[1:]), np.uint8)
    for j in range(8):
        out[j::8] = (moved >> np.uint32(4 * j)) & np.uint32(15)
    return np.ascontiguousarray(np.moveaxis(out[:count], 0, axis))


def _awq_shuffled(columns: np.ndarray) -> np.ndarray:
    """Reorders the last axis in blocks of 8 so that nibble j is column AWQ_ORDER[j]."""
    blocks = columns.reshape(*columns.shape[:-1], -1, 8)
    return blocks[..., AWQ_ORDER].reshape(columns.shape)


def _awq_unshuffled(nibbles: np.ndarray) -> np.ndarray:
    blocks = nibbles.reshape(*nibbles.shape[:-1], -1, 8)
    return blocks[..., np.argsort(AWQ_ORDER)].reshape(nibbles.shape)


def _check(linear: QuantizedLinear, layout: str) -> None:
    outputs, inputs = linear.codes.shape
    groups = linear.scales.shape[1]
    if linear.scales.shape != (outputs, groups) or linear.zeros.shape != (outputs, groups):
        raise ValueError(f"scales {linear.scales.shape} and zeros {linear.zeros.shape} do not "
                         f"match codes {linear.codes.shape}")
    if inputs % groups:
        raise ValueError(f"{inputs} inputs do not divide into {groups} groups")
    if layout != "pack_quantized" and (inputs % 8 or outputs % 8):
        raise ValueError(f"{layout} needs multiples of 8, got [{outputs}, {inputs}]")


def pack(linear: QuantizedLinear, layout: str, scale_dtype: str, *, store_g_idx: bool = False,
         store_zeros: bool = True, zero_dtype: str = "I32") -> dict[str, Tensor]:
    """Tensors by suffix. `store_g_idx` writes g_idx even when it is sequential. `store_zeros` and
    `zero_dtype` matter to pack_quantized alone: a symmetric file has no zero points."""
    _check(linear, layout)
    scales = linear.scales
    store_g_idx = store_g_idx or linear.g_idx is not None
    g_idx = int_tensor("I32", linear.groups_of_inputs)
    if layout == "pack_quantized":
        tensors = {
            "weight_packed": int_tensor("I32", pack_nibbles(linear.codes, 1)),
            "weight_scale": float_tensor(scale_dtype, scales),
            "weight_shape": int_tensor("I64", np.array(linear.codes.shape)),
        }
        if store_zeros and zero_dtype == "I8":
            tensors["weight_zero_point"] = int_tensor("I8", linear.zeros.astype(np.int8) - 8)
        elif store_zeros:
            tensors["weight_zero_point"] = int_tensor("I32", pack_nibbles(linear.zeros, 0))
        elif np.any(linear.zeros != SYMMETRIC_ZERO):
            raise ValueError("zero points other than 8 need store_zeros")
        if store_g_idx:
            tensors["weight_g_idx"] = g_idx
        return tensors
    if layout == "awq":
        if store_g_idx:
            raise ValueError("awq has no g_idx")
        return {
            "qweight": int_tensor("I32", pack_nibbles(_awq_shuffled(linear.codes.T), 1)),
            "qzeros": int_tensor("I32", pack_nibbles(_awq_shuffled(linear.zeros.T), 1)),
            "scales": float_tensor(scale_dtype, scales.T),
        }
    if layout not in ("gptq_v1", "gptq_v2"):
        raise ValueError(f"unknown layout {layout!r}: want one of {LAYOUTS}")
    zeros = linear.zeros.T
    if layout == "gptq_v1":
        if np.any(zeros == 0):
            # Writers subtract 1 from the whole word, which borrows from the next nibble.
            raise ValueError("gptq_v1 cannot hold a zero point of 0: readers disagree about it")
        zeros = zeros - 1
    tensors = {
        "qweight": int_tensor("I32", pack_nibbles(linear.codes.T, 0)),
        "qzeros": int_tensor("I32", pack_nibbles(zeros, 1)),
        "scales": float_tensor(scale_dtype, scales.T),
    }
    if store_g_idx:
        tensors["g_idx"] = g_idx
    return tensors


def looks_symmetric(qzeros: Tensor) -> bool:
    """Whether a GPTQ file's stored zero points are 7 everywhere, or 8 everywhere."""
    nibbles = unpack_nibbles(qzeros.array, 1)
    return bool(np.all(nibbles == 7) or np.all(nibbles == 8))


def unpack(tensors: Mapping[str, Tensor], layout: str, *, symmetric: bool) -> QuantizedLinear:
    """The Linear of these tensors (by suffix). `symmetric` means zero point 8 whatever the file's
    zero points say, as every reader of symmetric files has it."""
    if layout == "pack_quantized":
        outputs, inputs = (int(n) for n in tensors["weight_shape"].array)
        codes = unpack_nibbles(tensors["weight_packed"].array, 1, inputs)
        scales = tensors["weight_scale"].to_float64()
        zeros = np.full(scales.shape, SYMMETRIC_ZERO, np.uint8)
        if "weight_zero_point" in tensors:
            stored = tensors["weight_zero_point"]
            zeros = ((stored.array + 8).astype(np.uint8) if stored.dtype == "I8"
                     else unpack_nibbles(stored.array, 0, outputs))
        g_idx = tensors["weight_g_idx"].array if "weight_g_idx" in tensors else None
        linear = QuantizedLinear(codes, scales, zeros, g_idx)
    elif layout == "awq":
        linear = QuantizedLinear(
            _awq_unshuffled(unpack_nibbles(tensors["qweight"].array, 1)).T,
            tensors["scales"].to_float64().T,
            _awq_unshuffled(unpack_nibbles(tensors["qzeros"].array, 1)).T)
    elif layout in ("gptq_v1", "gptq_v2"):
        zeros = unpack_nibbles(tensors["qzeros"].array, 1)
        if layout == "gptq_v1":
            zeros = (zeros + 1) & 15
        g_idx = tensors["g_idx"].array if "g_idx" in tensors else None
        linear = QuantizedLinear(unpack_nibbles(tensors["qweight"].array, 0).T,
                                 tensors["scales"].to_float64().T, zeros.T, g_idx)
    else:
        raise ValueError(f"unknown layout {layout!r}: want one of {LAYOUTS}")
    if symmetric:
        linear = QuantizedLinear(linear.codes, linear.scales,
                                 np.full_like(linear.zeros, SYMMETRIC_ZERO), linear.g_idx)
    _check(linear, layout)
    return linear
