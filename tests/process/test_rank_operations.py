"""What operators see of attention ranks: figures and probes of the router and of a rank's own process, and a rank back at
once however often it is killed."""
from __future__ import annotations

import concurrent.futures
import json
import os
import re
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pool_client import metric, samples
from sheaf_server import HttpError, wait_for
from test_attention_ranks import FEW_CORES, RankedServer, SheafServer, ask_all, ended, rank, router, some_prompts
from tls_harness import Process

CAUSES = {"closed", "late", "nonsense", "forged", "other"}


def lost(server: SheafServer) -> dict[str, float]:
    """By cause; those of other than none."""
    return {cause: count for cause in CAUSES if (count := server.metric("sheaf_attention_ranks_lost_total", cause=cause))}


def metrics_address(log: str, number: int) -> str:
    return re.findall(rf"attention rank {number}: metrics on (\S+)", log)[-1]


def probe(address: str, path: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_single_rank_has_the_figures_and_they_say_nothing(nano: Path, seed: int) -> None:
    with SheafServer(nano, "--workers", "0", *FEW_CORES) as server:
        ask_all(server, some_prompts(seed, 1, 20), 4)
        figures = {head: value for head, value in samples(server.ready["http"]).items() if "sheaf_attention_" in head}
        assert figures.pop("sheaf_attention_ranks_wanted") == figures.pop("sheaf_attention_ranks_joined") == 1
        assert {f'sheaf_attention_ranks_lost_total{{cause="{cause}"}}' for cause in CAUSES} < figures.keys()
        assert not any(figures.values()), figures
        assert server.metric("sheaf_step_gather_seconds_count") == 0


def test_figures_say_what_became_of_ranks(nano: Path, seed: int) -> None:
    prompts = some_prompts(seed, 6, 40)
    with RankedServer(nano, 2, "--workers", "1", "--attention-timeout-ms", "1000") as server:
        assert server.metric("sheaf_attention_ranks_wanted") == 2
        # Ready comes from the group itself, figures within 50 ms.
        wait_for(lambda: server.metric("sheaf_attention_ranks_joined") == 2, 10, "both are counted")
        assert server.metric("sheaf_attention_groups_total") == 1 and not lost(server)
        wanted = ask_all(server, prompts, 150)
        steps, gathers = server.metric("sheaf_steps_total"), server.metric("sheaf_attention_gathers_total")
        assert server.metric("sheaf_step_gather_seconds_count") == steps > 0
        assert 0 < server.metric("sheaf_step_gather_seconds_sum") < server.metric("sheaf_step_duration_seconds_sum")
        assert gathers >= 4 * steps
        assert server.metric("sheaf_attention_sent_bytes_total") > 0 < server.metric("sheaf_attention_received_bytes_total")
        for name in ("steps_given_up", "recomputed_sequences", "recomputed_tokens"):
            assert server.metric(f"sheaf_attention_{name}_total") == 0, name
        own = metrics_address(server.log(), 1)
        wait_for(lambda: metric(own, "sheaf_rank_steps_total", outcome="done") == steps, 10, "it has counted the last one")
        assert metric(own, "sheaf_rank_kv_cache_bytes") > 0 < metric(own, "sheaf_rank_weights_bytes")
        assert metric(own, "sheaf_rank_busy_seconds_total") > 0

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(ask_all, server, prompts, 150)
            wait_for(lambda: server.metric("sheaf_requests_running") > 0 or running.done(), 30, "a step")
            [before] = server.rank_pids()
            os.kill(before, signal.SIGSTOP)
            assert running.result() == wanted
        wait_for(lambda: server.rank_pids() not in ([], [before]), 30, "a new rank")
        wait_for(lambda: server.metric("sheaf_attention_groups_total") == 2, 10, "a new group")
        assert lost(server) == {"late": 1}
        assert server.metric("sheaf_attention_steps_given_up_total") >= 1
        assert server.metric("sheaf_attention_recomputed_sequences_total") >= 1
        assert server.metric("sheaf_attention_recomputed_tokens_total") >= 1
        incomplete = server.metric("sheaf_attention_incomplete_seconds_total")

        os.kill(server.rank_pids()[0], signal.SIGKILL)
        wait_for(lambda: server.metric("sheaf_attention_groups_total") == 3, 30, "a third group")
        assert lost(server) == {"late": 1, "closed": 1}
        assert server.metric("sheaf_attention_ranks_joined") == 2
        assert server.metric("sheaf_attention_incomplete_seconds_total") > incomplete


def test_a_router_without_its_ranks_is_not_ready(tmp_path: Path, nano: Path) -> None:
    with router(tmp_path, nano, 3) as (process, address, asked):
        ranks: list[Process] = []

        def unready() -> bool:
            try:
                asked.get("/ready")
                return False
            except HttpError as error:
                assert error.status == 503
                return error.body["status"] != "loading" and "attention ranks" in error.body["reason"]
            except OSError:  # its port is not open yet
                return False

        try:
            wait_for(unready, 60, "it waits for both")
            assert asked.metric("sheaf_attention_ranks_joined") == 1 and not asked.healthy()
            with pytest.raises(HttpError) as refused:
                asked.completion(prompt="a", max_tokens=1)
            assert refused.value.status == 503 and "attention ranks" in str(refused.value)
            ranks.append(rank(tmp_path, nano, address, 2, "second"))
            wait_for(lambda: asked.metric("sheaf_attention_ranks_joined") == 2, 60, "it waits for one")
            assert unready()
            ranks.append(rank(tmp_path, nano, address, 1, "first"))
            wait_for(lambda: not unready() and asked.healthy(), 60, "the group")
            own = metrics_address(ranks[0].log(), 2)
            assert probe(own, "/ready") == (200, {"status": "ready"}) and metric(own, "sheaf_rank_joined") == 1
            assert metric(own, "sheaf_rank_number") == 2 and metric(own, "sheaf_rank_groups_total") == 1
            process.stop()
            wait_for(lambda: probe(own, "/ready")[0] == 503, 30, "it has no router")
            assert probe(own, "/live")[0] == 200 and metric(own, "sheaf_rank_joined") == 0
            assert probe(own, "/ready")[1]["reason"]
        finally:
            for one in ranks:
                one.stop()


def test_a_rank_that_is_killed_again_and_again_is_back_at_once(nano: Path) -> None:
    with RankedServer(nano, 2, "--workers", "0") as server:
        for kill in range(6):
            [before] = server.rank_pids()
            os.kill(before, signal.SIGKILL)
            wait_for(lambda: server.rank_pids() not in ([], [before]) and server.healthy(), 30, f"it is back from kill {kill}")  # pylint: disable=W0640
        waits = [int(ms) for ms in re.findall(r"killed by signal 9; restart in (\d+) ms", server.log())]
        assert len(waits) == 6 and max(waits) <= 500, waits  # 100 again after a life of 10 s


def test_ranks_link_to_a_router_that_listens_everywhere(tmp_path: Path, nano: Path, seed: int) -> None:
    prompts = some_prompts(seed, 2, 20)
    with SheafServer(nano, "--workers", "0", *FEW_CORES) as server:
        wanted = ask_all(server, prompts, 8)
    with router(tmp_path, nano, 2, "--host", "0.0.0.0") as (_, address, asked):
        own = rank(tmp_path, nano, address, 1, "first")
        try:
            wait_for(lambda: asked.healthy(), 60, "the group")
            wait_for(lambda: re.search(r"linked by tcp .*127\.0\.0\.1", own.log()), 10, "the path of its link")
            assert ask_all(asked, prompts, 8) == wanted
        finally:
            own.stop()


def test_a_name_is_no_address_for_their_links(tmp_path: Path, nano: Path) -> None:
    for flag in ("--host", "--cluster-host"):
        process = Process(tmp_path, "named", "router", str(nano), "--workers", "0", "--port", "0", "--grpc-port", "0",
                          "--attention-port", "0", "--tensor-parallel-size", "2", "--transport", "tcp", flag, "localhost")
        line = ended(process)
        assert "--cluster-host, or without it --host" in line and '"localhost"' in line, line


def test_a_routers_memory_is_held_against_its_own_part(tmp_path: Path, nano: Path) -> None:
    """Its ranks are processes of other commands, with limits of their own."""
    line = ended(Process(tmp_path, "large", "router", str(nano), "--port", "0", "--grpc-port", "0", "--attention-port", "0",
                         "--tensor-parallel-size", "2", "--kv-cache-memory-bytes", "200TiB"))
    assert f"wanted {100 << 20} MiB" in line and "attention rank 0 of 2, which has 50 % of a block" in line, line
