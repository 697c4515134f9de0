"""A quantized checkpoint as a bf16 one: python dequantize.py --checkpoint DIR --out DIR.

Every Linear's weight is what its codes stand for, rounded to bf16, experts one by one. It is what quantize.py and
quantize_variants.py take where the bf16 checkpoint that a quantized one came from is not at hand. The bits of a scale and a code
together may be more than bf16 has: the new checkpoint is another model than the old, by at most 2^-9 of each weight.
"""
from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from model import read_json
from quantized_weights import read_tensors

SIDE_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
SHARDS = 3


def write_checkpoint(tensors: dict[str, torch.Tensor], config: dict, source: Path, out: Path) -> None:
    """config: without a quantization_config; the side files are those of source."""
    out.mkdir(parents=True)
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for shard in range(SHARDS):
        file = f"model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors"
        chosen = names[len(names) * shard // SHARDS:len(names) * (shard + 1) // SHARDS]
        save_file({name: tensors[name].contiguous() for name in chosen}, out / file, {"format": "pt"})
        weight_map |= dict.fromkeys(chosen, file)
    index = {"metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())}, "weight_map": weight_map}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in SIDE_FILES:
        shutil.copyfile(source / name, out / name)


def in_bf16(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor if name.endswith("e_score_correction_bias") else tensor.to(torch.bfloat16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} is there already")
    config = read_json(options.checkpoint / "config.json")
    config.pop("quantization_config", None)
    config["dtype"] = "bfloat16"
    tensors = {name: in_bf16(name, tensor) for name, tensor in read_tensors(options.checkpoint).items()}
    write_checkpoint(tensors, config, options.checkpoint, options.out)


if __name__ == "__main__":
    main()
