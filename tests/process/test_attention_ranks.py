"""Attention shared by several processes: the same bytes, whatever becomes of them, and one clear line where they do
not fit together."""
from __future__ import annotations

import concurrent.futures
import contextlib
import importlib
import os
import signal
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import grpc
import numpy as np
import pytest

from answers import Answer, generate
from pool_client import pool_pb
from pool_harness import free_port
from pool_network import Namespaces, why_not
from sheaf_server import SheafServer, wait_for
from tls_harness import Process

ranks_pb: Any = importlib.import_module("sheaf.v1.ranks_pb2")
ARCHITECTURES = {"glm4_moe": {}, "glm_moe_dsa": {"layers": 4, "indexer_types": "FFSF"}}
FEW_CORES = ("--threads", "1", "--worker-threads", "1")


class RankedServer(SheafServer):
    def __init__(self, checkpoint: Path, ranks: int, *flags: str) -> None:
        super().__init__(checkpoint, "--tensor-parallel-size", str(ranks), *FEW_CORES, *flags)

    def rank_pids(self) -> list[int]:
        return [rank["pid"] for rank in self.ready.get("attention_ranks", [])]  # none while none is alive


def ask_all(server: SheafServer, prompts: list[list[int]], tokens: int) -> list[Answer]:
    """Greedy and seeded answers, all at once."""
    fields = [{}, {"temperature": 0.9, "top_p": 0.95, "seed": 7}]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda job: generate(server, job[0], tokens, **job[1]),
                             [(prompt, extra) for prompt in prompts for extra in fields]))


def some_prompts(seed: int, count: int, longest: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 500, size=int(rng.integers(1, longest))).tolist() for _ in range(count)]


def scores(server: SheafServer, prompts: list[list[int]]) -> list[float]:
    """Log-probabilities of each prompt's likeliest next token."""
    return [server.completion(prompt=prompt, max_tokens=1, temperature=0, logprobs=1)["choices"][0]["logprobs"]
            ["token_logprobs"][0] for prompt in prompts]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_number_of_ranks_does_not_show(make: Callable[..., Path], arch: str, seed: int) -> None:
    checkpoint = make(arch=arch, format="autoround", experts=21, heads=8, **ARCHITECTURES[arch])
    prompts = some_prompts(seed, 4, 90)
    flags = ["--workers", "2", "--max-num-batched-tokens", "64"]
    with SheafServer(checkpoint, *FEW_CORES, *flags) as server:
        wanted = ask_all(server, prompts, 16)
    assert len({tuple(answer["ids"]) for answer in wanted}) > 4
    for ranks, more in [(2, []), (3, ["--transport", "tcp"]), (4, ["--latent-cache", "whole"]), (8, [])]:
        with RankedServer(checkpoint, ranks, *flags, *more) as server:
            assert len(server.rank_pids()) == ranks - 1
            assert ask_all(server, prompts, 16) == wanted, ranks
            assert ask_all(server, prompts, 16) == wanted, "from the prefix cache"


def test_an_int8_head_has_the_same_bytes_on_every_rank_and_thread(nano: Path, seed: int) -> None:
    prompts = some_prompts(seed, 4, 60)
    flags = ["--workers", "1", "--lm-head-dtype", "int8"]
    with SheafServer(nano, "--workers", "1", *FEW_CORES) as server:
        stored = scores(server, prompts)
    with SheafServer(nano, "--threads", "3", "--worker-threads", "1", *flags) as server:
        wanted = ask_all(server, prompts, 40)
        wanted_scores = scores(server, prompts)
    assert wanted_scores != stored  # the head is another
    assert max(abs(a - b) for a, b in zip(wanted_scores, stored)) < 0.2
    for ranks in (1, 2, 3):
        with RankedServer(nano, ranks, *flags) as server:
            assert ask_all(server, prompts, 40) == wanted, ranks
            assert scores(server, prompts) == wanted_scores, ranks


