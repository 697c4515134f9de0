"""What was computed for an earlier prompt is not computed again, and no answer shows it but by its usage."""
from __future__ import annotations

import concurrent.futures
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from answers import Answer, generate
from sheaf_grpc import Client, collect, pb, tokens_request
from sheaf_server import HttpError, SheafServer, run_to_end

TURNS = 4
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "glm4_moe": {},
    # Prompts are longer than the 16 positions that a token attends to; some layers have an indexer.
    "glm_moe_dsa": {"layers": 4, "indexer_types": "FFSF"},
}
CASES = [(arch, dtype) for arch in ARCHITECTURES for dtype in ("float32", "bfloat16", "fp8", "fp8_e5m2")
         if (arch, dtype) != ("glm_moe_dsa", "fp8_e5m2")]


def session(server: SheafServer, seed: int) -> tuple[list[Answer], int, int]:
    """An agent's conversation: each prompt is the last one, its answer and something new. Answers, prompt and cached tokens."""
    rng = np.random.default_rng(seed)
    prompt = rng.integers(0, 512, size=70).tolist()
    answers, tokens, cached = [], 0, 0
    for turn in range(TURNS):
        fields: dict[str, Any] = {"temperature": 0.9, "top_k": 50, "seed": turn} if turn % 2 else {}
        if turn == 2:
            fields["prompt_logprobs"] = 1
        answer = generate(server, prompt, 20, **fields)
        answers.append(answer)
        again = server.completion(prompt=prompt, max_tokens=2, temperature=0, ignore_eos=True)
        tokens += again["usage"]["prompt_tokens"]
        cached += again["usage"]["prompt_tokens_details"]["cached_tokens"]
        prompt = prompt + answer["ids"] + rng.integers(0, 512, size=30).tolist()
    return answers, tokens, cached


def sessions(server: SheafServer, seed: int) -> list[tuple[list[Answer], int, int]]:
    """Two different ones at once, and one of them twice."""
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        return list(pool.map(lambda s: session(server, s), [seed, seed + 1, seed]))


@pytest.mark.parametrize("arch,dtype", CASES)
def test_the_bytes_are_the_same_in_every_format(make: Callable[..., Path], seed: int, arch: str, dtype: str) -> None:
    checkpoint = make(arch=arch, format="autoround", experts=21, **ARCHITECTURES[arch])
    flags = ["--workers", "0", "--kv-cache-dtype", dtype, "--max-num-batched-tokens", "64"]
    with SheafServer(checkpoint, *flags, "--no-enable-prefix-caching") as server:
        wanted = sessions(server, seed)
        assert [cached for _, _, cached in wanted] == [0, 0, 0]
        assert server.metric("sheaf_prefix_cache_queries_total") == 0
    with SheafServer(checkpoint, *flags) as server:
        got = sessions(server, seed)
        assert [answers for answers, _, _ in got] == [answers for answers, _, _ in wanted]
        for _, tokens, cached in got:
            assert cached > 0.8 * (tokens - 16 * TURNS)
        assert 0 < server.metric("sheaf_prefix_cache_hits_total") < server.metric("sheaf_prefix_cache_queries_total")


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("where", ["memory", "file"])
def test_evicted_blocks_come_back(make: Callable[..., Path], tmp_path: Path, seed: int, arch: str, where: str) -> None:
    checkpoint = make(arch=arch, format="autoround", experts=21, **ARCHITECTURES[arch])
    with SheafServer(checkpoint, "--workers", "0", "--no-enable-prefix-caching") as server:
        wanted = [session(server, seed + i)[0] for i in range(4)]
    block = {"glm4_moe": 2 * 3 * (2 * 2 * 64), "glm_moe_dsa": 2 * (4 * (128 + 32) + 3 * 96)}[arch] * 16
    path = [] if where == "memory" else ["--kv-offload-path", str(tmp_path)]
    with SheafServer(checkpoint, "--workers", "0", "--max-model-len", "320", "--kv-cache-memory-bytes", str(24 * block),
                     "--kv-offload-bytes", "8MiB", *path) as server:
        assert list(tmp_path.iterdir()) == [], "the file has no name"
        for _ in range(2):
            assert [session(server, seed + i)[0] for i in range(4)] == wanted
        assert server.metric("sheaf_kv_offload_loaded_blocks_total") > 0
        assert server.metric("sheaf_kv_offload_failed_blocks_total") == 0
        assert server.metric("sheaf_kv_offload_blocks") > 0


