"""Weights of a checkpoint folder as float64, in any of the formats, decided tensor by tensor.

What a Linear is comes from the names that exist in the files (.qweight, .weight_packed, .weight,
fused expert tensors), and whether a GPTQ one is symmetric from its zero points; the config is asked
only for what the files cannot say (the convention of those zero points).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import checkpoint_formats
import decoder
import fp8_formats
import glm4_moe
import glm4_moe_lite
import glm_moe_dsa
import quantized_formats
import safetensors_io

_GPTQ_SUFFIXES = ("qweight", "qzeros", "scales", "g_idx")
_PACKED_SUFFIXES = ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point",
                    "weight_g_idx")
_BYTE_SUFFIXES = ("weight", "weight_scale", "weight_zero_point")
# By config.json's model_type.
ARCHITECTURES = {"glm4_moe": (glm4_moe.Config, glm4_moe.Glm4Moe),
                 "glm4_moe_lite": (glm4_moe_lite.Config, glm4_moe_lite.Glm4MoeLite),
                 "glm_moe_dsa": (glm_moe_dsa.Config, glm_moe_dsa.GlmMoeDsa)}
Model = glm4_moe.Glm4Moe | glm_moe_dsa.GlmMoeDsa


class CheckpointReader:
    """A decoder.Weights over a folder. Keeps dequantized tensors up to `cache_bytes` in all."""

    def __init__(self, folder: Path, cache_bytes: int = 2 << 30) -> None:
        self.folder = folder
        self.raw_config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        model_type = self.raw_config.get("model_type")
        if model_type not in ARCHITECTURES:
            raise ValueError(f"{folder}: model_type {model_type!r}: want one of "
                             f"{', '.join(ARCHITECTURES)}")
        config_class, self._model_class = ARCHITECTURES[model_type]
        self.config: decoder.Config = config_class.from_json(self.raw_config)
        self.tensors = safetensors_io.read_checkpoint_tensors(folder)
        self._layout, _ = checkpoint_formats.layout_from_config(
            self.raw_config.get("quantization_config"))
        self._cache: dict[str, np.ndarray] = {}
        self._room_bytes = cache_bytes

    def __call__(self, name: str) -> np.ndarray:
        if name in self._cache:
            return self._cache[name]
        values = self._read(name)
        if values.nbytes <= self._room_bytes:
            self._room_bytes -= values.nbytes
            self._cache[name] = values
        return values

    def model(self, kv_rounding: str = "none", **switches: Any) -> Model:
        """The oracle's model; `switches` as the class of its architecture has them."""
        return self._model_class(self.config, self, kv_rounding, **switches)

    def quantized(self, module: str) -> quantized_formats.QuantizedLinear | None:
        """The integer Linear of this module name, or None where the file has it plain. Its words'
        shapes beside those of scales tell the bits."""
        if f"{module}.qweight" in self.tensors:
            parts = self._parts(module, _GPTQ_SUFFIXES)
            bits = 32 * parts["qzeros"].array.shape[1] // parts["scales"].array.shape[1]
            symmetric = (self._layout != "awq"
                         and quantized_formats.looks_symmetric(parts["qzeros"], bits))
            return quantized_formats.unpack(parts, self._layout, symmetric=symmetric, bits=bits)
        if f"{module}.weight_packed" in self.tensors:
            parts = self._parts(module, _PACKED_SUFFIXES)
            bits = 32 * parts["weight_packed"].array.shape[1] // int(parts["weight_shape"].array[1])
            return quantized_formats.unpack(parts, "pack_quantized", symmetric=False, bits=bits)
        if f"{module}.weight" in self.tensors and self.tensors[f"{module}.weight"].dtype == "I8":
            return quantized_formats.unpack(self._parts(module, _BYTE_SUFFIXES), "int_quantized",
                                            symmetric=False)
        return None

    def _parts(self, module: str, suffixes: tuple[str, ...]) -> dict[str, safetensors_io.Tensor]:
        return {s: self.tensors[f"{module}.{s}"] for s in suffixes
                if f"{module}.{s}" in self.tensors}

    def _read(self, name: str) -> np.ndarray:
        if name in self.tensors and self.tensors[name].dtype != "I8":
            values = fp8_formats.unpack(name, self.tensors)
            return values if values is not None else self.tensors[name].to_float64()
        module, _, leaf = name.rpartition(".")
        if leaf == "weight":
            linear = self.quantized(module)
            if linear is not None:
                return linear.dequantize()
            fused = self._fused_expert(module)
            if fused is not None:
                return fused
        raise KeyError(f"{self.folder}: no tensor for {name}")

    def _fused_packed(self, module: str,
                      expert: int) -> quantized_formats.QuantizedLinear | None:
        """One expert's part of packed tensors with all of them."""
        parts = {}
        for suffix in _PACKED_SUFFIXES:
            for joint in (".weight_", "_"):
                tensor = self.tensors.get(module + joint + suffix.removeprefix("weight_"))
                if tensor is not None:
                    array = tensor.array[-2:] if suffix == "weight_shape" else tensor.array[expert]
                    parts[suffix] = safetensors_io.Tensor(tensor.dtype, array)
        if "weight_packed" not in parts:
            return None
        return quantized_formats.unpack(parts, "pack_quantized", symmetric=False)

    def _fused_expert(self, module: str) -> np.ndarray | None:
        """One projection of one expert out of experts.gate_up_proj [E, 2I, H] / down_proj."""
        prefix, separator, rest = module.partition(".mlp.experts.")
        expert, _, projection = rest.partition(".")
        fused = "down_proj" if projection == "down_proj" else "gate_up_proj"
        if not separator:
            return None
        name = f"{prefix}.mlp.experts.{fused}"
        if name in self.tensors:
            parts = {one: safetensors_io.Tensor(self.tensors[one].dtype,
                                                self.tensors[one].array[int(expert)])
                     for one in (name, f"{name}_scale_inv", f"{name}_scale") if one in self.tensors}
            values = fp8_formats.unpack(name, parts)
            matrix = values if values is not None else parts[name].to_float64()
        else:
            packed = self._fused_packed(name, int(expert))
            if packed is None:
                return None
            matrix = packed.dequantize()
        width = self.config.moe_intermediate_size
        return {"gate_proj": matrix[:width], "up_proj": matrix[width:],
                "down_proj": matrix}[projection]