def test_drafts_and_guides_do_not_show(nano: Path) -> None:
    fields: dict[str, Any] = {"messages": [{"role": "user", "content": "Name a capital, as JSON."}], "max_tokens": 60,
                              "temperature": 0, "response_format": {"type": "json_object"}}
    drafts = ["--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}']
    repeated = list(range(40, 60)) * 4
    answers = []
    for server in (SheafServer(nano, "--workers", "1", *FEW_CORES), RankedServer(nano, 2, "--workers", "1", *drafts)):
        with server:
            chat = server.request("POST", "/v1/chat/completions", {"model": "sheaf-nano-120", **fields})
            answers.append((chat["choices"][0]["message"]["content"], generate(server, repeated, 40)))
    assert answers[0] == answers[1]


def test_a_lost_rank_fails_nobody(nano: Path, seed: int) -> None:
    prompts = some_prompts(seed, 8, 60)
    with RankedServer(nano, 3, "--workers", "2", "--attention-timeout-ms", "1500") as server:
        wanted = ask_all(server, prompts, 150)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP):
                before = server.rank_pids()
                running = pool.submit(ask_all, server, prompts, 150)
                wait_for(lambda: server.metric("sheaf_requests_running") > 0 or running.done(), 30, "a step")
                os.kill(before[number == signal.SIGSTOP], number)
                assert running.result() == wanted
                wait_for(lambda: len(server.rank_pids()) == 2 and server.rank_pids() != before, 30, "a new rank")
        assert "attention rank 1" in server.log() and "attention rank 2" in server.log()


@contextlib.contextmanager
def router(tmp_path: Path, checkpoint: Path, ranks: int, *flags: str,
           host: str = "127.0.0.1") -> Iterator[tuple[Process, str, SheafServer]]:
    """`sheaf router` without workers: (it, where ranks join, how to ask it)."""
    http, attention = free_port(), free_port()
    process = Process(tmp_path, "router", "router", str(checkpoint), "--workers", "0", "--port", str(http),
                      "--grpc-port", "0", "--attention-port", str(attention), "--tensor-parallel-size", str(ranks),
                      "--transport", "tcp", "--cluster-host", host, *FEW_CORES, *flags)
    asked = SheafServer(checkpoint)
    asked.ready_path.write_text(f'{{"http": "127.0.0.1:{http}", "workers": []}}')
    try:
        wait_for(lambda: "join at" in process.log(), 60, "the router's attention port")
        yield process, f"{host}:{attention}", asked
    finally:
        process.stop()


def rank(tmp_path: Path, checkpoint: Path, address: str, number: int, name: str, *flags: str,
         prefix: Sequence[str] = ()) -> Process:
    return Process(tmp_path, name, "attention", str(checkpoint), "--router", address, "--rank", str(number), "--threads",
                   "1", "--transport", "tcp", *flags, prefix=prefix)


def ended(process: Process) -> str:
    assert wait_for(lambda: process.process.poll() is not None or None, 60, "the refused rank's end")
    assert process.process.returncode != 0
    return process.log().strip().splitlines()[-1]


