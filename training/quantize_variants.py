"""A bf16 checkpoint in the mixed and 8-bit formats that people publish, each written by the tool they use.

python quantize_variants.py --checkpoint DIR --scheme NAME --out DIR, where the scheme is

    w8              8 bits, group 128, GPTQ                                       GPTQModel
    mixed48         W4A16_MIXED: 4-bit experts, 8-bit attention, dense and shared AutoRound
    fp8_int4        FP8 with a scale a row for attention, dense and shared MLPs,
                    4-bit experts, group 128                                      llm-compressor
    fp8_block_int4  the same with a scale for each 128 x 128 block                llm-compressor
    w8_ct           W8A16: 8 bits, group 128, pack-quantized                      llm-compressor
    fp8             FP8 with a scale a row for everything                         llm-compressor

AutoRound and llm-compressor round to nearest; GPTQModel and AutoRound see the conversations that quantize.py shows them. Weight
files and config.json are what the tool saved, byte for byte; the tokenizer's files, the template and generation_config.json are ours.
llm-compressor wants older packages than the other two: it runs in an environment of its own, requirements_llmcompressor.txt.
"""
from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any, Callable

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # before the tools are imported, as in quantize.py
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import torch

from dequantize import SIDE_FILES

EXPERTS = r"re:.*mlp\.experts\.\d+\.(gate|up|down)_proj$"
ATTENTION = r"re:.*self_attn\.[qkvo]_proj$"
OTHER_MLPS = r"re:.*mlp\.(shared_experts\.)?(gate|up|down)_proj$"  # the dense layers' and the shared experts'


def calibration_rows(checkpoint: Path, seed: int, tokens: int) -> list[list[int]]:
    from model import load_tokenizer
    from quantize import calibration_groups
    from rendering import Renderer

    groups = calibration_groups(Renderer(load_tokenizer(checkpoint)), seed, tokens)
    return [row for group in groups for row in group]


def w8(checkpoint: Path, out: Path, seed: int, tokens: int) -> None:
    from quantize import quantize_with_gptqmodel

    quantize_with_gptqmodel(checkpoint, out, calibration_rows(checkpoint, seed, tokens), bits=8)


def mixed48(checkpoint: Path, out: Path, seed: int, tokens: int) -> None:
    from quantize import quantize_with_auto_round

    quantize_with_auto_round(checkpoint, out, calibration_rows(checkpoint, seed, tokens), seed, scheme="W4A16_MIXED", iters=0)


def with_llm_compressor(groups: dict[str, tuple[str, list[str]]]) -> Callable[..., None]:
    """groups: by name, a preset of llm-compressor and the modules that it is for."""
    def quantize(checkpoint: Path, out: Path, *_: int) -> None:
        from compressed_tensors.quantization import QuantizationConfig, preset_name_to_scheme
        from llmcompressor import model_free_ptq

        schemes: dict[str, Any] = {name: preset_name_to_scheme(preset, targets) for name, (preset, targets) in groups.items()}
        model_free_ptq(str(checkpoint), str(out), config=QuantizationConfig(config_groups=schemes), device="cpu",
                       ignore=["lm_head", "re:.*embed_tokens$", r"re:.*mlp\.gate$"])

    return quantize


SCHEMES: dict[str, Callable[..., None]] = {
    "w8": w8,
    "mixed48": mixed48,
    "fp8_int4": with_llm_compressor({"eight_bits": ("FP8_DYNAMIC", [ATTENTION, OTHER_MLPS]), "four_bits": ("W4A16", [EXPERTS])}),
    "fp8_block_int4": with_llm_compressor({"eight_bits": ("FP8_BLOCK", [ATTENTION, OTHER_MLPS]),
                                           "four_bits": ("W4A16", [EXPERTS])}),
    "w8_ct": with_llm_compressor({"eight_bits": ("W8A16", [ATTENTION, OTHER_MLPS, EXPERTS])}),
    "fp8": with_llm_compressor({"eight_bits": ("FP8_DYNAMIC", [ATTENTION, OTHER_MLPS, EXPERTS])}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="in bf16; dequantize.py makes one of a quantized one")
    parser.add_argument("--scheme", choices=SCHEMES, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=120_000, help="of calibration text, where a scheme has any")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} is there already")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    SCHEMES[options.scheme](options.checkpoint, options.out, options.seed, options.tokens)
    for name in SIDE_FILES:
        shutil.copyfile(options.checkpoint / name, options.out / name)


if __name__ == "__main__":
    main()
