"""What becomes of a checkpoint's files once it is served, and the directories that publishers write."""
from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any, Callable

import pytest

from answers import generate
from sheaf_server import SheafServer, run_to_end

PROMPT = list(range(3, 43))  # enough tokens that every expert is routed to


def copy_of(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)


def replace(path: Path) -> None:
    path.with_suffix(".new").write_bytes(b"\xff" * path.stat().st_size)
    path.with_suffix(".new").rename(path)


def delete(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, overwrite, replace, delete])
@pytest.mark.parametrize("options", [
    {"format": "gptq", "experts": 21}, {"format": "bf16", "fused_experts": True},
    {"arch": "glm_moe_dsa", "format": "gptq"},
], ids=["gptq", "bf16_fused", "latent"])
def test_files_damaged_while_served_change_no_byte(make: Callable[..., Path], tmp_path: Path,
                                                   options: dict[str, Any], damage: Callable[[Path], None]) -> None:
    folder = copy_of(make(shards=3, **options), tmp_path)
    with SheafServer(folder, "--workers", "2") as server:
        before, workers = generate(server, PROMPT, 4), server.worker_pids()
        for path in folder.glob("*.safetensors"):
            damage(path)
        assert generate(server, PROMPT, 4) == before
        assert server.worker_pids() == workers and server.healthy()


def test_a_published_directory_without_an_index_is_served(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = copy_of(make(format="gptq", experts=21, shards=3), tmp_path)
    (folder / "model.safetensors.index.json").unlink()
    shards = sorted(folder.glob("*.safetensors"))
    for number, path in enumerate(shards, 1):
        path.rename(folder / f"gptq_model-4bit-128g-{number:05d}-of-{len(shards):05d}.safetensors")
    (folder / "quant_log.csv").write_text("layer,loss\n")
    with SheafServer(folder, "--workers", "1") as server:
        assert len(generate(server, PROMPT, 2)["ids"]) == 2
    (folder / "gptq_model-4bit-128g-00002-of-00003.safetensors").unlink()
    for command in ("inspect", "serve"):
        result = run_to_end(command, str(folder))
        assert result.returncode == 1
        assert "gptq_model-4bit-128g-00002-of-00003.safetensors: missing shard" in result.stdout + result.stderr


def test_an_index_that_names_absent_mtp_files_is_served_with_a_remark(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = copy_of(make(format="gptq", experts=21, shards=2), tmp_path)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.layers.3.eh_proj.weight"] = "mtp.safetensors"
    path.write_text(json.dumps(index))
    result = run_to_end("inspect", str(folder))
    assert result.returncode == 0 and "mtp.safetensors" in result.stdout
    with SheafServer(folder, "--workers", "1") as server:
        assert len(generate(server, PROMPT, 2)["ids"]) == 2
    index["weight_map"]["model.layers.1.eh_proj.weight"] = "extra.safetensors"
    path.write_text(json.dumps(index))
    result = run_to_end("serve", str(folder), "--workers", "1", "--port", "0", "--grpc-port", "0")
    assert result.returncode == 1
    assert "extra.safetensors: missing shard" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("name, value", [("experts.20.down_proj.weight", 0x7FC0), ("layers.2.mlp.gate.weight", 0xFF80)])
def test_a_plain_weight_that_is_not_finite_is_named_with_its_place(make: Callable[..., Path], tmp_path: Path, name: str,
                                                                   value: int) -> None:
    folder = copy_of(make(format="bf16", experts=21), tmp_path)
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", raw[:8])
    tensors = json.loads(raw[8:8 + length])
    full = next(n for n in tensors if n.endswith(name))
    columns = tensors[full]["shape"][1]
    struct.pack_into("<H", raw, 8 + length + tensors[full]["data_offsets"][0] + 2 * (5 * columns + 7), value)
    path.write_bytes(bytes(raw))
    result = run_to_end("serve", str(folder), "--workers", "2", "--port", "0", "--grpc-port", "0")
    assert result.returncode == 1
    line = next(line for line in result.stderr.splitlines() if line.startswith("sheaf: "))
    assert all(part in line for part in (str(path), full, "row 5, column 7")), line
