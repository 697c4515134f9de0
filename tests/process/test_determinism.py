"""The same request gives the same bytes whatever the cluster's shape and whoever else is served."""
from __future__ import annotations

import concurrent.futures
import os
import signal
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from answers import Answer, generate
from sheaf_server import SheafServer, wait_for

VOCAB = 600
MAX_TOKENS = 24


@pytest.fixture(scope="module")
def prompts(seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 512, size=int(rng.integers(1, 90))).tolist() for _ in range(4)]


# A model of each architecture, and the bytes that a token of it takes in a bf16 cache.
ARCHITECTURES = {
    "glm4_moe": ({}, 2 * 3 * (2 * 2 * 64)),
    # Prompts are longer than the 16 positions that a token attends to.
    "glm_moe_dsa": ({"layers": 4, "indexer_types": "FFSF"}, 2 * (4 * (128 + 32) + 3 * 96)),
}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def checkpoint(make: Callable[..., Path], architecture: str) -> Path:
    return make(arch=architecture, format="autoround", experts=21, **ARCHITECTURES[architecture][0])


def ask_all(server: SheafServer, prompts: list[list[int]]) -> list[Answer]:
    """Greedy and seeded answers to each prompt, one at a time."""
    return [generate(server, prompt, MAX_TOKENS, **fields) for prompt in prompts
            for fields in ({}, {"temperature": 0.9, "top_p": 0.95, "top_k": 50, "seed": 7})]


@pytest.fixture(scope="module")
def wanted(checkpoint: Path, prompts: list[list[int]]) -> list[Answer]:
    with SheafServer(checkpoint, "--workers", "0", "--threads", "1") as server:
        return ask_all(server, prompts)


def test_answers_are_lively(wanted: list[Answer]) -> None:
    """Otherwise equality would say little."""
    assert len({tuple(answer["ids"]) for answer in wanted}) == len(wanted)
    assert max(len(set(answer["ids"])) for answer in wanted) > 4


@pytest.mark.parametrize("flags", [
    ["--workers", "0", "--threads", "2"],
    ["--workers", "1"],
    ["--workers", "2", "--threads", "1", "--worker-threads", "2"],
    ["--workers", "3"],
    ["--workers", "5", "--worker-threads", "1"],
    ["--workers", "3", "--transport", "inprocess"],
    ["--workers", "2", "--transport", "tcp"],
    ["--workers", "2", "--exchange-wait", "spin"],
    ["--workers", "2", "--worker-threads", "1", "--exchange-wait", "yield"],
    ["--workers", "1", "--exchange-wait", "sleep"],
    ["--workers", "3", "--expert-replicas", "2"],
    ["--workers", "3", "--expert-replicas", "1.5", "--verify-share", "0.05"],
    ["--workers", "3", "--expert-replicas", "3", "--late-floor-ms", "1"],
    ["--workers", "0", "--max-num-batched-tokens", "1"],
    ["--workers", "2", "--max-num-batched-tokens", "7"],
    ["--workers", "0", "--max-num-batched-tokens", "64"],
    ["--workers", "0", "--block-size", "1"],
    ["--workers", "0", "--block-size", "48"],
    ["--workers", "0", "--cpu-target", "avx2"],
    ["--workers", "2", "--cpu-target", "avx512"],
    ["--workers", "0", "--cpu-target", "avx512_vnni"],
    ["--workers", "0", "--cpu-target", "scalar"],
], ids=" ".join)
def test_the_cluster_shape_does_not_show(checkpoint: Path, prompts: list[list[int]], wanted: list[Answer],
                                         flags: list[str]) -> None:
    if "--cpu-target" in flags and not machine_has(flags[-1]):
        pytest.skip(f"this machine has no {flags[-1]}")
    with SheafServer(checkpoint, *flags) as server:
        assert ask_all(server, prompts) == wanted


def machine_has(target: str) -> bool:
    flags = Path("/proc/cpuinfo").read_text().split()
    needs = {"avx2": "avx2", "avx512": "avx512bw", "avx512_vnni": "avx512_vnni"}
    return target not in needs or needs[target] in flags


def crowd(server: SheafServer, prompts: list[list[int]], seed: int) -> list[Answer]:
    """The same questions among 31 others at once."""
    rng = np.random.default_rng(seed + 1)
    noise = [rng.integers(0, 512, size=int(rng.integers(1, 60))).tolist() for _ in range(31)]
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        others = [pool.submit(generate, server, ids, 40, temperature=1.0, seed=i) for i, ids in enumerate(noise)]
        mine = [pool.submit(generate, server, prompt, MAX_TOKENS, **fields) for prompt in prompts
                for fields in ({}, {"temperature": 0.9, "top_p": 0.95, "top_k": 50, "seed": 7})]
        for other in others:
            assert len(other.result()["ids"]) == 40
        return [answer.result() for answer in mine]


def test_neighbours_do_not_show(checkpoint: Path, prompts: list[list[int]], wanted: list[Answer], seed: int) -> None:
    with SheafServer(checkpoint, "--workers", "2") as server:
        assert crowd(server, prompts, seed) == wanted


def test_preemption_does_not_show(checkpoint: Path, architecture: str, prompts: list[list[int]],
                                  wanted: list[Answer], seed: int) -> None:
    block_bytes = 16 * ARCHITECTURES[architecture][1]  # 60 of them hold about 12 sequences
    with SheafServer(checkpoint, "--workers", "0", "--max-model-len", "256",
                     "--kv-cache-memory-bytes", str(60 * block_bytes)) as server:
        for _ in range(10):  # whether they meet is the machine's matter
            assert crowd(server, prompts, seed) == wanted
            if server.metric("sheaf_preemptions_total") > 0:
                break
        assert server.metric("sheaf_preemptions_total") > 0


def test_a_worker_restart_does_not_show(checkpoint: Path, prompts: list[list[int]], wanted: list[Answer]) -> None:
    with SheafServer(checkpoint, "--workers", "2") as server:
        assert ask_all(server, prompts) == wanted
        before = server.worker_pids()
        os.kill(before[1], signal.SIGKILL)
        wait_for(lambda: server.worker_pids() != before and server.healthy(), 30, "worker replaced")
        assert ask_all(server, prompts) == wanted
