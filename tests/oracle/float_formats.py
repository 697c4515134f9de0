"""Rounding to the short floating-point formats, from their definitions.

All functions take arrays of any shape and round to nearest, ties to even. The fp8 functions
saturate at the largest finite value (also for e5m2, which could hold an infinity), as a KV cache
that writes with "satfinite" conversions does. NaN stays NaN.
"""

from __future__ import annotations

import numpy as np

KV_ROUNDINGS = ("none", "f32", "bf16", "fp8_e4m3", "fp8_e5m2")


def bf16_bits(values: np.ndarray) -> np.ndarray:
    """The uint16 bit patterns of `values` rounded to bf16 (finite values only)."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def bf16_values(bits: np.ndarray) -> np.ndarray:
    """float32 values of bf16 bit patterns (exact)."""
    return (np.asarray(bits, dtype=np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def round_to_float(values: np.ndarray, mantissa_bits: int, min_exponent: int,
                   largest: float) -> np.ndarray:
    """Rounds to a binary float with `mantissa_bits` explicit bits; subnormals below
    2**min_exponent; saturates at +-largest."""
    x = np.asarray(values, dtype=np.float64)
    exponent = np.frexp(x)[1] - 1  # floor(log2|x|); 0 and NaN give a harmless value
    quantum = np.ldexp(1.0, np.maximum(exponent, min_exponent) - mantissa_bits)
    return np.clip(np.rint(x / quantum) * quantum, -largest, largest)


def round_bf16(values: np.ndarray) -> np.ndarray:
    return round_to_float(values, 7, -126, float(np.ldexp(255.0, 120)))


def round_fp8_e4m3(values: np.ndarray) -> np.ndarray:
    return round_to_float(values, 3, -6, 448.0)


def round_fp8_e5m2(values: np.ndarray) -> np.ndarray:
    return round_to_float(values, 2, -14, 57344.0)


def round_scaled_e4m3(values: np.ndarray, smallest_amax: float, power_of_two: bool,
                      tile: int = 128) -> np.ndarray:
    """e4m3 with one float32 scale for each `tile` of the last axis (the last one may be shorter):
    the largest magnitude (at least `smallest_amax`) becomes 448, or with `power_of_two` the scale
    is rounded up to a power of two."""
    x = np.asarray(values, dtype=np.float64)
    out = np.empty_like(x)
    for begin in range(0, x.shape[-1], tile):
        part = x[..., begin:begin + tile]
        scale = np.maximum(np.abs(part).max(axis=-1, keepdims=True), smallest_amax) / 448.0
        if power_of_two:
            mantissa, exponent = np.frexp(scale)  # scale = mantissa * 2^exponent, 1/2 <= mantissa
            scale = np.ldexp(1.0, np.where(mantissa == 0.5, exponent - 1, exponent))
        scale = scale.astype(np.float32).astype(np.float64)
        out[..., begin:begin + tile] = round_fp8_e4m3(part / scale) * scale
    return out


def round_kv(values: np.ndarray, kv_rounding: str) -> np.ndarray:
    """What a KV cache of the named type gives back for `values`, with scale 1."""
    if kv_rounding == "none":
        return np.asarray(values, dtype=np.float64)
    if kv_rounding == "f32":
        return np.asarray(values, dtype=np.float32).astype(np.float64)
    if kv_rounding == "bf16":
        return round_bf16(values)
    if kv_rounding == "fp8_e4m3":
        return round_fp8_e4m3(values)
    if kv_rounding == "fp8_e5m2":
        return round_fp8_e5m2(values)
    raise ValueError(f"unknown kv_rounding {kv_rounding!r}: want one of {KV_ROUNDINGS}")
