"""`sheaf inspect` of the published checkpoints at their full size, whose files are headers and holes."""
from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

import make_header_checkpoint
from sheaf_server import run_to_end

FOLDERS: dict[str, Path] = {}  # by name, once inspected
MAX_CPU_SECONDS = 20.0  # of one inspect: about a second in a release build, several times that under a sanitizer

# By checkpoint: gigabytes, files, and of each part that has Linears (format, bits, how many Linears).
WANTED: dict[str, tuple[float, int, dict[str, tuple[str, int, int]]]] = {
    "a": (142.5, 27, {"attention": ("gptq", 4, 92 * 4), "dense MLP": ("gptq", 4, 9), "shared experts": ("gptq", 4, 89 * 3),
                      "routed experts": ("gptq", 4, 89 * 120 * 3), "lm_head": ("bf16", 16, 1)}),
    "b": (118.9, 23, {"attention": ("gptq", 4, 92 * 4), "dense MLP": ("gptq", 4, 9), "shared experts": ("bf16", 16, 89 * 3),
                      "routed experts": ("gptq", 4, 89 * 96 * 3), "lm_head": ("bf16", 16, 1)}),
    "c": (297.2, 56, {"attention": ("gptq", 4, 78 * 5), "dense MLP": ("bf16", 16, 9), "shared experts": ("gptq", 4, 75 * 3),
                      "routed experts": ("gptq", 4, 75 * 192 * 3), "lm_head": ("bf16", 16, 1)}),
    "d": (188.9, 36, {"routed experts": ("pack-quantized", 4, 89 * 160 * 3), "dense MLP": ("bf16", 16, 9),
                      "shared experts": ("bf16", 16, 89 * 3), "lm_head": ("bf16", 16, 1)}),
}


