"""The checkpoint generators: each format is what its real tool writes, and the oracle reads it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import checkpoint_formats
import make_large_checkpoint
import quantized_formats
from checkpoint_reader import CheckpointReader
from glm4_moe import Config
from make_checkpoint import Options, make_checkpoint

HERE = Path(__file__).resolve().parent
EXPERT = "model.layers.1.mlp.experts.{}.down_proj"


def generate(folder: Path, seed: int, **changes: object) -> CheckpointReader:
    make_checkpoint(folder, Options(seed=seed, **{"experts": 12, "layers": 2, **changes}))
    return CheckpointReader(folder)


def suffixes(reader: CheckpointReader, module: str) -> set[str]:
    return {n.removeprefix(f"{module}.") for n in reader.tensors if n.startswith(f"{module}.")}


GPTQ = {"qweight", "qzeros", "scales"}
FP8_BLOCK = {"weight", "weight_scale_inv"}
FP8_CHANNEL = {"weight", "weight_scale"}
PACKED = {"weight_packed", "weight_scale", "weight_shape"}
BYTES = {"weight", "weight_scale"}


@pytest.mark.parametrize("name, expert, dense, shared", [
    ("bf16", {"weight"}, {"weight"}, {"weight"}),
    ("f16", {"weight"}, {"weight"}, {"weight"}),
    ("f32", {"weight"}, {"weight"}, {"weight"}),
    ("gptq", GPTQ | {"g_idx"}, GPTQ | {"g_idx"}, GPTQ | {"g_idx"}),
    ("gptq_v2", GPTQ | {"g_idx"}, GPTQ | {"g_idx"}, GPTQ | {"g_idx"}),
    ("gptq_v2_asym", GPTQ | {"g_idx"}, GPTQ | {"g_idx"}, GPTQ | {"g_idx"}),
    ("gptq_desc_act", GPTQ | {"g_idx"}, GPTQ | {"g_idx"}, GPTQ | {"g_idx"}),
    ("gptq_asym", GPTQ | {"g_idx"}, GPTQ | {"g_idx"}, GPTQ | {"g_idx"}),
    ("autoround", GPTQ, GPTQ, GPTQ),
    ("autoround_plain", GPTQ, GPTQ, GPTQ),
    ("autoround_gptqmodel", GPTQ | {"g_idx"}, GPTQ | {"g_idx"}, GPTQ | {"g_idx"}),
    ("autoround_awq", GPTQ, GPTQ, GPTQ),
    ("autoround_export", GPTQ | {"g_idx"}, {"weight"}, GPTQ | {"g_idx"}),
    ("ct", PACKED, {"weight"}, {"weight"}),
    ("ct_asym", PACKED | {"weight_zero_point"}, PACKED | {"weight_zero_point"},
     PACKED | {"weight_zero_point"}),
    ("ct_asym_i8", PACKED | {"weight_zero_point"}, PACKED | {"weight_zero_point"},
     PACKED | {"weight_zero_point"}),
    ("ct_g_idx", PACKED | {"weight_g_idx"}, PACKED | {"weight_g_idx"}, PACKED | {"weight_g_idx"}),
    ("awq", GPTQ, GPTQ, GPTQ),
    ("mixed", GPTQ | {"g_idx"}, {"weight"}, {"weight"}),
    ("fp8_block", FP8_BLOCK, FP8_BLOCK, FP8_BLOCK),
    ("fp8_channel", FP8_CHANNEL, FP8_CHANNEL, FP8_CHANNEL),
    ("fp8_mixed", GPTQ | {"g_idx"}, FP8_BLOCK, FP8_BLOCK),
    ("ct_fp8_mixed", PACKED, FP8_CHANNEL, FP8_CHANNEL),
    ("gptq_w8", GPTQ | {"g_idx"}, GPTQ | {"g_idx"}, GPTQ | {"g_idx"}),
    ("gptq_w8_asym", GPTQ | {"g_idx"}, GPTQ | {"g_idx"}, GPTQ | {"g_idx"}),
    ("gptq_w8_desc_act", GPTQ | {"g_idx"}, GPTQ | {"g_idx"}, GPTQ | {"g_idx"}),
    ("autoround_w8", GPTQ, GPTQ, GPTQ),
    ("ct_w8", PACKED, PACKED, PACKED),
    ("ct_w8_asym", PACKED | {"weight_zero_point"}, PACKED | {"weight_zero_point"},
     PACKED | {"weight_zero_point"}),
    ("ct_int8", BYTES, BYTES, BYTES),
    ("mixed48", GPTQ | {"g_idx"}, GPTQ | {"g_idx"}, GPTQ | {"g_idx"}),
])
def test_formats_name_their_tensors_and_can_be_run(tmp_path: Path, seed: int, name: str,
                                                   expert: set, dense: set, shared: set) -> None:
    reader = generate(tmp_path, seed, format=name)
    assert suffixes(reader, EXPERT.format(0)) == expert
    assert suffixes(reader, "model.layers.0.mlp.up_proj") == dense
    assert suffixes(reader, "model.layers.1.mlp.shared_experts.up_proj") == shared
    assert reader.tensors["model.layers.1.mlp.gate.e_score_correction_bias"].dtype == "F32"
    # Dequantized weights have the deviation that was asked for: no layout is misread.
    for module, gain in ((EXPERT.format(3), 2.0), ("model.layers.0.self_attn.q_proj", 1.0),
                         ("model.layers.1.self_attn.o_proj", 2.0)):
        weight = reader(f"{module}.weight")
        assert weight.std() * weight.shape[1] ** 0.5 == pytest.approx(gain, rel=0.1)
        assert abs(weight.mean()) < 0.05 * weight.std()
    logits = reader.model().forward(list(range(20, 44))).logits
    assert logits.shape == (24, 600) and 1.5 < logits.std() < 4.0


def test_every_format_is_covered_above() -> None:
    marks = test_formats_name_their_tensors_and_can_be_run.pytestmark
    assert {case[0] for case in marks[0].args[1]} == set(checkpoint_formats.FORMAT_NAMES)


@pytest.mark.parametrize("experts", [96, 120, 160, 37])
def test_tokens_spread_over_the_experts(tmp_path: Path, seed: int, experts: int) -> None:
    reader = generate(tmp_path, seed, experts=experts)
    ids = np.random.default_rng(seed).integers(0, 512, 64)
    routes = reader.model().forward(ids).routes[0]
    counts = np.bincount(routes.experts.ravel(), minlength=experts)
    assert routes.experts.max() < experts
    assert (counts > 0).sum() > experts // 3
    # Where nearly all tokens go to the same eight, nothing is routed; one favourite among random weights is chance.
    assert (counts >= 56).sum() <= 2
    assert len(np.unique(routes.experts, axis=0)) > 50


def test_context_reaches_the_last_logits(tmp_path: Path, seed: int) -> None:
    model = generate(tmp_path, seed).model()
    a, b = (model.forward([first, 2, 3, 4, 5, 6, 7]).logits[-1] for first in (1, 300))
    assert np.linalg.norm(a - b) > 0.02 * np.linalg.norm(a)


def test_same_seed_same_bytes(tmp_path: Path, seed: int) -> None:
    for folder, s in (("a", seed), ("b", seed), ("c", seed + 1)):
        generate(tmp_path / folder, s, format="mixed", shards=2)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    name = "model-00001-of-00002.safetensors"
    assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes()


def test_autoround_scales_have_both_signs_and_use_the_full_range(tmp_path: Path,
                                                                 seed: int) -> None:
    linear = generate(tmp_path, seed, format="autoround").quantized(EXPERT.format(0))
    assert 0.3 < (linear.scales < 0).mean() < 0.7
    assert linear.codes.min() == 0


def test_desc_act_permutes_the_groups(tmp_path: Path, seed: int) -> None:
    linear = generate(tmp_path, seed, format="gptq_desc_act", moe_width=256).quantized(
        EXPERT.format(0))
    assert sorted(linear.g_idx) == [0] * 128 + [1] * 128
    assert list(linear.g_idx) != sorted(linear.g_idx)


@pytest.mark.parametrize("name", ["gptq_asym", "gptq_v2_asym", "autoround_plain", "ct_asym", "awq"])
def test_asymmetric_zeros_vary(tmp_path: Path, seed: int, name: str) -> None:
    linear = generate(tmp_path, seed, format=name, group=32).quantized(EXPERT.format(0))
    assert len(np.unique(linear.zeros)) > 4


def test_symmetric_v1_zeros_are_sevens(tmp_path: Path, seed: int) -> None:
    reader = generate(tmp_path, seed, format="gptq")
    words = reader.tensors[f"{EXPERT.format(0)}.qzeros"].array.view(np.uint32)
    assert np.all(words == 0x77777777)


def test_mixed_widths_are_as_the_config_says(tmp_path: Path, seed: int) -> None:
    reader = generate(tmp_path, seed, format="mixed48")
    bits = {module: reader.quantized(module).bits for module in
            ("lm_head", "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.shared_experts.up_proj",
             "model.layers.0.mlp.up_proj", EXPERT.format(3), "model.layers.1.mlp.experts.3.gate_proj",
             "model.layers.1.mlp.experts.2.down_proj")}
    dynamic = reader.raw_config["quantization_config"]["dynamic"]
    for module, found in bits.items():
        said = [o["bits"] for p, o in dynamic.items() if p.startswith("+:") and re.match(p[2:], module)]
        assert found == (said[0] if said else 4), module
    assert sorted(set(bits.values())) == [4, 8]


@pytest.mark.parametrize("group", [32, 64, 128])
def test_group_size_shows_in_the_scales(tmp_path: Path, seed: int, group: int) -> None:
    reader = generate(tmp_path, seed, group=group)
    assert reader.tensors["model.layers.0.mlp.down_proj.scales"].array.shape == (384 // group, 256)
    assert reader.raw_config["quantization_config"]["group_size"] == group


def test_mixed_has_every_kind(tmp_path: Path, seed: int) -> None:
    reader = generate(tmp_path, seed, format="mixed", layers=3)
    kinds = [frozenset(suffixes(reader, EXPERT.format(e))) for e in range(4)]
    assert kinds == [GPTQ | {"g_idx"}, PACKED | {"weight_g_idx"}, {"weight"}, GPTQ | {"g_idx"}]
    assert {t.dtype for n, t in reader.tensors.items() if n.endswith(".weight")} == {
        "BF16", "F16", "F32"}


def test_fused_experts_are_read_by_projection(tmp_path: Path, seed: int) -> None:
    reader = generate(tmp_path, seed, format="f32", fused_experts=True)
    fused = reader.tensors["model.layers.1.mlp.experts.gate_up_proj"].array
    assert fused.shape == (12, 256, 256)
    name = "model.layers.1.mlp.experts.5"
    np.testing.assert_array_equal(reader(f"{name}.gate_proj.weight"), fused[5, :128])
    np.testing.assert_array_equal(reader(f"{name}.up_proj.weight"), fused[5, 128:])
    assert reader.model().forward([1, 2, 3]).logits.shape == (3, 600)
    with pytest.raises(ValueError, match="fused experts"):
        generate(tmp_path, seed, format="gptq", fused_experts=True)


def test_config_styles_say_the_same(tmp_path: Path, seed: int) -> None:
    old, new = (generate(tmp_path / style, seed, config_style=style) for style in ("v4", "v5"))
    assert old.config == new.config == Config.from_json(old.raw_config)
    assert "torch_dtype" in old.raw_config and "rope_theta" in old.raw_config
    assert "dtype" in new.raw_config and "rope_theta" not in new.raw_config
    assert new.raw_config["rope_parameters"]["rope_theta"] == 1000000


def test_config_has_the_published_keys(tmp_path: Path, seed: int, reference_data: Path) -> None:
    published = json.loads((reference_data / "glm45" / "config.json").read_text())
    ours = generate(tmp_path, seed, format="bf16").raw_config
    assert set(ours) == set(published)
    assert len(ours["eos_token_id"]) == 3
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert generation["eos_token_id"] == ours["eos_token_id"]


def test_auto_round_export_config_lies_about_the_dtype(tmp_path: Path, seed: int) -> None:
    reader = generate(tmp_path, seed, format="autoround_export")
    assert reader.raw_config["torch_dtype"] == "float16"
    assert reader.tensors["lm_head.weight"].dtype == "BF16"
    assert "checkpoint_format" not in reader.raw_config["quantization_config"]


def test_ct_ignore_names_every_plain_linear(tmp_path: Path, seed: int) -> None:
    reader = generate(tmp_path, seed, format="ct")
    ignore = set(reader.raw_config["quantization_config"]["ignore"])
    plain = {n.removesuffix(".weight") for n, t in reader.tensors.items()
             if n.endswith(".weight") and t.array.ndim == 2} - {"model.embed_tokens"}
    assert ignore == plain


def test_overrides_reach_weights_and_config(tmp_path: Path, seed: int) -> None:
    overrides = {"use_qk_norm": False, "attention_bias": False, "n_group": 3, "topk_group": 2,
                 "n_shared_experts": 0, "norm_topk_prob": False, "tie_word_embeddings": True}
    reader = generate(tmp_path, seed, overrides=overrides, top_k=4)
    assert not any("q_norm" in n or n.endswith("_proj.bias") or "shared" in n or "lm_head" in n
                   for n in reader.tensors)
    experts = reader.model().forward([1, 2, 3, 4]).routes[0].experts
    assert all(len(set(row // 4)) <= 2 for row in experts)


def test_moe_width_must_divide_into_groups(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="96 inputs do not divide into groups of 128"):
        generate(tmp_path, 0, moe_width=96)


def test_large_generator_writes_the_same_model_kind(tmp_path: Path, seed: int) -> None:
    options = Options(**{**vars(make_large_checkpoint.LARGE), "seed": seed, "hidden": 256,
                         "intermediate": 384, "moe_width": 128, "heads": 4, "kv_heads": 2,
                         "experts": 10, "vocab": 1200})
    total = make_large_checkpoint.make_large_checkpoint(tmp_path, options)
    reader = CheckpointReader(tmp_path)
    assert total == sum(t.bytes for t in reader.tensors.values())
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    codes = quantized_formats.unpack_codes(reader.tensors[f"{EXPERT.format(0)}.qweight"].array, 0)
    counts = np.bincount(codes.ravel(), minlength=16)
    assert counts[0] == 0 and np.all(counts[1:] > 0)
    assert codes.mean() == pytest.approx(8, abs=0.2)
    weight = reader(f"{EXPERT.format(0)}.weight")
    assert weight.std() * 128 ** 0.5 == pytest.approx(2.0, rel=0.1)
    logits = reader.model().forward(list(range(24))).logits
    assert logits.shape == (24, 1200) and 1.5 < logits.std() < 4.0


def test_command_line(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "make_checkpoint.py"), "--out", str(tmp_path), "--seed",
               "7", "--format", "ct", "--experts", "9", "--layers", "2", "--set", "n_group=3",
               "--shards", "2", "--split-linears"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "9 experts, seed 7" in done.stdout
    assert CheckpointReader(tmp_path).config.n_group == 3
    done = subprocess.run([*command[:-1], "--top-k", "10"], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode != 0 and "top-k 10 of 9 experts" in done.stderr
