"""Latent attention and the sparse indexer give the oracle's logits, for every file format and kind of cache.

Prompts are four times as long as the indexer's choice, so most positions attend to a part of what is before them: a
wrong indexer is invisible in shorter ones.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

import clear_prompt
from checkpoint_reader import CheckpointReader
from oracle_check import MIN_GATE_MARGIN, check, errors_of_prompt, serve

FORMATS = ["bf16", "f16", "f32", "gptq", "gptq_v2", "gptq_desc_act", "gptq_asym", "autoround", "autoround_plain",
           "autoround_awq", "autoround_export", "ct", "ct_asym", "ct_g_idx", "awq", "mixed", "fp8_block", "fp8_channel",
           "fp8_mixed", "ct_fp8_mixed", "gptq_w8", "gptq_w8_asym", "ct_w8", "ct_int8", "mixed48"]
EXPERTS = [192, 96, 21]
CASES = ([(f, e) for f in FORMATS for e in EXPERTS] if os.environ.get("SHEAF_TEST_FULL")
         else [(f, EXPERTS[i % len(EXPERTS)]) for i, f in enumerate(FORMATS)])

TOPK = 12
TOKENS = 4 * TOPK
TOLERANCE = 5e-4         # int16 activation groups cost up to 2.7e-4 here
MIN_INDEX_MARGIN = 2e-3  # in deviations of the scores: below it rounding may choose another position


def sparse(make: Callable[..., Path], **options: Any) -> Path:
    return make(**{"arch": "glm_moe_dsa", "format": "gptq", "experts": 21, "layers": 3, "index_topk": TOPK,
                   "indexer_types": "FFS", **options})


@pytest.mark.parametrize("format, experts", CASES)
def test_every_format_and_expert_count(make: Callable[..., Path], seed: int, format: str, experts: int) -> None:
    check(sparse(make, format=format, experts=experts), seed, "float32", "none", TOLERANCE, TOKENS,
          MIN_INDEX_MARGIN, ("--max-num-batched-tokens", "7"))


@pytest.mark.parametrize("options", [
    {"config_style": "v5"},
    {"shards": 5, "split_linears": True},
    {"format": "bf16", "fused_experts": True},
    {"format": "fp8_block", "fused_experts": True},
    {"layers": 5, "indexer_types": "FSSFS"},
    {"indexer_types": None},
    {"latent_gain": 0.01},  # the norms' epsilon decides
    {"index_topk": 33},
    {"group": 32},
    {"overrides": {"rope_interleave": False}},
    {"overrides": {"indexer_rope_interleave": False}},
], ids=str)
def test_every_shape_of_checkpoint(make: Callable[..., Path], seed: int, options: dict[str, Any]) -> None:
    check(sparse(make, **options), seed, "float32", "none", TOLERANCE, TOKENS, MIN_INDEX_MARGIN)


DEEPSEEK_YARN = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 64, "mscale": 0.7,
                 "mscale_all_dim": 1.0}


@pytest.mark.parametrize("options", [
    # GLM-5.2: indexers shared by a rhythm, another theta, more positions.
    {"layers": 7, "dense_layers": 3, "indexer_types": None, "experts": 12,
     "overrides": {"index_topk_freq": 4, "index_skip_topk_offset": 3, "moe_router_dtype": "float32",
                   "rope_theta": 8000000, "max_position_embeddings": 1048576}},
    {"overrides": {"rope_scaling": DEEPSEEK_YARN}},
], ids=str)
def test_every_member_of_the_family(make: Callable[..., Path], seed: int, options: dict[str, Any]) -> None:
    check(sparse(make, **options), seed, "float32", "none", TOLERANCE, TOKENS, MIN_INDEX_MARGIN)


# GLM-4.7-Flash: latent attention without an indexer.
@pytest.mark.parametrize("options", [
    {},
    {"config_style": "v5", "format": "ct"},
    {"q_lora": 0},
    {"overrides": {"rope_scaling": DEEPSEEK_YARN, "rope_interleave": False}},
], ids=str)
def test_latent_attention_to_every_position(make: Callable[..., Path], seed: int, options: dict[str, Any]) -> None:
    check(make(**{"arch": "glm4_moe_lite", "format": "gptq", "experts": 21, "top_k": 4, **options}), seed, "float32",
          "none", TOLERANCE, TOKENS, flags=("--max-num-batched-tokens", "7"))


@pytest.mark.parametrize("kv, rounding, tolerance", [("bfloat16", "bf16", 4e-3), ("fp8_e4m3", "fp8_ds_mla", 4e-2)])
def test_latent_attention_with_every_kv_cache_format(make: Callable[..., Path], seed: int, kv: str, rounding: str,
                                                     tolerance: float) -> None:
    check(make(arch="glm4_moe_lite", format="gptq", experts=21, top_k=4), seed, kv, rounding, tolerance, TOKENS)


# fp8 is e4m3 with scales: of 128 elements for the latent (whose rotated key stays bf16), powers of two for the index
# keys. As in test_logits.py, the median: an element at a rounding boundary costs a whole step.
@pytest.mark.parametrize("kv, rounding, tolerance", [
    ("bfloat16", "bf16", 4e-3), ("fp8_e4m3", "fp8_ds_mla", 4e-2)])
def test_every_kv_cache_format(make: Callable[..., Path], seed: int, kv: str, rounding: str,
                               tolerance: float) -> None:
    min_index_margin = min(tolerance, 1e-2)  # a step moves scores, as it moves the gate's
    check(sparse(make), seed, kv, rounding, tolerance, TOKENS, min_index_margin)


def test_dense_attention_would_fail(make: Callable[..., Path], seed: int) -> None:
    """The tests above can fail: beside an oracle that attends to every position, the same logits are far off."""
    checkpoint = sparse(make)
    reader = CheckpointReader(checkpoint)
    prompt = clear_prompt.draw_clear_prompt(reader.model("none"), np.random.default_rng(seed), TOKENS,
                                            MIN_GATE_MARGIN, MIN_INDEX_MARGIN)
    dense = reader.model("none", dense_attention=True).forward(prompt).logits
    with serve(checkpoint, "--kv-cache-dtype", "float32") as server:
        errors = errors_of_prompt(server, prompt, dense)
    assert max(errors[:TOPK]) <= TOLERANCE  # all of them are chosen
    assert np.median(errors[2 * TOPK:]) > 0.05


@pytest.mark.parametrize("ranks", [2, 4])
def test_attention_ranks(make: Callable[..., Path], seed: int, ranks: int) -> None:
    check(sparse(make), seed, "float32", "none", TOLERANCE, TOKENS, MIN_INDEX_MARGIN,
          flags=("--tensor-parallel-size", str(ranks), "--threads", "1"))
