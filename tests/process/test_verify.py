"""`sheaf verify`: every byte read, and what is wrong named with its tensor and its place."""
from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any, Callable

import pytest

from checkpoint_faults import copy_checkpoint, read_header, replace, text, truncated, unnamed, write_header
from sheaf_server import run_to_end

SMALL = dict(experts=4, layers=3, hidden=256, intermediate=256, moe_width=128, heads=4, kv_heads=2, top_k=2)
FORMATS = ["gptq", "gptq_desc_act", "gptq_v2_asym", "autoround", "ct_asym", "awq", "bf16",
           "gptq_w8", "ct_int8", "mixed48", "fp8_block", "ct_fp8_mixed"]


def verify(folder: Path, *flags: str) -> tuple[int, dict[str, Any], str]:
    result = run_to_end("verify", str(folder), "--json", *flags)
    return result.returncode, json.loads(result.stdout), result.stderr


def change_value(folder: Path, suffix: str, value: bytes, element: int = 0) -> str:
    """Writes `value` over one element of the first tensor with this suffix; its name."""
    for path in sorted(folder.glob("*.safetensors")):
        tensors, data = read_header(path)
        for name, entry in tensors.items():
            if name.endswith(suffix):
                at = entry["data_offsets"][0] + element * len(value)
                write_header(path, tensors, data[:at] + value + data[at + len(value):])
                return name
    raise AssertionError(suffix)


def write_sums(folder: Path) -> None:
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(lines))


@pytest.fixture
def folder(make: Callable[..., Path], tmp_path: Path) -> Path:
    return copy_checkpoint(make(format="gptq", shards=2, **SMALL), tmp_path / "tiny")