def test_an_offload_directory_that_is_none_is_refused(tiny: Path) -> None:
    ended = run_to_end("serve", str(tiny), "--port", "0", "--grpc-port", "0", "--workers", "0", "--kv-offload-bytes", "8MiB",
                       "--kv-offload-path", "/nowhere/at/all")
    assert ended.returncode != 0
    assert "/nowhere/at/all" in ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def server(tiny: Path) -> Any:
    with SheafServer(tiny, "--workers", "0") as running:
        yield running


def usage_of(body: dict[str, Any]) -> tuple[int, int]:
    return body["usage"]["prompt_tokens"], body["usage"]["prompt_tokens_details"]["cached_tokens"]


@pytest.fixture
def prompt(seed: int, request: pytest.FixtureRequest) -> list[int]:
    """Of 100 tokens, another one for each test."""
    return np.random.default_rng([seed, *request.node.name.encode()]).integers(0, 512, size=100).tolist()


def test_usage_of_completions(server: SheafServer, prompt: list[int]) -> None:
    ask = {"prompt": prompt, "max_tokens": 3, "ignore_eos": True}
    assert usage_of(server.completion(**ask)) == (100, 0)
    assert usage_of(server.completion(**ask)) == (100, 96)
    assert usage_of(server.completion(**{**ask, "prompt": [prompt, prompt[:50] + prompt[:50]]})) == (200, 96 + 48)
    last = list(server.events("/v1/completions", **ask, stream_options={"include_usage": True}))[-1]
    assert usage_of(last) == (100, 96)
    chunks = list(server.events("/v1/completions", **ask,
                                stream_options={"include_usage": True, "continuous_usage_stats": True}))
    assert "prompt_tokens_details" not in chunks[0]["usage"], "not known yet"
    assert usage_of(chunks[-1]) == (100, 96)


def test_choices_read_what_the_first_computed(server: SheafServer, prompt: list[int]) -> None:
    before = server.metric("sheaf_prompt_tokens_total"), server.metric("sheaf_prefix_cache_hits_total")
    body = server.completion(prompt=prompt, max_tokens=1, n=5, temperature=1.0, ignore_eos=True)
    assert usage_of(body) == (100, 0), "a prompt counts once"
    # Of the last block's 4 tokens each choice computes its own.
    assert server.metric("sheaf_prompt_tokens_total") - before[0] == 100 + 4 * 4
    assert server.metric("sheaf_prefix_cache_hits_total") - before[1] == 4 * 96


def test_usage_of_chats(server: SheafServer, seed: int) -> None:
    ask = {"messages": [{"role": "user", "content": f"{seed}: " + "what is the weather like? " * 10}], "max_tokens": 3}
    tokens, cached = usage_of(server.chat(**ask))
    assert cached == 0
    expected = (tokens, (tokens - 1) // 16 * 16)
    assert usage_of(server.chat(**ask)) == expected
    last = list(server.events("/v1/chat/completions", **ask, stream_options={"include_usage": True}))[-1]
    assert usage_of(last) == expected


def test_usage_and_reset_over_grpc(server: SheafServer, prompt: list[int]) -> None:
    client = Client(server.grpc)

    def cached() -> int:
        return collect(client.generate(tokens_request(prompt, 3)))[2].usage.cached_tokens

    assert [cached(), cached()] == [0, 96]
    client.unary("ResetPrefixCache", pb.ResetPrefixCacheRequest(), pb.ResetPrefixCacheResponse)
    assert [cached(), cached()] == [0, 96]
    client.close()


def test_reset(server: SheafServer, prompt: list[int]) -> None:
    ask = {"prompt": prompt, "max_tokens": 3}
    server.completion(**ask)
    assert usage_of(server.completion(**ask)) == (100, 96)
    assert server.metric("sheaf_prefix_cache_blocks") >= 6
    assert server.request("POST", "/reset_prefix_cache") == ""
    assert usage_of(server.completion(**ask)) == (100, 0)
    with pytest.raises(HttpError) as refused:
        server.get("/reset_prefix_cache")
    assert refused.value.status == 405
