"""The integer weight layouts found in checkpoint files: pack, unpack and dequantize, bit by bit.

A Linear is held as a `QuantizedLinear` in one orientation, [out, in], whatever the file does:
    W[n, k] = scales[n, g] * (codes[n, k] - zeros[n, g])   with g = g_idx[k] (k // group if None)
codes and zeros are unsigned, 0..15 or 0..255; scales may be negative.

Layouts (all words are int32, the first code lowest; here of 4 bits, with 4 codes a word of 8):
  gptq_v1        qweight [in/8, out] packed along in; qzeros [groups, out/8] holding zero-1; scales
                 [groups, out]; optional g_idx [in]
  gptq_v2        the same with the zero itself in qzeros
  awq            qweight [in, out/8] and qzeros [groups, out/8], 8 columns a word in AWQ's order
  pack_quantized weight_packed [out, ceil(in/8)], weight_scale [out, groups], weight_shape [2];
                 weight_zero_point [ceil(out/8), groups] packed along out, or I8 [out, groups] of
                 the zero minus 8; weight_g_idx [in]
  int_quantized  of 8 bits alone: weight I8 [out, in] holding code-128, weight_scale [out, groups],
                 weight_zero_point I8 [out, groups] holding zero-128
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

import numpy as np

from safetensors_io import Tensor, float_tensor, int_tensor

LAYOUTS = ("gptq_v1", "gptq_v2", "awq", "pack_quantized", "int_quantized")
# Word nibble j holds column AWQ_ORDER[j] of its 8.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def symmetric_zero(bits: int) -> int:
    return 1 << (bits - 1)


@dataclass(frozen=True)
class QuantizedLinear:
    codes: np.ndarray  # uint8 [out, in]
    scales: np.ndarray  # float [out, groups]
    zeros: np.ndarray  # uint8 [out, groups]
    g_idx: np.ndarray | None = None  # int32 [in]
    bits: int = 4  # of a code

    @property
    def groups_of_inputs(self) -> np.ndarray:
        """int [in]: the group of each input feature."""
        if self.g_idx is not None:
            return self.g_idx
        inputs, groups = self.codes.shape[1], self.scales.shape[1]
        return np.arange(inputs) // (inputs // groups)

    def dequantize(self) -> np.ndarray:
        """float64 [out, in]; exact, since a scale has at most 24 bits and a code 9."""
        groups = self.groups_of_inputs
        zeros = self.zeros.astype(np.float64)[:, groups]
        return self.scales.astype(np.float64)[:, groups] * (self.codes - zeros)


def pack_codes(values: np.ndarray, axis: int, bits: int = 4) -> np.ndarray:
    """Packs neighbours along `axis` into int32 words, the first lowest; pads with zeros."""
    each = 32 // bits
    moved = np.moveaxis(np.asarray(values, dtype=np.uint32), axis, 0)
    pad = -moved.shape[0] % each
    if pad:
        moved = np.concatenate([moved, np.zeros((pad, *moved.shape[1:]), np.uint32)])
    words = np.zeros((moved.shape[0] // each, *moved.shape[1:]), np.uint32)
    for j in range(each):
        words |= moved[j::each] << np.uint32(bits * j)
    return np.ascontiguousarray(np.moveaxis(words, 0, axis)).view(np.int32)


def unpack_codes(words: np.ndarray, axis: int, count: int | None = None,
                 bits: int = 4) -> np.ndarray:
    """The inverse: uint8 codes, cut to `count` along `axis` where given."""
    each = 32 // bits
    unsigned = np.ascontiguousarray(words).view(np.uint32)
    moved = np.moveaxis(unsigned, axis, 0)
    out = np.empty((moved.shape[0] * each, *moved.shape[1:]), np.uint8)
    for j in range(each):
        out[j::each] = (moved >> np.uint32(bits * j)) & np.uint32((1 << bits) - 1)
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
    if linear.bits != 4 and layout == "awq" or linear.bits != 8 and layout == "int_quantized":
        raise ValueError(f"{layout} has no {linear.bits}-bit codes")
    if layout not in ("pack_quantized", "int_quantized") and (inputs % 8 or outputs % 8):
        raise ValueError(f"{layout} needs multiples of 8, got [{outputs}, {inputs}]")


def pack(linear: QuantizedLinear, layout: str, scale_dtype: str, *, store_g_idx: bool = False,
         store_zeros: bool = True, zero_dtype: str = "I32") -> dict[str, Tensor]:
    """Tensors by suffix. `store_g_idx` writes g_idx even when it is sequential. `store_zeros`
    matters to pack_quantized and int_quantized (symmetric files have no zero points), `zero_dtype`
    to pack_quantized."""
    _check(linear, layout)
    scales, bits = linear.scales, linear.bits
    store_g_idx = store_g_idx or linear.g_idx is not None
    g_idx = int_tensor("I32", linear.groups_of_inputs)
    if layout in ("pack_quantized", "int_quantized"):
        packed = layout == "pack_quantized"
        tensors = {"weight_scale": float_tensor(scale_dtype, scales)}
        if packed:
            tensors["weight_packed"] = int_tensor("I32", pack_codes(linear.codes, 1, bits))
            tensors["weight_shape"] = int_tensor("I64", np.array(linear.codes.shape))
        else:
            tensors["weight"] = int_tensor("I8", linear.codes.astype(np.int16) - 128)
        if store_zeros:
            as_words = packed and zero_dtype == "I32"
            tensors["weight_zero_point"] = (
                int_tensor("I32", pack_codes(linear.zeros, 0, bits)) if as_words
                else int_tensor("I8", linear.zeros.astype(np.int16) - symmetric_zero(bits)))
        elif np.any(linear.zeros != symmetric_zero(bits)):
            raise ValueError(f"zero points other than {symmetric_zero(bits)} need store_zeros")
        if store_g_idx:
            tensors["weight_g_idx"] = g_idx
        return tensors
    if layout == "awq":
        if store_g_idx:
            raise ValueError("awq has no g_idx")
        return {
            "qweight": int_tensor("I32", pack_codes(_awq_shuffled(linear.codes.T), 1)),
            "qzeros": int_tensor("I32", pack_codes(_awq_shuffled(linear.zeros.T), 1)),
            "scales": float_tensor(scale_dtype, scales.T),
        }
    if layout not in ("gptq_v1", "gptq_v2"):
        raise ValueError(f"unknown layout {layout!r}: want one of {LAYOUTS}")
    zeros = linear.zeros.T
    if layout == "gptq_v1":
        if np.any(zeros == 0):
            # Writers subtract 1 from the whole word, which borrows from the next code.
            raise ValueError("gptq_v1 cannot hold a zero point of 0: readers disagree about it")
        zeros = zeros - 1
    tensors = {
        "qweight": int_tensor("I32", pack_codes(linear.codes.T, 0, bits)),
        "qzeros": int_tensor("I32", pack_codes(zeros, 1, bits)),
        "scales": float_tensor(scale_dtype, scales.T),
    }
    if store_g_idx:
        tensors["g_idx"] = g_idx
    return tensors


def looks_symmetric(qzeros: Tensor, bits: int = 4) -> bool:
    """Whether a GPTQ file's stored zero points are 7 everywhere, or 8 everywhere (127 or 128)."""
    stored, middle = unpack_codes(qzeros.array, 1, bits=bits), symmetric_zero(bits)
    return bool(np.all(stored == middle - 1) or np.all(stored == middle))