@pytest.mark.parametrize("format", FORMATS)
def test_a_good_checkpoint_is_sound(make: Callable[..., Path], format: str) -> None:
    folder = make(format=format, **SMALL)
    status, report, stderr = verify(folder, "--reference")
    assert status == 0 and not stderr and report["sound"] and not report["faults"]
    assert {entry["name"]: entry["sha256"] for entry in report["files"]} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert report["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert report["reference"]["linears"] == 3 * 4 + 3 + 2 * 5 * 3 + 1
    assert report["reference"]["rows"] > 0 and report["reference"]["different"] == 0


def test_a_sparse_checkpoint_is_sound(make: Callable[..., Path]) -> None:
    status, report, _ = verify(make(arch="glm_moe_dsa", format="gptq", experts=12), "--reference")
    assert status == 0 and report["reference"]["different"] == 0


def test_the_trained_checkpoint_is_sound(nano: Path) -> None:
    status, report, _ = verify(nano)
    assert status == 0, report["faults"]


def test_zero_points_and_group_indices_are_counted(make: Callable[..., Path]) -> None:
    _, report, _ = verify(make(format="gptq", **SMALL))
    experts = next(codes for codes in report["codes"] if codes["part"] == "routed experts")
    assert experts["one_stored_zero_point"]["7"] == experts["tensors"] == 2 * 4 * 3
    assert report["group_indices"]["permuted"] == 0 and report["group_indices"]["in_order"] > 0
    _, report, _ = verify(make(format="gptq_w8", **SMALL))
    experts = next(codes for codes in report["codes"] if codes["part"] == "routed experts")
    assert experts["one_stored_zero_point"] == {"127": experts["tensors"]}
    _, report, _ = verify(make(format="gptq_desc_act", **SMALL))
    assert report["group_indices"]["permuted"] > 0
    _, report, _ = verify(make(format="gptq_v2_asym", **SMALL))
    assert all(codes["several_zero_points"] > 0 for codes in report["codes"])
    _, report, _ = verify(make(format="autoround", **SMALL))
    scales = [values for values in report["values"] if values["role"] == "scales"]
    assert scales and all(values["min"] < 0 < values["max"] and values["negatives"] > 0 for values in scales)


def test_a_nan_scale_is_named_with_its_place(folder: Path) -> None:
    name = change_value(folder, "layers.1.mlp.experts.3.up_proj.scales", b"\x00\x7e", element=2 * 128 - 5)
    status, report, stderr = verify(folder)
    assert status == 1 and report["num_faults"] == 1
    assert name in report["faults"][0] and "NaN" in report["faults"][0] and "[1, 123]" in report["faults"][0]
    assert stderr == f"sheaf: {report['faults'][0]}\n"


def test_an_infinite_norm_and_a_bias_of_nan_are_both_named(folder: Path) -> None:
    norm = change_value(folder, "layers.2.input_layernorm.weight", b"\x80\x7f", element=17)
    bias = change_value(folder, "layers.0.self_attn.q_proj.bias", b"\x01\xfc", element=3)
    status, report, _ = verify(folder)
    assert status == 1 and report["num_faults"] == 2
    assert any(norm in fault and "[17]" in fault for fault in report["faults"])
    assert any(bias in fault and "[3]" in fault for fault in report["faults"])


@pytest.mark.parametrize("group", [-1, 2, 2**31 - 1])
def test_a_g_idx_out_of_range_is_named(folder: Path, group: int) -> None:
    name = change_value(folder, "experts.2.gate_proj.g_idx", struct.pack("<i", group), element=40)
    status, report, _ = verify(folder)
    assert status == 1 and name in report["faults"][0] and f"got {group} at [40]" in report["faults"][0]


def test_a_block_that_was_never_written_is_named(folder: Path) -> None:
    name = change_value(folder, "experts.1.down_proj.qweight", bytes(4096), element=1)
    status, report, _ = verify(folder)
    assert status == 1 and name in report["faults"][0] and "from word 1024 on" in report["faults"][0]


def test_a_wrong_stored_shape_is_named(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = copy_checkpoint(make(format="ct_asym", **SMALL), tmp_path / "tiny")
    name = change_value(folder, "experts.1.down_proj.weight_shape", struct.pack("<q", 255))
    status, report, _ = verify(folder)
    assert status == 1 and any(name in fault and "255" in fault for fault in report["faults"])


def test_a_truncated_file_is_named(folder: Path) -> None:
    truncated("model-00002-of-00002.safetensors", 0.7)(folder)
    status, report, stderr = verify(folder)
    assert status == 1 and report["num_faults"] == 1 and "model-00002-of-00002.safetensors" in report["faults"][0]
    assert stderr == f"sheaf: {report['faults'][0]}\n"


def test_a_missing_expert_is_named_and_the_rest_is_read(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = copy_checkpoint(make(format="gptq", **SMALL), tmp_path / "tiny")
    unnamed("layers.2.mlp.experts.3.down_proj.qweight")(folder)
    status, report, _ = verify(folder)
    assert status == 1 and "layers.2.mlp.experts.3.down_proj" in report["faults"][0]
    assert report["bytes"] > 0 and report["values"]


def test_a_changed_byte_differs_from_its_listed_digest(folder: Path) -> None:
    write_sums(folder)
    status, report, _ = verify(folder)
    assert status == 0 and all(entry["listed"] == "same" for entry in report["files"])
    path = folder / "model-00001-of-00002.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    replace(path, bytes(content))
    status, report, _ = verify(folder)
    assert status == 1 and any(path.name in fault and "SHA256SUMS" in fault for fault in report["faults"])
    assert [entry["name"] for entry in report["files"] if entry["listed"] == "other"] == [path.name]


def test_a_listed_file_that_is_gone_and_a_bad_list_are_named(folder: Path) -> None:
    write_sums(folder)
    (folder / "generation_config.json").unlink()
    status, report, _ = verify(folder)
    assert status == 1 and any("generation_config.json" in fault for fault in report["faults"])
    text("SHA256SUMS", "0123  ../config.json\n")(folder)
    status, report, _ = verify(folder)
    assert status == 1 and any("SHA256SUMS: line 1" in fault for fault in report["faults"])


def test_the_whole_has_one_digest(folder: Path) -> None:
    _, report, _ = verify(folder)
    lines = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir()))
    assert report["sha256"] == hashlib.sha256(lines.encode()).hexdigest()


def test_the_text_says_how_fast_and_what_is_wrong(folder: Path) -> None:
    good = run_to_end("verify", str(folder))
    assert good.returncode == 0 and "GB/s" in good.stdout and "Nothing is wrong." in good.stdout
    name = change_value(folder, "experts.0.up_proj.scales", b"\x00\xfc")
    bad = run_to_end("verify", str(folder))
    assert bad.returncode == 1 and "Wrong:" in bad.stdout and name in bad.stdout
