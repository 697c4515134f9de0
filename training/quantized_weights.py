"""A GPTQ or auto-round checkpoint (4 bits, symmetric) as transformers' dense model: what its weights stand for, in float32.

transformers 5 keeps a layer's experts in two fused tensors and cannot load them quantized; this reads the files and
dequantizes, so that the accuracy table measures the quantized weights with transformers' own mathematics.
"""
from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import Glm4MoeConfig, Glm4MoeForCausalLM


def dequantize(qweight: torch.Tensor, scales: torch.Tensor, g_idx: torch.Tensor | None) -> torch.Tensor:
    """qweight int32 [in/8, out], scales [in/group, out] -> float32 [out, in]. The zero point is 8."""
    shifts = torch.arange(0, 32, 4, dtype=torch.int32)
    nibbles = ((qweight.unsqueeze(1) >> shifts.view(1, 8, 1)) & 15).reshape(-1, qweight.shape[1])
    if g_idx is None:
        g_idx = torch.arange(len(nibbles)) // (len(nibbles) // len(scales))
    return ((nibbles - 8).float() * scales.float()[g_idx.long()]).t().contiguous()


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors by name, quantized ones dequantized under NAME.weight."""
    raw: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            raw.update({name: file.get_tensor(name) for name in file.keys()})
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in raw.items():
        stem, _, suffix = name.rpartition(".")
        if suffix == "qweight":
            tensors[stem + ".weight"] = dequantize(tensor, raw[stem + ".scales"], raw.get(stem + ".g_idx"))
        elif suffix not in ("scales", "qzeros", "g_idx"):
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
