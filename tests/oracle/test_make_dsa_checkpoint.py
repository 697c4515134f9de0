"""Generated glm_moe_dsa checkpoints: what each format quantizes, and that the indexer matters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import checkpoint_formats
import clear_prompt
import logits
import make_checkpoint
from checkpoint_reader import CheckpointReader
from make_checkpoint import Options

HERE = Path(__file__).resolve().parent
# Small, for the tests that ask about tensors and not about numbers.
BARE = {"experts": 4, "top_k": 2, "layers": 2, "heads": 2, "index_heads": 4, "q_lora": 256}


def generate(folder: Path, seed: int, **changes: object) -> CheckpointReader:
    options = {"experts": 12, "layers": 2, **changes}
    make_checkpoint.make_checkpoint(folder, Options(seed=seed, arch="glm_moe_dsa", **options))
    return CheckpointReader(folder)


def suffixes(reader: CheckpointReader, module: str) -> set[str]:
    return {n.removeprefix(f"{module}.") for n in reader.tensors if n.startswith(f"{module}.")}


PLAIN = {"weight"}
GPTQ = {"qweight", "qzeros", "scales"}
GPTQ_G = GPTQ | {"g_idx"}
FP8_BLOCK = {"weight", "weight_scale_inv"}
FP8_CHANNEL = {"weight", "weight_scale"}
PACKED = {"weight_packed", "weight_scale", "weight_shape"}
BYTES = {"weight", "weight_scale"}


@pytest.mark.parametrize("name, attention, indexer, dense, expert", [
    ("bf16", PLAIN, PLAIN, PLAIN, PLAIN),
    ("f16", PLAIN, PLAIN, PLAIN, PLAIN),
    ("f32", PLAIN, PLAIN, PLAIN, PLAIN),
    ("gptq", GPTQ_G, GPTQ_G, GPTQ_G, GPTQ_G),
    ("gptq_v2", GPTQ_G, GPTQ_G, GPTQ_G, GPTQ_G),
    ("gptq_v2_asym", GPTQ_G, GPTQ_G, GPTQ_G, GPTQ_G),
    ("gptq_desc_act", GPTQ_G, GPTQ_G, GPTQ_G, GPTQ_G),
    ("gptq_asym", GPTQ_G, GPTQ_G, GPTQ_G, GPTQ_G),
    ("autoround", GPTQ, PLAIN, GPTQ, GPTQ),
    ("autoround_plain", GPTQ, GPTQ, GPTQ, GPTQ),
    ("autoround_gptqmodel", GPTQ_G, GPTQ_G, GPTQ_G, GPTQ_G),
    ("autoround_awq", GPTQ, GPTQ, GPTQ, GPTQ),
    ("autoround_export", GPTQ_G, GPTQ_G, PLAIN, GPTQ_G),
    ("ct", PACKED, PACKED, PLAIN, PACKED),
    ("ct_asym", PACKED | {"weight_zero_point"}, PACKED | {"weight_zero_point"},
     PACKED | {"weight_zero_point"}, PACKED | {"weight_zero_point"}),
    ("ct_asym_i8", PACKED | {"weight_zero_point"}, PACKED | {"weight_zero_point"},
     PACKED | {"weight_zero_point"}, PACKED | {"weight_zero_point"}),
    ("ct_g_idx", PACKED | {"weight_g_idx"}, PACKED | {"weight_g_idx"}, PACKED | {"weight_g_idx"},
     PACKED | {"weight_g_idx"}),
    ("awq", GPTQ, GPTQ, GPTQ, GPTQ),
    ("mixed", PLAIN, PLAIN, PLAIN, GPTQ_G),
    ("fp8_block", FP8_BLOCK, FP8_BLOCK, FP8_BLOCK, FP8_BLOCK),
    ("fp8_channel", FP8_CHANNEL, FP8_CHANNEL, FP8_CHANNEL, FP8_CHANNEL),
    ("fp8_mixed", FP8_BLOCK, FP8_BLOCK, FP8_BLOCK, GPTQ_G),
    ("ct_fp8_mixed", FP8_CHANNEL, FP8_CHANNEL, FP8_CHANNEL, PACKED),
    ("gptq_w8", GPTQ_G, GPTQ_G, GPTQ_G, GPTQ_G),
    ("gptq_w8_asym", GPTQ_G, GPTQ_G, GPTQ_G, GPTQ_G),
    ("gptq_w8_desc_act", GPTQ_G, GPTQ_G, GPTQ_G, GPTQ_G),
    ("autoround_w8", GPTQ, GPTQ, GPTQ, GPTQ),
    ("ct_w8", PACKED, PACKED, PACKED, PACKED),
    ("ct_w8_asym", PACKED | {"weight_zero_point"}, PACKED | {"weight_zero_point"},
     PACKED | {"weight_zero_point"}, PACKED | {"weight_zero_point"}),
    ("ct_int8", BYTES, BYTES, BYTES, BYTES),
    ("mixed48", GPTQ_G, GPTQ_G, GPTQ_G, GPTQ_G),
])
def test_formats_name_their_tensors_and_can_be_run(tmp_path: Path, seed: int, name: str,
                                                   attention: set, indexer: set, dense: set,
                                                   expert: set) -> None:
    reader = generate(tmp_path, seed, format=name, **BARE)
    at = "model.layers.1.self_attn"
    for module in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"):
        assert suffixes(reader, f"{at}.{module}") == attention
    for module in ("wq_b", "wk"):
        assert suffixes(reader, f"{at}.indexer.{module}") == indexer
    assert suffixes(reader, f"{at}.indexer.weights_proj") == PLAIN
    assert suffixes(reader, f"{at}.indexer.k_norm") == {"weight", "bias"}
    assert suffixes(reader, "model.layers.0.mlp.up_proj") == dense
    assert suffixes(reader, "model.layers.1.mlp.experts.0.up_proj") == expert
    # Dequantized weights have the deviation that was asked for: no layout is misread.
    for module, gain in ((f"{at}.kv_b_proj", 1.0), (f"{at}.o_proj", 2.0),
                         (f"{at}.indexer.wq_b", 1.0)):
        weight = reader(f"{module}.weight")
        assert weight.std() * weight.shape[1] ** 0.5 == pytest.approx(gain, rel=0.1)
        assert abs(weight.mean()) < 0.05 * weight.std()
    output = reader.model().forward(list(range(20, 44)))
    assert output.logits.shape == (24, 600) and 1.5 < output.logits.std() < 4.0
    assert [c.layer for c in output.index_choices] == [0, 1]


def test_every_format_is_covered_above() -> None:
    marks = test_formats_name_their_tensors_and_can_be_run.pytestmark
    assert {case[0] for case in marks[0].args[1]} == set(checkpoint_formats.FORMAT_NAMES)


@pytest.mark.parametrize("name", ["mixed", "autoround_export"])
def test_files_hold_what_was_drawn(tmp_path: Path, seed: int, name: str) -> None:
    reader = generate(tmp_path, seed, format=name, shards=3, split_linears=True, **BARE)
    drawn = make_checkpoint.draw_weights(
        Options(seed=seed, arch="glm_moe_dsa", format=name, **BARE)).tensors
    assert set(reader.tensors) == set(drawn)
    for tensor_name, tensor in drawn.items():
        assert reader.tensors[tensor_name].dtype == tensor.dtype
        np.testing.assert_array_equal(reader.tensors[tensor_name].array, tensor.array)


def test_published_shapes(tmp_path: Path, seed: int) -> None:
    reader = generate(tmp_path, seed, format="f32", **{**BARE, "heads": 4, "index_heads": 6})
    at = "model.layers.0.self_attn"
    assert {n.removeprefix(f"{at}."): t.array.shape for n, t in reader.tensors.items()
            if n.startswith(at)} == {
        "q_a_proj.weight": (256, 256), "q_a_layernorm.weight": (256,),
        "q_b_proj.weight": (4 * 80, 256), "kv_a_proj_with_mqa.weight": (160, 256),
        "kv_a_layernorm.weight": (128,), "kv_b_proj.weight": (4 * 112, 128),
        "o_proj.weight": (256, 256), "indexer.wq_b.weight": (6 * 96, 256),
        "indexer.wk.weight": (96, 256), "indexer.k_norm.weight": (96,),
        "indexer.k_norm.bias": (96,), "indexer.weights_proj.weight": (6, 256)}


def test_the_export_says_less_and_other_than_its_tensors(tmp_path: Path, seed: int) -> None:
    reader = generate(tmp_path, seed, format="autoround_export",
                      **{**BARE, "layers": 3, "dense_layers": 2})
    config = reader.raw_config
    assert config["dtype"] == "float16"
    assert reader.tensors["lm_head.weight"].dtype == "BF16"
    assert reader.tensors["model.layers.1.self_attn.indexer.weights_proj.weight"].dtype == "BF16"
    quantization = config["quantization_config"]
    assert quantization["modules_in_block_to_quantize"] == [[
        f"self_attn.{m}" for m in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj",
                                   "o_proj", "indexer.wq_b", "indexer.wk")]]
    assert set(quantization["dynamic"]) == {
        r"-:.*layers\.0\.mlp.*", r"-:.*layers\.1\.mlp.*", r"-:.*mlp\.gate$",
        "-:.*weights_proj.*"}
    assert "checkpoint_format" not in quantization
    # Experts are quantized although no list names them, and the promised MTP layer is absent.
    assert suffixes(reader, "model.layers.2.mlp.experts.0.up_proj") == GPTQ_G
    assert config["num_nextn_predict_layers"] == 1
    assert not any(n.startswith("model.layers.3.") for n in reader.tensors)
    scales = reader.tensors["model.layers.2.self_attn.indexer.wq_b.scales"].to_float64()
    assert 0.3 < (scales < 0).mean() < 0.7


def test_ct_ignore_names_every_plain_linear(tmp_path: Path, seed: int) -> None:
    reader = generate(tmp_path, seed, format="ct", **BARE)
    ignore = set(reader.raw_config["quantization_config"]["ignore"])
    plain = {n.removesuffix(".weight") for n, t in reader.tensors.items()
             if n.endswith(".weight") and t.array.ndim == 2} - {"model.embed_tokens"}
    assert ignore == plain and "model.layers.1.self_attn.indexer.weights_proj" in plain


def test_config_has_the_published_keys(tmp_path: Path, seed: int, reference_data: Path) -> None:
    published = json.loads((reference_data / "zai-org--GLM-5.1_config.json").read_text())
    ours = generate(tmp_path, seed, format="bf16", **BARE).raw_config
    assert set(ours) == set(published)
    assert {k for k in ours if type(ours[k]) is not type(published[k])} == set()


def test_config_styles_say_the_same(tmp_path: Path, seed: int) -> None:
    readers = {style: generate(tmp_path / style, seed, config_style=style, indexer_types="FS",
                               **BARE) for style in ("published", "v4", "v5")}
    configs = {style: reader.raw_config for style, reader in readers.items()}
    assert "rope_theta" in configs["v4"] and "torch_dtype" in configs["v4"]
    assert configs["v5"]["mlp_layer_types"] == ["dense", "sparse"]
    assert configs["v5"]["layer_types"] == ["deepseek_sparse_attention"] * 2
    ids = list(range(30, 54))
    wanted = readers["v4"].model().forward(ids).logits
    for reader in readers.values():
        assert reader.config.indexer_types == ("full", "shared")
        np.testing.assert_allclose(reader.model().forward(ids).logits, wanted, atol=1e-12)


def test_shared_layers_have_no_indexer(tmp_path: Path, seed: int) -> None:
    listed = generate(tmp_path / "a", seed, **{**BARE, "layers": 4}, indexer_types="FSSF")
    derived = generate(tmp_path / "b", seed, **{**BARE, "layers": 4},
                       overrides={"index_topk_freq": 3, "index_skip_topk_offset": 1})
    for reader in (listed, derived):
        with_indexer = {int(n.split(".")[2]) for n in reader.tensors if ".indexer." in n}
        assert with_indexer == {0, 3}
    assert listed.raw_config["indexer_types"] == ["full", "shared", "shared", "full"]
    assert "indexer_types" not in derived.raw_config
    with pytest.raises(ValueError, match="indexer types 'FX'"):
        generate(tmp_path / "c", seed, indexer_types="FX")


@pytest.mark.parametrize("experts, topk", [(192, 8), (37, 64)])
def test_routes_and_index_choices_are_lively(tmp_path: Path, seed: int, experts: int,
                                             topk: int) -> None:
    tokens = topk + 64
    reader = generate(tmp_path, seed, experts=experts, index_topk=topk)
    ids = np.random.default_rng(seed).integers(0, 512, tokens)
    output = reader.model().forward(ids)
    used = np.unique(output.routes[0].experts)
    assert used.max() < experts and len(used) > experts // 3
    for choice in output.index_choices:
        rows = choice.chosen[topk:]
        # Each query chooses its own, but for chance: early ones choose 8 of 9.
        assert len(np.unique(rows, axis=0)) > 0.9 * len(rows)
        ages = tokens - 1 - np.flatnonzero(rows[-1])
        assert ages.max() > tokens // 3  # not a sliding window
        assert choice.deviations[topk:].min() > 0.1
        # Zeros from ReLU must not decide: a tie is a choice that no test can compare.
        assert (choice.relative_margins[topk:] > 1e-5).mean() > 0.9
    # Forcing dense attention is as wrong as can be, and only beyond index_topk.
    dense = reader.model(dense_attention=True).forward(ids)
    np.testing.assert_allclose(dense.logits[:topk], output.logits[:topk], atol=1e-12)
    errors = [logits.relative_error(a, b) for a, b in zip(dense.logits, output.logits)]
    assert np.median(errors[topk:]) > 0.1 and min(errors[topk:]) > 1e-3


def test_latent_gain_tells_the_two_eps_apart(tmp_path: Path, seed: int) -> None:
    reader = generate(tmp_path, seed, latent_gain=0.01, format="bf16", **BARE)
    ids = list(range(40, 56))
    wanted = reader.model().forward(ids).logits
    assert logits.relative_error(reader.model(latent_norm_eps=1e-6).forward(ids).logits,
                                 wanted) > 1e-2
    np.testing.assert_allclose(reader.model(latent_norm_eps=1e-5).forward(ids).logits, wanted,
                               atol=1e-12)


def test_attention_bias_and_omitted_tensors(tmp_path: Path, seed: int) -> None:
    reader = generate(tmp_path, seed, overrides={"attention_bias": True},
                      omit=r"model\.layers\.1\..*\.indexer\.wk\..*", **BARE)
    assert "bias" in suffixes(reader, "model.layers.0.self_attn.kv_a_proj_with_mqa")
    assert suffixes(reader, "model.layers.0.self_attn.indexer.wk") == GPTQ_G
    assert suffixes(reader, "model.layers.1.self_attn.indexer.wk") == set()
    with pytest.raises(KeyError, match="layers.1.self_attn.indexer.wk"):
        reader.model().forward([1, 2])


def test_unknown_model_types_are_named(tmp_path: Path, seed: int) -> None:
    generate(tmp_path, seed, **BARE)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "glm5"}))
    with pytest.raises(ValueError, match="model_type 'glm5': want one of glm4_moe, glm4_moe_lite, "
                                         "glm_moe_dsa"):
        CheckpointReader(tmp_path)
    with pytest.raises(ValueError, match="architecture 'glm5'"):
        make_checkpoint.make_checkpoint(tmp_path, Options(arch="glm5"))


def test_clear_prompts_have_clear_choices(tmp_path: Path, seed: int,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    model = generate(tmp_path, seed, index_topk=8, **BARE).model()
    ids = clear_prompt.draw_clear_prompt(model, np.random.default_rng(seed), 24, 1e-3, 1e-2)
    output = model.forward(ids)
    assert clear_prompt.smallest_gate_margins(output).min() >= 1e-3 - 1e-12
    assert clear_prompt.smallest_index_margins(output).min() >= 1e-2 - 1e-9
    _, continuation = clear_prompt.greedy(model, ids, 3)
    assert len(continuation.index_margins) == 3
    assert continuation.index_margins[0] == clear_prompt.smallest_index_margins(output).min()
    monkeypatch.setattr(clear_prompt, "TRIES_PER_TOKEN", 3)
    with pytest.raises(ValueError, match="index margin of 50"):
        clear_prompt.draw_clear_prompt(model, np.random.default_rng(seed), 10, 0.0, 50.0)


def test_command_lines(tmp_path: Path) -> None:
    def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(HERE / script), *arguments],
                              capture_output=True, text=True, timeout=300)

    done = run("make_checkpoint.py", "--out", str(tmp_path), "--arch", "glm_moe_dsa", "--seed", "7",
               "--experts", "9", "--layers", "3", "--index-topk", "4", "--indexer-types", "FSF")
    assert done.returncode == 0, done.stderr
    assert "glm_moe_dsa, gptq, 9 experts, seed 7" in done.stdout
    ids = "5,6,7,8,9,10"
    done = run("logits.py", "--checkpoint", str(tmp_path), "--ids", ids, "--greedy", "2", "--last",
               "--index-choices", "--kv-rounding", "fp8_ds_mla", "--index-key-rounding", "bf16")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    output = CheckpointReader(tmp_path).model("fp8_ds_mla", index_key_rounding="bf16").forward(
        [int(i) for i in ids.split(",")])
    np.testing.assert_allclose(report["logits"], output.logits[-1:])
    assert [c["layer"] for c in report["index_choices"]] == [0, 2]
    assert report["index_choices"][1]["positions"][5] == output.index_choices[1].positions(5)
    assert report["index_margins"][:4] == [None] * 4 and report["index_margins"][5] >= 0
    assert len(report["greedy"]["index_margins"]) == 2
