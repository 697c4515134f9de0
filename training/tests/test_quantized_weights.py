"""What quantized checkpoints stand for, against the vectors of every file format; and a bf16 checkpoint made of one."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import dequantize
import quantized_weights

VECTORS = Path(__file__).resolve().parents[2] / "tests/model/format_vectors"
# (bytes, how the bits are named, what they are)
DTYPES = {"I64": (8, torch.int64, torch.int64), "I32": (4, torch.int32, torch.int32), "F32": (4, torch.int32, torch.float32),
          "F16": (2, torch.int16, torch.float16), "BF16": (2, torch.int16, torch.bfloat16), "I8": (1, torch.int8, torch.int8),
          "F8_E4M3": (1, torch.int8, torch.float8_e4m3fn)}
READ = [(name, form) for name in ("four_bit", "four_bit_rows", "four_bit_order", "eight_bit", "eight_bit_rows", "eight_bit_order",
                                  "fp8_channel", "fp8_block", "fp8_tensor")
        for form in json.loads((VECTORS / f"{name}.json").read_text())["formats"]
        if (form, name.endswith("_order")) != ("compressed_tensors", True) and form != "auto_round_awq"]


def as_tensor(item: dict[str, Any]) -> torch.Tensor:
    size, bits, dtype = DTYPES[item["dtype"]]
    text = "".join(item["rows"])
    raw = b"".join(bytes.fromhex(text[start:start + 2 * size])[::-1] for start in range(0, len(text), 2 * size))
    return torch.frombuffer(bytearray(raw), dtype=bits).view(dtype).reshape(item["shape"])


@pytest.mark.parametrize("name, form", READ)
def test_every_format_is_read_to_its_matrix(tmp_path: Path, name: str, form: str) -> None:
    vectors = json.loads((VECTORS / f"{name}.json").read_text())
    save_file({f"m.{part}": as_tensor(item) for part, item in vectors["formats"][form]["tensors"].items()},
              tmp_path / "model.safetensors")
    tensors = quantized_weights.read_tensors(tmp_path)
    assert list(tensors) == ["m.weight"]
    assert torch.equal(tensors["m.weight"].double(), vectors["unit"] * torch.tensor(vectors["weights"], dtype=torch.float64))


@pytest.mark.parametrize("name, form", [("four_bit_zeros", "gptq"), ("eight_bit_zeros", "compressed_tensors"),
                                        ("eight_bit_zeros", "int_quantized"),
                                        ("four_bit_order", "compressed_tensors")])
def test_what_is_not_read_is_an_error(tmp_path: Path, name: str, form: str) -> None:
    vectors = json.loads((VECTORS / f"{name}.json").read_text())
    save_file({f"m.{part}": as_tensor(item) for part, item in vectors["formats"][form]["tensors"].items()},
              tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="zero points"):
        quantized_weights.read_tensors(tmp_path)


def test_a_dequantized_checkpoint_has_every_tensor_in_bf16(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[2] / "checkpoints/sheaf-nano-120"
    wanted = {name: dequantize.in_bf16(name, tensor) for name, tensor in quantized_weights.read_tensors(source).items()}
    dequantize.write_checkpoint(wanted, {"model_type": "glm4_moe"}, source, tmp_path / "out")
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())["weight_map"]
    assert set(index) == set(wanted)
    for name in ("model.layers.1.mlp.experts.7.up_proj.weight", "model.layers.3.mlp.gate.e_score_correction_bias"):
        with safe_open(tmp_path / "out" / index[name], "pt") as file:
            assert torch.equal(file.get_tensor(name), wanted[name])
    assert wanted["model.layers.3.mlp.gate.e_score_correction_bias"].dtype == torch.float32
    assert wanted["model.layers.0.self_attn.q_proj.weight"].dtype == torch.bfloat16
