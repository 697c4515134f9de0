"""Draws the tensors of a generated checkpoint."""

from __future__ import annotations

import statistics

import numpy as np

import checkpoint_formats
import fp8_formats
import quantized_formats
from safetensors_io import Tensor, float_tensor

CODE_STD = 2.6  # of the drawn 4-bit codes around their zero point


def code_table(bits: int) -> np.ndarray:
    """int8 [256]: a Gaussian's quantiles, rounded to -7..7, or of 8 bits to -127..127. A uniform byte
    through this table is a weight code around its zero point; the table is symmetric, so that the
    mean is exactly 0 (a biased code would send every token to the same experts)."""
    top = (1 << (bits - 1)) - 1
    normal = statistics.NormalDist(0.0, CODE_STD * 2 ** (bits - 4))
    return np.array([round(max(-top, min(top, normal.inv_cdf((b + 0.5) / 256))))
                     for b in range(256)], dtype=np.int8)


class WeightSource:
    """Draws the tensors of one checkpoint, in a fixed order, from one generator."""

    def __init__(self, seed: int, format_name: str, group: int) -> None:
        self._format = format_name
        self._group = group
        self._rng = np.random.default_rng(seed)
        self._codes = {bits: code_table(bits) for bits in (4, 8)}
        self._spec = checkpoint_formats.base_format(format_name)
        self.tensors: dict[str, Tensor] = {}
        self.plain_modules: list[str] = []  # Linears (and gates) that are not quantized
        self.quantized_modules: list[str] = []

    def gaussian(self, name: str, shape: tuple[int, ...], std: float, mean: float = 0.0,
                 dtype: str | None = None) -> None:
        values = self._rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(std)
        values += np.float32(mean)
        self.tensors[name] = float_tensor(dtype or self._spec.plain_dtype, values)

    def linear(self, module: str, outputs: int, inputs: int, gain: float,
               bias_std: float | None = None) -> None:
        """A Linear whose outputs have about `gain` times the deviation of its inputs."""
        spec = checkpoint_formats.format_of_linear(self._format, module)
        std = gain / np.sqrt(inputs)
        if bias_std is not None:
            self.gaussian(f"{module}.bias", (outputs,), bias_std, dtype=spec.bias_dtype)
        if spec.layout is None:
            self.gaussian(f"{module}.weight", (outputs, inputs), std, dtype=spec.plain_dtype)
            self.plain_modules.append(module)
            return
        self.quantized_modules.append(module)
        if spec.layout.startswith("fp8_"):
            self._fp8(f"{module}.weight", (outputs, inputs), std, spec)
            return
        quantized = self._draw_quantized(module, outputs, inputs, std, spec)
        packed = quantized_formats.pack(quantized, spec.layout, spec.scale_dtype,
                                        store_g_idx=spec.g_idx != "none",
                                        store_zeros=not spec.symmetric,
                                        zero_dtype=spec.zero_dtype)
        for suffix, tensor in packed.items():
            self.tensors[f"{module}.{suffix}"] = tensor

    def _fp8(self, name: str, shape: tuple[int, ...], std: float,
             spec: checkpoint_formats.Format) -> None:
        values = self._rng.standard_normal(shape) * std
        scaling = spec.layout.removeprefix("fp8_")
        suffix, codes, scales = fp8_formats.pack(values, scaling, self._group)
        self.tensors[name] = codes
        self.tensors[name + suffix] = scales

    def _draw_quantized(self, module: str, outputs: int, inputs: int, std: float,
                        spec: checkpoint_formats.Format) -> quantized_formats.QuantizedLinear:
        rng, group = self._rng, inputs if spec.channel else self._group
        half = 1 << (spec.bits - 1)
        if inputs % group:
            raise ValueError(f"{module}: {inputs} inputs do not divide into groups of {group}")
        groups = inputs // group
        drawn = np.frombuffer(rng.bytes(outputs * inputs), np.uint8).reshape(outputs, inputs)
        table = self._codes[spec.bits]
        signed = table[drawn].astype(np.int16)
        scales = np.exp(rng.normal(0.0, 0.15, (outputs, groups))) * (std / float(table.astype(np.float64).std()))
        g_idx = None
        if spec.g_idx == "permuted":
            g_idx = rng.permutation(np.repeat(np.arange(groups, dtype=np.int32), group))
        if spec.symmetric:
            zeros = np.full((outputs, groups), half, np.uint8)
        else:
            low = 1 if spec.layout == "gptq_v1" else 0
            rare = rng.random((outputs, groups)) < 0.02
            near = half // 4
            zeros = np.where(rare, rng.integers(low, 2 * half, (outputs, groups)),
                             rng.integers(half - near, half + near + 1,
                                          (outputs, groups))).astype(np.uint8)
        of_input = g_idx if g_idx is not None else np.arange(inputs) // group
        if spec.negative_scales:
            # A full-range quantizer: the extreme weight is the lowest code, the scale has its sign.
            scales *= rng.choice([-1.0, 1.0], scales.shape)
            extreme = np.arange(groups) * group + rng.integers(0, group, (outputs, groups))
            signed[np.arange(outputs)[:, None], extreme] = -half
            codes = (signed + half).astype(np.uint8)
        elif spec.symmetric:
            codes = (signed + half).astype(np.uint8)
        else:
            codes = np.clip(zeros[:, of_input] + signed, 0, 2 * half - 1).astype(np.uint8)
        return quantized_formats.QuantizedLinear(codes, scales, zeros, g_idx, spec.bits)

    def mlp(self, prefix: str, hidden: int, width: int) -> None:
        self.linear(f"{prefix}.gate_proj", width, hidden, 1.0)
        self.linear(f"{prefix}.up_proj", width, hidden, 1.0)
        self.linear(f"{prefix}.down_proj", hidden, width, 2.0)

    def fused_experts(self, prefix: str, experts: int, hidden: int, width: int,
                      joint: str = ".weight_") -> None:
        """gate and up of all experts in one tensor, down in another: plain, FP8, or pack_quantized
        with `joint` between a module's name and "packed", "scale" and so on."""
        for module, outputs, inputs, gain in ((f"{prefix}.gate_up_proj", 2 * width, hidden, 1.0),
                                              (f"{prefix}.down_proj", hidden, width, 2.0)):
            spec = checkpoint_formats.format_of_linear(self._format, module)
            std = gain * inputs ** -0.5
            if spec.layout is None:
                self.gaussian(module, (experts, outputs, inputs), std)
                continue
            if spec.layout.startswith("fp8_"):
                self._fp8(module, (experts, outputs, inputs), std, spec)
                continue
            self.quantized_modules.append(module)
            packed = [quantized_formats.pack(
                self._draw_quantized(module, outputs, inputs, std, spec),
                spec.layout, spec.scale_dtype, store_g_idx=spec.g_idx != "none",
                store_zeros=not spec.symmetric, zero_dtype=spec.zero_dtype)
                for _ in range(experts)]
            for suffix, first in packed[0].items():
                stacked = np.stack([one[suffix].array for one in packed])
                if suffix == "weight_shape":
                    stacked = np.array([experts, outputs, inputs], first.array.dtype)
                name = module + joint + suffix.removeprefix("weight_")
                self.tensors[name] = Tensor(first.dtype, stacked)
