"""What a config says of the weights, beside what they are: refused where both cannot be true, by `inspect` and `serve`
in the same words; else the oracle's logits."""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

import safetensors_io
from answers import generate
from oracle_check import check
from safetensors_io import float_tensor
from sheaf_server import HttpError, SheafServer, run_to_end

TOLERANCE = 3e-4  # as test_logits.py
SIDE_FILES = ("quantize_config.json", "quantization_config.json")


def copy_with(checkpoint: Path, to: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy whose config.json is changed and repeated in no side file."""
    shutil.copytree(checkpoint, to)
    for name in SIDE_FILES:
        (to / name).unlink(missing_ok=True)
    config = json.loads((to / "config.json").read_text())
    change(config)
    (to / "config.json").write_text(json.dumps(config))
    return to


def change_tensors(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tensors = dict(safetensors_io.read_checkpoint_tensors(folder))
    tensors = {name: safetensors_io.Tensor(t.dtype, np.array(t.array)) for name, t in tensors.items()}
    change(tensors)
    for stale in folder.glob("*.safetensors*"):
        stale.unlink()
    safetensors_io.write_checkpoint_tensors(folder, tensors)


def refusals(folder: Path) -> list[str]:
    """The one line of `inspect` and of `serve`."""
    lines = []
    for command in (["inspect", str(folder)],
                    ["serve", str(folder), "--workers", "0", "--port", "0", "--grpc-port", "0", "--log-level", "error"]):
        result = run_to_end(*command)
        assert result.returncode == 1, result.stdout + result.stderr
        errors = [line for line in result.stderr.splitlines() if line.startswith("sheaf: ")]
        assert len(errors) == 1, result.stderr
        lines.append(errors[0])
    return lines


def says(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["quantization_config"].update(changes)


@pytest.mark.parametrize("format", ["gptq_asym", "gptq_v2_asym", "autoround_plain", "ct_asym"])
def test_asymmetric_files_under_a_symmetric_config_are_refused_by_name(make: Callable[..., Path], tmp_path: Path,
                                                                       format: str) -> None:
    def change(config: dict[str, Any]) -> None:
        quantization = config["quantization_config"]
        if format == "ct_asym":
            quantization["config_groups"]["group_0"]["weights"]["symmetric"] = True
        else:
            quantization["sym"] = True
    folder = copy_with(make(format=format, experts=12), tmp_path / "copy", change)
    tensor = "weight_zero_point" if format == "ct_asym" else "qzeros"
    for line in refusals(folder):
        assert f"tensor model.layers.0.self_attn.q_proj.{tensor}: wanted " in line
        assert "symmetric true" in line or "sym true" in line


@pytest.mark.parametrize("format, change", [
    ("gptq_asym", lambda config: config.pop("quantization_config")),
    ("gptq_asym", lambda config: config["quantization_config"].pop("sym")),
    ("gptq_v2_asym", lambda config: config["quantization_config"].pop("sym")),
    ("gptq", lambda config: config.pop("quantization_config")),
    ("gptq_v2", lambda config: config.pop("quantization_config")),
    ("gptq", says(sym=False)),
    ("gptq", says(bits="3", group_size=None, quant_method="unheard-of")),
    ("gptq_asym", says(sym=True, dynamic={"-:.*mlp\\.gate$": {}, "+:.*self_attn.*": {"sym": False},
                                          "model\\.layers\\.\\d+\\.mlp\\.": {"sym": False, "bits": 4}})),
    ("gptq_v2_asym", says(sym="true", dynamic={"+:^(?!lm_head).*": {"sym": False}})),
    ("autoround_plain", says(sym=True, extra_config={"self_attn": {"bits": 16}, ".*proj.*": {"bits": 4, "sym": False}})),
], ids=["v1_no_config", "v1_no_sym", "v2_no_sym", "symmetric_no_config", "symmetric_v2_no_config", "said_asymmetric",
        "other_bits_and_method", "dynamic", "dynamic_v2", "extra_config"])
def test_zero_points_are_what_the_files_and_the_modules_settings_say(
        make: Callable[..., Path], seed: int, tmp_path: Path, format: str,
        change: Callable[[dict[str, Any]], None]) -> None:
    check(copy_with(make(format=format, experts=12), tmp_path / "copy", change), seed, "float32", "none", TOLERANCE)


@pytest.mark.parametrize("change, named", [
    (says(transform_config={"config_groups": {"R3": {"type": "hadamard", "apply": [
        {"targets": ["self_attn"], "location": "q_attn"}]}}}), "transform_config.config_groups.R3.apply[0]"),
    (says(rotation_config={"hadamard_type": "hadamard", "block_size": 128}), "rotation_config"),
    (says(checkpoint_format="marlin"), "checkpoint_format"),
], ids=["transform", "rotation", "marlin"])
def test_weights_that_mean_something_else_are_refused_by_key(tiny: Path, tmp_path: Path,
                                                             change: Callable[[dict[str, Any]], None],
                                                             named: str) -> None:
    for line in refusals(copy_with(tiny, tmp_path / "copy", change)):
        assert f"config.json: quantization_config.{named}: wanted " in line


def test_calibrated_scales_are_used_by_an_e4m3_cache(make: Callable[..., Path], seed: int, tmp_path: Path) -> None:
    """No powers of two, so that a cache without them rounds to other values: an error of 8e-2, with them 0.4e-2 to 1.9e-2."""
    folder = copy_with(make(format="gptq", experts=12), tmp_path / "copy", lambda config: None)

    def add(tensors: dict[str, Any]) -> None:
        for layer in range(3):
            name = f"model.layers.{layer}.self_attn"
            tensors[f"{name}.k_scale"] = float_tensor("F32", np.array([0.0137]))
            tensors[f"{name}.v_scale"] = float_tensor("BF16", np.array([0.0093]))
    change_tensors(folder, add)
    check(folder, seed, "fp8_e4m3", "fp8_e4m3", 3e-2)
    check(folder, seed, "float32", "none", TOLERANCE)
    assert "6 calibrated scales of cached keys and values are used by an e4m3 cache alone" in run_to_end(
        "inspect", str(folder)).stdout


@pytest.fixture(scope="module")
def narrow(make: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose tokenizer has four more ids than its embedding has rows, and whose config says 64 more."""
    folder = tmp_path_factory.mktemp("narrow") / "copy"
    shutil.copytree(make(format="gptq", experts=12), folder)
    rows = tokens_of(folder) - 4

    def cut(tensors: dict[str, Any]) -> None:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = safetensors_io.Tensor(tensors[name].dtype, tensors[name].array[:rows])
    change_tensors(folder, cut)
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = rows + 64
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def tokens_of(folder: Path) -> int:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    return max([*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])]) + 1


