"""--activation-bits 8: other answers than 16 bits give, near them, and the same bytes whoever computes them."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from answers import generate, logits
from logits import relative_error
from oracle_check import serve
from pool_harness import Pool
import sheaf_server
from sheaf_server import SheafServer, wait_for
from test_device_workers import FAKE, needs_fake

EIGHT = ("--activation-bits", "8")
ARCHITECTURES: dict[str, dict[str, Any]] = {"glm4_moe": {}, "glm_moe_dsa": {"layers": 4, "indexer_types": "FFSF"}}


def ask_all(server: SheafServer, prompts: list[list[int]]) -> list[dict[str, Any]]:
    return [generate(server, prompt, 16, **fields) for prompt in prompts
            for fields in ({}, {"temperature": 0.9, "top_p": 0.95, "seed": 7})]


@pytest.mark.parametrize("arch, format", [("glm4_moe", "autoround"), ("glm4_moe", "gptq_w8"), ("glm_moe_dsa", "autoround")])
def test_who_computes_does_not_show(make: Callable[..., Path], arch: str, format: str, seed: int) -> None:
    checkpoint = make(arch=arch, format=format, experts=21, **ARCHITECTURES[arch])
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, 500, size=int(rng.integers(1, 90))).tolist() for _ in range(4)]
    with SheafServer(checkpoint, "--workers", "0", "--threads", "1", *EIGHT) as server:
        wanted = ask_all(server, prompts)
    assert len({tuple(answer["ids"]) for answer in wanted}) > 4
    for flags in (["--workers", "0", "--threads", "2", "--max-num-batched-tokens", "7"],
                  ["--workers", "1"],
                  ["--workers", "3", "--expert-replicas", "2", "--verify-share", "0.2"],
                  ["--workers", "2", "--transport", "tcp"],
                  ["--workers", "3", "--transport", "inprocess"],
                  ["--workers", "1", "--tensor-parallel-size", "2", "--threads", "1"]):
        with SheafServer(checkpoint, *flags, *EIGHT) as server:
            assert ask_all(server, prompts) == wanted, flags
            if "--verify-share" in flags:
                assert server.metric("sheaf_verified_pairs_total", result="different") == 0
                assert server.metric("sheaf_verified_pairs_total", result="same") > 0


def test_logits_are_near_those_of_16_bits(nano: Path, seed: int) -> None:
    vocab = json.loads((nano / "config.json").read_text())["vocab_size"]
    prompt = [int(i) for i in np.random.default_rng(seed).integers(vocab, size=40)]
    rows = {}
    for bits in ("16", "8"):
        with serve(nano, "--kv-cache-dtype", "float32", "--activation-bits", bits) as server:
            rows[bits] = logits(server, prompt, vocab)
    errors = [relative_error(eight, sixteen) for eight, sixteen in zip(rows["8"], rows["16"])]
    print(f"relative error: median {np.median(errors):.2e}, largest {max(errors):.2e}")
    assert 1e-3 < np.median(errors) < 5e-2


@needs_fake
def test_a_gpu_refuses_the_router_by_name(nano: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Experts on a GPU take 16 bits alone: both logs say so, and a router that has nobody else is not ready."""
    monkeypatch.setattr(sheaf_server, "BINARY", str(FAKE))
    monkeypatch.setattr("pool_harness.BINARY", str(FAKE))
    pool = Pool(nano, workers=1, router_flags=list(EIGHT), worker_flags=["--device", "cuda:0"])
    try:
        for process in (*pool.routers, *pool.workers):
            process.start()
        router, worker = pool.routers[0], pool.workers[0]
        wait_for(lambda: "--activation-bits: this router has 8, the worker's device takes 16 alone" in router.log(), 60,
                 "said")
        wait_for(lambda: "--activation-bits: the router has 8, this worker's device takes 16 alone" in worker.log(), 20,
                 "said")
        assert not router.healthy()
    finally:
        pool.__exit__(None, None, None)
