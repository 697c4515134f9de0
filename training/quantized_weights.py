"""A quantized checkpoint as transformers' dense model: what its weights stand for, in float32.

transformers 5 keeps a layer's experts in two fused tensors and cannot load them quantized; this reads the files and
dequantizes, so that logits and accuracies are those of the quantized weights under transformers' own mathematics.

Read are symmetric GPTQ and auto-round files, compressed-tensors' packed integers (both of 4 or 8 bits), and FP8 or int8 weights
with a scale for the tensor, for groups of a row or for a block. Which of them a Linear is in, and of how many bits, follows from
its tensors alone.
"""
from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import Glm4MoeConfig, Glm4MoeForCausalLM

# Tensors of a quantized Linear that say how it is read, beside the one that holds its codes.
SIDE_SUFFIXES = ("scales", "qzeros", "g_idx", "weight_scale", "weight_scale_inv", "weight_shape", "weight_g_idx", "input_scale",
                 "weight_zero_point")
CODE_DTYPES = (torch.int8, torch.float8_e4m3fn)  # of `.weight`, where a scale stands beside it


def unpack(words: torch.Tensor, bits: int) -> torch.Tensor:
    """int32 [rows, words] -> unsigned codes, int32 [rows, words * 32/bits], the lowest bits of a word first."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    return ((words.unsqueeze(2) >> shifts) & (2 ** bits - 1)).flatten(1)


def dequantize_gptq(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    """qweight int32 [in bits/32, out], qzeros [groups, out bits/32], scales [groups, out] -> float32 [out, in].

    The zero point is the middle of the codes. ValueError where qzeros say neither that nor, as files of version 1 do, one less.
    """
    qweight, qzeros, scales = parts["qweight"], parts["qzeros"], parts["scales"]
    bits = 32 * qzeros.shape[1] // scales.shape[1]
    middle = 2 ** (bits - 1)
    if not bool(torch.isin(unpack(qzeros, bits), torch.tensor([middle - 1, middle])).all()):
        raise ValueError(f"zero points other than {middle}")
    codes = unpack(qweight.t().contiguous(), bits)
    inputs = codes.shape[1]
    groups = parts["g_idx"].long() if "g_idx" in parts else torch.arange(inputs) // (inputs // len(scales))
    return (codes - middle).float() * scales.float().t()[:, groups]


def dequantize_packed(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    """weight_packed int32 [out, in bits/32] of codes plus the middle, weight_scale [out, groups] -> float32 [out, in]."""
    if "weight_zero_point" in parts or "weight_g_idx" in parts:
        raise ValueError("packed weights with zero points or groups out of order are not read here")
    outputs, inputs = parts["weight_shape"].tolist()
    bits = 32 * parts["weight_packed"].shape[1] // inputs
    codes = unpack(parts["weight_packed"], bits)[:, :inputs] - 2 ** (bits - 1)
    scales = parts["weight_scale"].float()
    return codes.float() * scales.repeat_interleave(inputs // scales.shape[1], 1)


def dequantize_scaled(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    """weight FP8 or int8 [out, in]; a scale for the tensor, for groups of each row ([out, groups]) or each 128 x 128 block."""
    weight = parts["weight"].float()
    scale = parts.get("weight_scale", parts.get("weight_scale_inv")).float()
    if "weight_zero_point" in parts:
        raise ValueError("bytes with zero points are not read here")
    if scale.numel() == 1:
        return weight * scale.reshape(1, 1)
    if len(scale) == len(weight):
        return weight * scale.repeat_interleave(weight.shape[1] // scale.shape[1], 1)
    rows = scale.repeat_interleave(128, 0)[:len(weight)]
    return weight * rows.repeat_interleave(128, 1)[:, :weight.shape[1]]


def raw_tensors(folder: Path) -> dict[str, torch.Tensor]:
    raw: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            raw.update({name: file.get_tensor(name) for name in file.keys()})
    return raw


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors by name, quantized ones dequantized under NAME.weight."""
    raw = raw_tensors(folder)
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in raw.items():
        stem, _, suffix = name.rpartition(".")
        modules.setdefault(stem, {})[suffix] = tensor
    tensors: dict[str, torch.Tensor] = {}
    for stem, parts in modules.items():
        if "qweight" in parts:
            tensors[stem + ".weight"] = dequantize_gptq(parts)
        elif "weight_packed" in parts:
            tensors[stem + ".weight"] = dequantize_packed(parts)
        elif "weight" in parts and parts["weight"].dtype in CODE_DTYPES:
            tensors[stem + ".weight"] = dequantize_scaled(parts)
        for suffix, tensor in parts.items():
            name = f"{stem}.{suffix}"
            if suffix not in (*SIDE_SUFFIXES, "qweight", "weight_packed") and name not in tensors:
                tensors[name] = tensor
    return tensors


def fuse_experts(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Per-expert names -> transformers' experts.gate_up_proj [E, 2I, H] and experts.down_proj [E, H, I]."""
    fused: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[str, dict[int, torch.Tensor]]] = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"(.*\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight", name)
        if match:
            parts.setdefault(match[1], {}).setdefault(match[3], {})[int(match[2])] = tensor
        else:
            fused[name] = tensor
    for stem, found in parts.items():
        stacked = {part: torch.stack([by_expert[number] for number in sorted(by_expert)]) for part, by_expert in found.items()}
        fused[stem + ".gate_up_proj"] = torch.cat((stacked["gate_proj"], stacked["up_proj"]), 1)
        fused[stem + ".down_proj"] = stacked["down_proj"]
    return fused


def load_quantized(folder: Path) -> Glm4MoeForCausalLM:
    config = Glm4MoeConfig.from_pretrained(folder)
    del config.quantization_config
    model = Glm4MoeForCausalLM(config)
    model.load_state_dict({name: tensor.float() for name, tensor in fuse_experts(read_tensors(folder)).items()})
    return model.eval()