def test_ids_without_a_row_are_refused_and_never_sampled(narrow: Path) -> None:
    rows = tokens_of(narrow) - 4
    added = json.loads((narrow / "tokenizer.json").read_text())["added_tokens"]
    last = max(added, key=lambda token: token["id"])
    with SheafServer(narrow, "--workers", "0", "--max-logprobs", "-1", "--served-model-name", "narrow") as server:
        answer = generate(server, [1, 2, rows - 1], 40, temperature=2.0, seed=5, ignore_eos=True)
        assert len(answer["ids"]) == 40 and max(answer["ids"]) < rows
        for fields, word in (({"prompt": [1, rows]}, f"token id {rows} is outside"),
                             ({"prompt": "so " + last["content"]}, f"token id {last['id']} (\"{last['content']}\")"),
                             ({"prompt": "so", "logit_bias": {str(rows): 5}}, f"token id {rows} is outside"),
                             ({"prompt": "so", "allowed_token_ids": [rows]}, f"token id {rows} is outside")):
            with pytest.raises(HttpError) as caught:
                server.completion(model="narrow", max_tokens=2, **fields)
            assert caught.value.status == 400
            assert word in caught.value.body["error"]["message"]
        # Words and grammars may name such tokens; they come to nothing.
        guided = server.completion(model="narrow", prompt="so", max_tokens=12, temperature=1.5, seed=1, logprobs=3,
                                   bad_words=[last["content"], "the"], guided_regex="[a-z ]{3,9}")
        assert guided["choices"][0]["text"]
        assert server.healthy()


def test_a_vocabulary_without_rows_is_said_by_inspect(narrow: Path) -> None:
    rows = tokens_of(narrow) - 4
    result = run_to_end("inspect", str(narrow))
    assert result.returncode == 0, result.stdout
    assert f"vocab_size says {rows + 64}, but embedding and lm_head have {rows} rows" in result.stdout