def unpack(tensors: Mapping[str, Tensor], layout: str, *, symmetric: bool,
           bits: int = 4) -> QuantizedLinear:
    """The Linear of these tensors (by suffix). `symmetric` means zero point 8 or 128 whatever the
    file's zero points say, as every reader of symmetric files has it."""
    if layout == "pack_quantized":
        outputs, inputs = (int(n) for n in tensors["weight_shape"].array)
        codes = unpack_codes(tensors["weight_packed"].array, 1, inputs, bits)
        scales = tensors["weight_scale"].to_float64()
        zeros = np.full(scales.shape, symmetric_zero(bits), np.uint8)
        if "weight_zero_point" in tensors:
            stored = tensors["weight_zero_point"]
            zeros = ((stored.array.astype(np.int16) + symmetric_zero(bits)).astype(np.uint8)
                     if stored.dtype == "I8" else unpack_codes(stored.array, 0, outputs, bits))
        g_idx = tensors["weight_g_idx"].array if "weight_g_idx" in tensors else None
        linear = QuantizedLinear(codes, scales, zeros, g_idx, bits)
    elif layout == "int_quantized":
        def unsigned(tensor: Tensor) -> np.ndarray:
            return (tensor.array.astype(np.int16) + 128).astype(np.uint8)

        scales = tensors["weight_scale"].to_float64()
        zeros = np.full(scales.shape, 128, np.uint8)
        if "weight_zero_point" in tensors:
            zeros = unsigned(tensors["weight_zero_point"])
        linear = QuantizedLinear(unsigned(tensors["weight"]), scales, zeros, None, 8)
    elif layout == "awq":
        linear = QuantizedLinear(
            _awq_unshuffled(unpack_codes(tensors["qweight"].array, 1)).T,
            tensors["scales"].to_float64().T,
            _awq_unshuffled(unpack_codes(tensors["qzeros"].array, 1)).T)
    elif layout in ("gptq_v1", "gptq_v2"):
        zeros = unpack_codes(tensors["qzeros"].array, 1, bits=bits)
        if layout == "gptq_v1":
            zeros = (zeros + 1) & np.uint8((1 << bits) - 1)
        g_idx = tensors["g_idx"].array if "g_idx" in tensors else None
        linear = QuantizedLinear(unpack_codes(tensors["qweight"].array, 0, bits=bits).T,
                                 tensors["scales"].to_float64().T, zeros.T, g_idx, bits)
    else:
        raise ValueError(f"unknown layout {layout!r}: want one of {LAYOUTS}")
    if symmetric:
        linear = QuantizedLinear(linear.codes, linear.scales,
                                 np.full_like(linear.zeros, symmetric_zero(linear.bits)),
                                 linear.g_idx, linear.bits)
    _check(linear, layout)
    return linear
