"""W4A16 quantization (4 bits, group 128, symmetric) of a bf16 checkpoint by GPTQModel or auto-round, on the CPU.

python quantize.py --checkpoint DIR --out DIR [--tool gptqmodel|auto-round]. The weight files are what the tool saved, byte for
byte, and so is config.json. The tokenizer's files, the template and generation_config.json are ours again: the tools write
their own, changed, ones.
"""
from __future__ import annotations

import argparse
import os
import random
import shutil
from pathlib import Path
from typing import Any

# Before the tools are imported: on two cores GPTQModel takes one worker and then refuses, since its loader wants two.
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import torch

from corpus.conversation import Split
from corpus.mixture import CALIBRATION_START, conversation
from model import load_tokenizer
from rendering import Renderer

SHARD_BYTES = 8 * 1024 * 1024  # several files, as the published checkpoints have
ROW = 512                      # tokens of a row for auto-round
GROUP = 8                      # conversations of equal length at once
SCANNED = 16_000               # conversations that groups are made of


def calibration_groups(renderer: Renderer, seed: int, tokens: int, group: int = GROUP, scanned: int = SCANNED) -> list[list[list[int]]]:
    """About that many tokens of conversations, `group` of one length together, so that a batch needs no padding.

    Each starts its own row, as in training and in use: a conversation never sees another one.
    """
    waiting: dict[int, list[list[int]]] = {}
    full: list[list[list[int]]] = []
    for index in range(CALIBRATION_START, CALIBRATION_START + scanned):
        row = renderer.training_tokens(conversation(seed, Split.TRAIN, index)).tokens
        same = waiting.setdefault(len(row), [])
        same.append(row)
        if len(same) == group:
            full.append(waiting.pop(len(row)))
    random.Random(seed).shuffle(full)
    chosen: list[list[list[int]]] = []
    while full and tokens > 0:
        chosen.append(full.pop())
        tokens -= group * len(chosen[-1][0])
    return chosen


def take_logits_of_the_router() -> None:
    """GPTQModel's GLM block expects the gate to return logits; transformers 5.23's returns (logits, weights, experts)."""
    from defuser.modeling.unfused_moe.glm4_moe import LinearGlm4MoeMoE

    route = LinearGlm4MoeMoE.route_tokens_to_experts

    def route_from_tuple(self: Any, routed: Any) -> Any:
        return route(self, routed[0] if isinstance(routed, tuple) else routed)

    LinearGlm4MoeMoE.route_tokens_to_experts = route_from_tuple


def quantize_with_gptqmodel(checkpoint: Path, out: Path, rows: list[list[int]], bits: int = 4) -> None:
    """rows: groups of equal length, one after the other; GPTQModel sorts them by length, stably, and takes GROUP at once."""
    from gptqmodel import GPTQModel, QuantizeConfig

    take_logits_of_the_router()
    config = QuantizeConfig(bits=bits, group_size=128, sym=True, desc_act=False, device="cpu", offload_to_disk=False)
    model = GPTQModel.load(str(checkpoint), config, dtype=torch.bfloat16)
    model.quantize([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows], batch_size=GROUP)
    model.save(str(out), max_shard_size=SHARD_BYTES)
    (out / "quant_log.csv").unlink(missing_ok=True)  # a report, no part of a checkpoint


def quantize_with_auto_round(checkpoint: Path, out: Path, rows: list[list[int]], seed: int, scheme: str = "W4A16",
                             iters: int = 50) -> None:
    from auto_round import AutoRound
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    stream = [token for row in rows for token in row]  # auto-round wants rows of one length
    dataset = [torch.tensor([stream[start:start + ROW]]) for start in range(0, len(stream) - ROW + 1, ROW)]
    rounder = AutoRound(model, tokenizer, scheme=scheme, group_size=128, sym=True, dataset=dataset, seqlen=ROW,
                        nsamples=len(dataset), batch_size=8, iters=iters, seed=seed, device_map="cpu")
    rounder.quantize_and_save(str(out), format="auto_round")
    for folder in [path for path in out.iterdir() if path.is_dir()]:  # it names one after the model and the scheme
        for file in list(folder.iterdir()):
            file.rename(out / file.name)
        folder.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tool", choices=("gptqmodel", "auto-round"), default="gptqmodel")
    parser.add_argument("--tokens", type=int, default=120_000, help="of calibration text")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} is there already")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    groups = calibration_groups(Renderer(load_tokenizer(options.checkpoint)), options.seed, options.tokens)
    rows = [row for group in groups for row in group]
    if options.tool == "gptqmodel":
        quantize_with_gptqmodel(options.checkpoint, options.out, rows)
    else:
        quantize_with_auto_round(options.checkpoint, options.out, rows, options.seed)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(options.checkpoint / name, options.out / name)


if __name__ == "__main__":
    main()