@pytest.fixture(scope="module", params=sorted(WANTED))
def inspected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """(the checkpoint's letter, the report)."""
    folder = tmp_path_factory.mktemp("headers") / request.param
    make_header_checkpoint.make_header_checkpoint(folder, make_header_checkpoint.PUBLISHED[request.param])
    on_disk = sum(file.stat().st_blocks * 512 for file in folder.iterdir())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    FOLDERS[request.param] = folder
    done = run_to_end("inspect", str(folder), "--workers", "4", "--json", timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(f"{request.param}: {report['bytes'] / 1e9:.2f} GB in {report['tensors']} tensors inspected in {seconds:.2f} s of CPU "
          f"time, {on_disk / 1e6:.0f} MB on disk")
    assert seconds < MAX_CPU_SECONDS
    return request.param, report


def groups(report: dict[str, Any], part: str) -> dict[tuple[str, int], int]:
    found: dict[tuple[str, int], int] = {}
    for group in report["groups"]:
        if group["part"] == part:
            key = group["format"], group["bits"]
            found[key] = found.get(key, 0) + group["modules"]
    return found


def test_the_totals_are_those_of_the_cards(inspected: tuple[str, dict[str, Any]]) -> None:
    name, report = inspected
    gigabytes, files, _ = WANTED[name]
    assert (round(report["bytes"] / 1e9, 1), report["shards"]) == (gigabytes, files)
    # kv_b_proj of latent attention is kept taken apart, which is counted by itself.
    kept = sum(process["bytes"] for process in report["processes"])
    assert kept == report["bytes"] if name != "c" else 0 < kept < report["bytes"]


def test_every_part_is_in_its_format(inspected: tuple[str, dict[str, Any]]) -> None:
    name, report = inspected
    for part, (format_name, bits, modules) in WANTED[name][2].items():
        assert groups(report, part) == {(format_name, bits): modules}, part
    assert not groups(report, "other") and not groups(report, "MTP")
    if name == "c":
        four_bit = sum(group["modules"] for group in report["groups"] if group["bits"] == 4)
        assert four_bit == 43_971  # the card's
        assert groups(report, "indexer")[("gptq", 4)] == 78 * 2
    if name == "d":
        assert groups(report, "attention") == {("pack-quantized", 4): 89 * 4, ("bf16", 16): 3 * 4}


def test_it_can_be_served_and_the_config_disagrees_where_it_does_in_the_repository(inspected: tuple[str, dict[str, Any]]) -> None:
    name, report = inspected
    assert report["servable"] and report["refusal"] is None
    said = " ".join(report["disagreements"])
    assert "MTP" in said or "num_nextn_predict_layers" in said, said  # configs announce a layer that was pruned away
    assert ("float16" in said) == (name == "c"), said


def test_an_int8_head_takes_half_of_its_bytes(inspected: tuple[str, dict[str, Any]]) -> None:
    name, report = inspected
    done = run_to_end("inspect", str(FOLDERS[name]), "--workers", "4", "--json", "--lm-head-dtype", "int8",
                      "--tensor-parallel-size", "2", timeout=300)
    assert done.returncode == 0, done.stderr
    after = json.loads(done.stdout)
    stored = sum(group["bytes"] for group in report["groups"] if group["part"] == "lm_head")
    saved = report["processes"][0]["bytes"] - after["processes"][0]["bytes"]
    assert saved * 256 == stored * (256 - 132)  # a group of 128: its bf16 against its codes and a scale
    assert after["groups"] == report["groups"] and after["processes"][1:] == report["processes"][1:]
    before = json.loads(run_to_end("inspect", str(FOLDERS[name]), "--workers", "4", "--json", "--tensor-parallel-size", "2",
                                   timeout=300).stdout)
    for rank, other in zip(after["attention_ranks"], before["attention_ranks"]):
        assert other["weight_bytes"] - rank["weight_bytes"] == saved // 2


# The machines that the cards name: ranks and workers, tokens, dtype of the cache, memory of each device in bytes.
MACHINES = {"a": (8, 202_752, "fp8_e5m2", 24 << 30), "d": (4, 32_768, "fp8_e4m3", 48 << 30),
            "c": (4, 65_536, "fp8_e4m3", 80 << 30)}


def test_ranks_fit_the_machines_of_the_cards(inspected: tuple[str, dict[str, Any]]) -> None:
    name, alone = inspected
    if name not in MACHINES:
        pytest.skip("its card names no machine of this kind")
    count, tokens, dtype, device = MACHINES[name]
    weights = alone["bytes"] / count
    asked = ("inspect", str(FOLDERS[name]), "--json", "--workers", str(count), "--tensor-parallel-size", str(count),
             "--max-model-len", str(tokens), "--kv-cache-dtype", dtype, "--device-memory", str(device))
    done = run_to_end(*asked, timeout=300)
    assert done.returncode == 0, done.stderr
    ranks = json.loads(done.stdout)["attention_ranks"]
    assert len(ranks) == count
    for rank in ranks:
        kept = rank["weight_bytes"] + rank["expert_bytes"]
        assert abs(kept - weights) < 0.06 * weights, (name, kept)
        assert rank["bytes"] == kept + rank["kv_cache_bytes"] + rank["scratch_bytes"]
        assert rank["fits"] == (rank["bytes"] <= device)
    together = sum(rank["weight_bytes"] for rank in ranks)
    router = alone["processes"][0]["bytes"] + alone["processes"][0]["absorbed_bytes"]
    # Norms are on each.
    assert router <= together < 1.03 * router
    one = json.loads(run_to_end(*asked[:3], "--tensor-parallel-size", "1", *asked[7:], timeout=300).stdout)["attention_ranks"][0]
    assert sum(rank["kv_cache_bytes"] for rank in ranks) == one["kv_cache_bytes"]
    assert max(rank["kv_cache_bytes"] for rank in ranks) * count <= 1.03 * one["kv_cache_bytes"]
    if name == "a":
        assert all(rank["fits"] for rank in ranks)
        assert {rank["kv_cache_bytes"] for rank in ranks} == {tokens * 92 * 2 * 128}  # a key/value head each
    if name == "c":
        whole = json.loads(run_to_end(*asked, "--latent-cache", "whole", timeout=300).stdout)["attention_ranks"][0]
        latents = tokens * 78 * 656  # vLLM's fp8 record; index keys stay shared
        assert whole["kv_cache_bytes"] == latents + (one["kv_cache_bytes"] - latents) / count
    text = run_to_end(*[word for word in asked if word != "--json"], timeout=300).stdout
    assert "Memory of each attention rank" in text and ("It fits" in text or "It does not fit" in text)
