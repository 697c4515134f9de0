"""What we read out of config.json is what an installed transformers reads out of it.

Skips where no transformers is installed, and each model type that it does not know. Random subsets
of keys in random spellings; what the library refuses is not compared. CONFIG_DUMP names the program.
"""

from __future__ import annotations

import json
import math
import os
import random
import secrets
import subprocess
from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
SEED = int(os.environ.get("SHEAF_TEST_SEED", secrets.randbelow(1 << 31)))
CASES = 200
COMMON = {
    "vocab_size": [1000], "hidden_size": [512], "num_hidden_layers": [6], "num_attention_heads": [8],
    "intermediate_size": [640], "moe_intermediate_size": [128], "n_routed_experts": [32]}
LATENT = {"kv_lora_rank": [128], "qk_nope_head_dim": [48], "qk_rope_head_dim": [32], "v_head_dim": [64]}
REQUIRED = {"glm4_moe": COMMON, "glm4_moe_lite": {**COMMON, **LATENT, "q_lora_rank": [192, None]},
            "glm_moe_dsa": {**COMMON, **LATENT, "q_lora_rank": [192], "index_n_heads": [4], "index_head_dim": [64]}}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
OPTIONAL: dict[str, list[Any]] = {
    "n_shared_experts": [1, 2], "num_experts_per_tok": [2, 6], "n_group": [1, 4], "topk_group": [1],
    "norm_topk_prob": [True, False], "routed_scaling_factor": [1.0, 2.5], "rms_norm_eps": [1e-5, 1e-6],
    "max_position_embeddings": [4096, 202752], "tie_word_embeddings": [True, False],
    "rope_theta": [1000000, 5e5], "attention_bias": [True, False],
    "rope_scaling": [None, YARN, {**YARN, "truncate": False, "beta_fast": 16, "beta_slow": 2},
                     {**YARN, "mscale": 0.7, "mscale_all_dim": 1.0}, {"rope_type": "linear", "factor": 2.0},
                     {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512}],
    "rope_parameters": [{"rope_type": "default", "rope_theta": 8000000}, {"rope_theta": 7777}]}
OWN: dict[str, dict[str, list[Any]]] = {
    "glm4_moe": {"num_key_value_heads": [2, 8], "head_dim": [64, 128], "use_qk_norm": [True, False],
                 "partial_rotary_factor": [0.25, 0.5, 1.0], "first_k_dense_replace": [0, 3]},
    "glm4_moe_lite": {"mlp_layer_types": [["dense"] * 2 + ["sparse"] * 4]},
    "glm_moe_dsa": {"mlp_layer_types": [["dense"] * 2 + ["sparse"] * 4], "index_topk": [16, 2048],
                    "indexer_types": [["full", "full", "shared", "shared", "full", "shared"]],
                    "index_topk_freq": [1, 2, 4], "index_skip_topk_offset": [1, 2, 3]}}


def draw(rng: random.Random, model_type: str) -> dict[str, Any]:
    config = {"model_type": model_type, **{k: rng.choice(v) for k, v in REQUIRED[model_type].items()}}
    for key, values in {**OPTIONAL, **OWN[model_type]}.items():
        if rng.random() < 0.4:
            config[key] = rng.choice(values)
    if config.get("rope_scaling") and "rope_parameters" in config:
        del config["rope_parameters"]  # two answers to one question
    return config


def wanted(read: Any, model_type: str) -> dict[str, Any]:
    raw = read.to_dict()
    rope = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    kinds = raw.get("mlp_layer_types")
    out = {k: raw[k] for k in (*COMMON, "n_shared_experts", "num_experts_per_tok", "n_group", "topk_group",
                               "norm_topk_prob", "routed_scaling_factor", "rms_norm_eps",
                               "max_position_embeddings", "tie_word_embeddings", "attention_bias")}
    out["rope_theta"] = rope.get("rope_theta", raw.get("rope_theta"))
    out["rope_factor"] = rope.get("factor", 1.0)
    out["dense_layers"] = (kinds.count("dense") if kinds and model_type != "glm4_moe"
                           else min(raw["first_k_dense_replace"], raw["num_hidden_layers"]))
    if model_type == "glm4_moe":
        out["num_key_value_heads"], out["use_qk_norm"] = raw["num_key_value_heads"], raw["use_qk_norm"]
        out["head_dim"] = raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"]
        partial = rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1.0))
        out["rotary_dim"] = int(out["head_dim"] * partial)
        return out
    out.update({k: raw[k] for k in LATENT}, q_lora_rank=raw["q_lora_rank"] or 0)
    if model_type == "glm_moe_dsa":
        out["index_topk"] = min(raw["index_topk"], raw["max_position_embeddings"])
        if "indexer_types" in raw:
            out["indexer_types"] = raw["indexer_types"]
    return out


def rope_of(read: Any) -> tuple[list[float], float] | None:
    """Frequencies and magnitude, where a torch is there to compute them."""
    kind = (getattr(read, "rope_parameters", None) or {}).get("rope_type", "default")
    try:
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
        import torch
    except ImportError:
        return None
    if kind == "default":
        return None
    frequencies, magnitude = ROPE_INIT_FUNCTIONS[kind](read, torch.device("cpu"))
    return frequencies.tolist(), magnitude


@pytest.mark.parametrize("model_type", REQUIRED)
def test_reads_the_same(model_type: str, tmp_path: Path) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    if model_type not in CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} does not know {model_type}")
    rng = random.Random(SEED)
    read, files = [], []
    for case in range(CASES):
        config = draw(rng, model_type)
        try:
            read.append((config, CONFIG_MAPPING[model_type].from_dict(json.loads(json.dumps(config)))))
        except Exception:  # whatever its validation raises  # noqa: BLE001
            continue
        files.append(tmp_path / f"{case}.json")
        files[-1].write_text(json.dumps(config))
    answers = subprocess.run([os.environ["CONFIG_DUMP"], *map(str, files)], capture_output=True, text=True,
                             check=True).stdout.splitlines()
    assert len(answers) == len(files) > CASES // 2
    for (config, theirs), line in zip(read, answers):
        ours = json.loads(line)
        assert "error" not in ours, (SEED, config, ours)
        for key, value in wanted(theirs, model_type).items():
            same = (math.isclose(ours[key], value, rel_tol=1e-6) if isinstance(value, float) else ours[key] == value)
            assert same, (SEED, key, value, ours[key], config)
        rope = rope_of(theirs)
        if rope is not None:
            assert ours["frequencies"] == pytest.approx(rope[0], rel=1e-5), (SEED, config)
            assert ours["rope_magnitude"] == pytest.approx(rope[1], rel=1e-6), (SEED, config)