def test_ranks_of_other_commands_join_late_and_again(tmp_path: Path, nano: Path, seed: int) -> None:
    prompts = some_prompts(seed, 3, 40)
    with SheafServer(nano, "--workers", "0", *FEW_CORES) as server:
        wanted = ask_all(server, prompts, 30)
    with router(tmp_path, nano, 2) as (process, address, asked), concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = rank(tmp_path, nano, address, 1, "first")
        try:
            wait_for(lambda: asked.healthy(), 60, "the group")
            assert ask_all(asked, prompts, 30) == wanted
            assert "127.0.0.1" in process.log() and "linked by tcp" in process.log()
            first.stop()
            wait_for(lambda: not asked.healthy(), 30, "that the rank is missed")
            waiting = pool.submit(ask_all, asked, prompts, 30)
            wait_for(lambda: asked.metric("sheaf_requests_queued") + asked.metric("sheaf_requests_running") > 0, 30,
                     "requests that wait")
            first = rank(tmp_path, nano, address, 1, "again")
            assert waiting.result() == wanted
        finally:
            first.stop()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_rank_of_another_network_is_given_up_and_comes_back(tmp_path: Path, nano: Path, seed: int) -> None:
    prompts = some_prompts(seed, 3, 40)
    with SheafServer(nano, "--workers", "0", *FEW_CORES) as server:
        wanted = ask_all(server, prompts, 60)
    with Namespaces(1) as network, network.entered(), \
            router(tmp_path, nano, 2, "--attention-timeout-ms", "500", host=network.hub_address) as (process, address, asked), \
            concurrent.futures.ThreadPoolExecutor(1) as pool:
        there = rank(tmp_path, nano, address, 1, "there", prefix=network.within(0))
        try:
            wait_for(lambda: asked.healthy(), 60, "the group")
            assert network.addresses[0] in process.log()
            assert ask_all(asked, prompts, 60) == wanted
            for fault in (network.black_hole, network.mute):
                running = pool.submit(ask_all, asked, prompts, 60)
                wait_for(lambda: asked.metric("sheaf_requests_running") > 0 or running.done(), 30, "a step")
                fault(0)
                wait_for(lambda: not asked.healthy() or running.done(), 60, "that the rank is missed")
                network.heal(0)
                assert running.result() == wanted
                wait_for(lambda: asked.healthy(), 60, "the group again")
                assert ask_all(asked, prompts, 60) == wanted
        finally:
            there.stop()


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, nano: Path, make: Callable[..., Path]) -> None:
    other = make(format="gptq", experts=21)
    token = tmp_path / "token"
    token.write_text("sesame")
    with router(tmp_path, nano, 2, "--cluster-token-file", str(token)) as (process, address, asked):
        good = rank(tmp_path, nano, address, 1, "good", "--cluster-token-file", str(token))
        try:
            wait_for(lambda: asked.healthy(), 60, "the group")
            line = ended(rank(tmp_path, nano, address, 1, "stranger"))
            assert "token" in line, line
            line = ended(rank(tmp_path, nano, address, 5, "fifth", "--cluster-token-file", str(token)))
            assert "wanted 1 to 1 (rank 0 is the router), got 5" in line, line
            line = ended(rank(tmp_path, other, address, 1, "other", "--cluster-token-file", str(token)))
            assert str(other.name) in line and "sheaf-nano-120" in line, line
            second = rank(tmp_path, nano, address, 1, "second", "--cluster-token-file", str(token))
            wait_for(lambda: "came too" in second.log(), 60, "that the place is taken")
            second.stop()
            assert f"attention rank 1 is pid {good.process.pid}" in second.log()
            assert f"pid {second.process.pid} on " in process.log()
            # Of a release whose ranks put other things together.
            older = ranks_pb.JoinRankRequest(rank=1, gathers=1, hello=pool_pb.RouterHello(pid=77, host="elsewhere"))
            with pytest.raises(grpc.RpcError) as refused, grpc.insecure_channel(address) as channel:
                next(channel.unary_stream("/sheaf.v1.AttentionRanks/Join", request_serializer=type(older).SerializeToString,
                                          response_deserializer=ranks_pb.JoinRankResponse.FromString)(older, timeout=10))
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "gathers by version 3, the rank's (pid 77 on elsewhere) by 1" in refused.value.details()
            assert asked.healthy()
        finally:
            good.stop()


class ForeignRouter:
    """Takes any rank, and tells it a dtype of lm_head that no release here knows."""

    def __init__(self, dtype: str) -> None:
        answer = ranks_pb.JoinRankResponse(num_ranks=2, lm_head_dtype=dtype, kv_cache_dtype="bfloat16", block_size=16,
                                           num_blocks=64, max_batched_tokens=64, max_model_len=64, router_instance=1,
                                           link_key=bytes(32), addresses=["127.0.0.1:1"])
        handler = grpc.unary_stream_rpc_method_handler(lambda request, context: iter([answer]),
                                                       request_deserializer=ranks_pb.JoinRankRequest.FromString,
                                                       response_serializer=ranks_pb.JoinRankResponse.SerializeToString)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("sheaf.v1.AttentionRanks",
                                                                                   {"Join": handler}),))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()


@pytest.mark.parametrize("dtype", ["int4", ""])
def test_a_head_of_another_dtype_is_refused_by_name(tmp_path: Path, nano: Path, dtype: str) -> None:
    foreign = ForeignRouter(dtype)
    try:
        line = ended(rank(tmp_path, nano, foreign.address, 1, "rank"))
        assert f'--lm-head-dtype of the router: wanted auto or int8, got "{dtype}"' in line, line
    finally:
        foreign.server.stop(None)


def test_more_ranks_than_the_model_has_parts(nano: Path, tmp_path: Path) -> None:
    process = Process(tmp_path, "serve", "serve", str(nano), "--port", "0", "--grpc-port", "0", "--cluster-port", "0",
                      "--tensor-parallel-size", "500")
    line = ended(process)
    assert "500 ranks: the model has" in line, line


def test_blocks_too_small_for_the_ranks(make: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = make(arch="glm_moe_dsa", format="gptq", experts=21, heads=8, **ARCHITECTURES["glm_moe_dsa"])
    for command in (["serve"], ["router", "--workers", "1"]):
        process = Process(tmp_path, command[0], command[0], str(checkpoint), *command[1:], "--port", "0", "--grpc-port", "0",
                          "--cluster-port", "0", "--tensor-parallel-size", "3", "--block-size", "2")
        line = ended(process)
        assert "wanted a block size of at least 3 tokens, got 2" in line, line
