"""Workers, routers and the coordinator die, hang, leave and return under load: no request fails, no byte differs."""
from __future__ import annotations

import json
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import grpc
import pytest

import pool_client
import pool_network
from pool_client import pool_pb
from pool_harness import Managed, Pool
from pool_load import Load, Record, assert_nothing_lost, random_questions, trained_questions
from sheaf_server import SheafServer, wait_for


@pytest.fixture(scope="module")
def questions(seed: int) -> list[dict[str, Any]]:
    return trained_questions(seed, count=24, tokens=(24, 100))


@pytest.fixture(scope="module")
def wanted(nano: Path, questions: list[dict[str, Any]]) -> list[Record]:
    """By one process without workers."""
    with SheafServer(nano, "--workers", "0", "--threads", "1") as alone:
        return Load([alone.ready["http"]], questions, 4).each_once()


def test_the_answers_are_lively(wanted: list[Record]) -> None:
    """Otherwise equality would say little."""
    assert len({tuple(record.ids) for record in wanted}) == len(wanted)
    assert sum(len(set(record.ids)) > 8 for record in wanted) > len(wanted) // 2


def new_load(pool: Pool, questions: list[dict[str, Any]], seed: int, **options: Any) -> Load:
    return Load([router.http for router in pool.routers], questions, 8, seed, **options)


def wait_tokens(load: Load, more: int, seconds: float = 60) -> None:
    """Until that many further tokens have come: the load is under way, or again."""
    def count() -> int:
        return sum(len(r.ids) for r in (*load.records, *load.running.values()))
    start = count()
    wait_for(lambda: count() > start + more, seconds, f"{more} further tokens")


@pytest.mark.parametrize("transport", ["shm", "tcp"])
def test_killed_workers_are_not_missed(nano: Path, questions: Any, wanted: Any, seed: int, transport: str) -> None:
    rng = random.Random(seed)
    with Pool(nano, workers=3, replicas=2, transport=transport) as pool:
        with new_load(pool, questions, seed) as load:
            for _ in range(5):
                wait_tokens(load, rng.randint(100, 1000))
                worker = rng.choice(pool.workers)
                lives = worker.starts
                worker.signal(signal.SIGKILL)
                worker.wait_life(lives)
                pool.wait_whole()
        assert_nothing_lost(load.records, wanted, 20)
        assert pool.routers[0].metric("sheaf_links_lost_total") >= 5


def test_both_holders_killed_at_once(nano: Path, questions: Any, wanted: Any, seed: int) -> None:
    with Pool(nano, workers=2, replicas=2) as pool:
        with new_load(pool, questions, seed) as load:
            wait_tokens(load, 300)
            for worker in pool.workers:
                worker.signal(signal.SIGKILL)
            wait_tokens(load, 300)
        assert_nothing_lost(load.records, wanted, 8)


def test_the_last_holder_killed(nano: Path, questions: Any, wanted: Any, seed: int) -> None:
    with Pool(nano, workers=3, replicas=1) as pool:
        with new_load(pool, questions, seed) as load:
            for worker in pool.workers:
                wait_tokens(load, 300)
                lives = worker.starts
                worker.signal(signal.SIGKILL)
                worker.wait_life(lives)
                pool.wait_whole()
        assert_nothing_lost(load.records, wanted, 8)


def test_new_requests_wait_for_experts_that_nobody_holds(nano: Path, questions: Any, wanted: Any, seed: int) -> None:
    with Pool(nano, workers=1, replicas=1) as pool:
        worker, router = pool.workers[0], pool.routers[0]
        worker.restarts = False
        worker.signal(signal.SIGKILL)
        worker.wait_exit()
        wait_for(lambda: not router.healthy(), 10, "the router says that it cannot compute")
        with new_load(pool, questions, seed) as load:
            wait_for(lambda: router.metric("sheaf_requests_queued") + router.metric("sheaf_requests_running") >= 8, 20,
                     "requests wait")
            worker.restarts = True
            worker.start()
            wait_tokens(load, 100)
        assert_nothing_lost(load.records, wanted, 8)


@pytest.mark.parametrize("replicas", [1, 2])
def test_leaving_in_order_is_not_noticed(nano: Path, questions: Any, wanted: Any, seed: int, replicas: int) -> None:
    with Pool(nano, workers=3, replicas=replicas) as pool:
        with new_load(pool, questions, seed) as load:
            for worker in pool.workers:
                wait_tokens(load, 200)
                lives = worker.starts
                worker.signal(signal.SIGTERM)
                worker.wait_life(lives)
                assert worker.exits[-1].status == 0
                pool.wait_whole()
        assert_nothing_lost(load.records, wanted, 8)
        assert pool.routers[0].metric("sheaf_steps_given_up_total") == 0
        # Nobody was asked who was gone already.
        assert pool.routers[0].metric("sheaf_redispatched_pairs_total", cause="link_lost") == 0


def test_a_stopped_worker_is_not_waited_for_and_rejoins(nano: Path, questions: Any, wanted: Any, seed: int) -> None:
    with Pool(nano, workers=3, replicas=2, pool_flags=["--lease-ms", "1000"]) as pool:
        with new_load(pool, questions, seed) as load:
            wait_tokens(load, 300)
            worker = pool.workers[1]
            pid = worker.signal(signal.SIGSTOP)
            wait_tokens(load, 300)
            wait_for(lambda: any(w.pid == pid for w in pool.status().lost), 20, "it is held for lost")
            wait_tokens(load, 300)
            worker.signal(signal.SIGCONT)
            pool.wait_whole()
            assert worker.pid == pid, "the same process is back"
            wait_tokens(load, 300)
        assert_nothing_lost(load.records, wanted, 8)


def test_a_stopped_router_loses_no_worker(nano: Path) -> None:
    with Pool(nano, workers=3, replicas=1) as pool:
        before = {worker.instance for worker in pool.status().workers}
        pool.routers[0].signal(signal.SIGSTOP)
        time.sleep(5)  # the fault itself: longer than two leases
        pool.routers[0].signal(signal.SIGCONT)
        status = pool.wait_whole()
        assert {worker.instance for worker in status.workers} == before
        assert not status.lost, status.lost


def test_the_coordinator_may_die(nano: Path, questions: Any, wanted: Any, seed: int) -> None:
    with Pool(nano, workers=3, replicas=2, coordinator_outside=True) as pool:
        before = {worker.instance: worker.held_experts for worker in pool.status().workers}
        with new_load(pool, questions, seed) as load:
            wait_tokens(load, 300)
            pool.coordinator.restarts = False
            pool.coordinator.signal(signal.SIGKILL)
            pool.coordinator.wait_exit()
            wait_tokens(load, 500)
            pool.workers[0].signal(signal.SIGKILL)  # with nobody there to notice but the router
            wait_tokens(load, 500)
            pool.coordinator.restarts = True
            pool.coordinator.start()
            status = pool.wait_whole()
            wait_tokens(load, 300)
        assert_nothing_lost(load.records, wanted, 8)
        kept = {worker.instance: worker.held_experts for worker in status.workers if worker.instance in before}
        assert len(kept) == 2, "workers that lived stay members"


def test_streams_of_a_killed_router_go_on_at_another(nano: Path, questions: Any, wanted: Any, seed: int) -> None:
    with Pool(nano, workers=3, replicas=2, routers=2) as pool:
        with new_load(pool, questions, seed, resume=True) as load:
            for _ in range(2):
                wait_tokens(load, 500)
                lives = pool.routers[0].starts
                pool.routers[0].signal(signal.SIGKILL)
                pool.routers[0].wait_life(lives)
                pool.wait_healthy()
        result = assert_nothing_lost(load.records, wanted, 8)
        assert result.resumed > 0, "a stream was cut"
        assert any(len(r.addresses) > 1 and r.ids for r in load.records)
        assert pool.status().routers == 2


def test_any_router_continues_what_another_began(nano: Path, questions: Any, wanted: Any, seed: int) -> None:
    rng = random.Random(seed)
    with Pool(nano, workers=2, replicas=1, routers=2) as pool:
        for record in wanted[:8]:
            cut = rng.randint(1, len(record.ids) - 1)
            body = {**questions[record.question], "prior_output": record.ids[:cut]}
            status, text = pool_client.post(pool.routers[1].http, "/v1/completions", body)
            assert status == 200, text
            answer = json.loads(text)
            choice = answer["choices"][0]
            assert choice["token_ids"] == record.ids[cut:], (record.question, cut)
            if record.logprobs:
                assert choice["logprobs"]["token_logprobs"] == record.logprobs[cut:]


def test_the_token_is_needed(tiny: Path, tmp_path: Path) -> None:
    with Pool(tiny, workers=1, token="swordfish-and-chips") as pool:
        stranger = pool.worker(1)
        (tmp_path / "wrong").write_text("swordfish-and-peas\n")
        at = stranger.command.index("--cluster-token-file") + 1
        stranger.command[at] = str(tmp_path / "wrong")
        told = refused(pool, stranger)
        assert "the token is not the pool's" in told, told
        assert "swordfish" not in told + pool.routers[0].log(), "no token in a log"
        assert [worker.worker_id for worker in pool.status().workers] == [0]
        with pytest.raises(grpc.RpcError) as caught:
            pool_client.status(pool.cluster, "another")
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def refused(pool: Pool, stranger: Managed) -> str:
    """Starts it; the log of its life, which it ends by itself with an error."""
    stranger.restarts, stranger.may_refuse = False, True
    pool.add(stranger)
    stranger.wait_exit(30)
    assert stranger.exits[-1].status > 0, stranger.exits
    return stranger.log()


def test_another_checkpoint_is_refused_by_name(make: Callable[..., Path], tiny: Path, seed: int) -> None:
    """Same config, same shapes, other weights."""
    other = make(format="gptq", experts=21, seed=seed + 1)
    assert (other / "config.json").read_bytes() == (tiny / "config.json").read_bytes()
    with Pool(tiny, workers=1) as pool:
        stranger = pool.worker(1)
        stranger.command[1] = str(other)
        told = refused(pool, stranger)
        digests = re.search(r'model: wanted "tiny" ([0-9a-f]{16}).*; got "tiny" ([0-9a-f]{16})', told)
        assert digests and digests[1] != digests[2], told
        assert [worker.worker_id for worker in pool.status().workers] == [0]


def test_status_drain_and_undrain(nano: Path, questions: Any, wanted: Any, seed: int) -> None:
    with Pool(nano, workers=3, replicas=1) as pool:
        text = pool.command("status")
        assert text.returncode == 0, text
        for worker in pool.status().workers:
            assert str(worker.pid) in text.stdout, text.stdout
        assert len(pool.status_json()["workers"]) == 3
        with new_load(pool, questions, seed) as load:
            wait_tokens(load, 200)
            assert pool.command("drain", "1").returncode == 0
            wait_for(lambda: held(pool, 1) == 0, 30, "worker 1 holds nothing")
            assert state(pool, 1) == pool_client.DRAINING
            assert pool.status().complete
            wait_tokens(load, 200)
            assert pool.command("undrain", "1").returncode == 0
            wait_for(lambda: held(pool, 1) > 0 and state(pool, 1) == pool_client.READY, 30, "worker 1 holds again")
            wait_tokens(load, 200)
            assert pool.command("replicas", "2").returncode == 0
            wait_for(lambda: list(pool.status().coverage[:2]) == [0, 0], 30, "two holders of each expert")
            assert pool.command("rebalance").returncode == 0
        assert_nothing_lost(load.records, wanted, 8)
        missing = pool.command("drain", "77")
        assert missing.returncode != 0 and "77" in missing.stderr
        with pytest.raises(grpc.RpcError) as caught:
            pool_client.call(pool.cluster, "Drain", pool_pb.DrainRequest(worker_id=77), pool_pb.DrainResponse)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            pool_client.call(pool.cluster, "SetReplicas", pool_pb.SetReplicasRequest(replicas=0.5),
                             pool_pb.SetReplicasResponse)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def held(pool: Pool, worker_id: int) -> int:
    return next(w.held_experts for w in pool.status().workers if w.worker_id == worker_id)


def state(pool: Pool, worker_id: int) -> int:
    return next(w.state for w in pool.status().workers if w.worker_id == worker_id)


def test_a_spare_takes_over(nano: Path, questions: Any, wanted: Any, seed: int) -> None:
    with Pool(nano, workers=2, replicas=1) as pool:
        spare = pool.add(pool.worker(2, "--spare"))
        pool.wait_whole()
        assert state(pool, 2) == pool_client.SPARE and held(pool, 2) == 0
        with new_load(pool, questions, seed) as load:
            wait_tokens(load, 200)
            pool.workers[0].restarts = False
            pool.workers[0].signal(signal.SIGKILL)
            wait_for(lambda: held(pool, 2) > 0 and pool.status().complete, 30, "the spare holds experts")
            wait_tokens(load, 200)
        assert_nothing_lost(load.records, wanted, 8)
        assert spare.starts == 1


def test_one_that_another_can_hold_everything_of(nano: Path, questions: Any, wanted: Any, seed: int) -> None:
    """Survivors with room adopt what a lost worker held; no replacement comes."""
    with Pool(nano, workers=3, replicas=1) as pool:
        with new_load(pool, questions, seed) as load:
            wait_tokens(load, 200)
            pool.workers[2].restarts = False
            pool.workers[2].signal(signal.SIGKILL)
            wait_for(lambda: len(pool.status().workers) == 2 and pool.status().complete, 30, "adopted")
            wait_tokens(load, 300)
        assert_nothing_lost(load.records, wanted, 8)


def test_hostile_bytes_on_the_exchange_port(nano: Path, questions: Any, wanted: Any, seed: int) -> None:
    rng = random.Random(seed)
    with Pool(nano, workers=2, replicas=1, transport="tcp") as pool:
        ports = {worker.pid: pool_network.listening_ports(worker.pid) for worker in pool.workers}
        assert all(len(found) >= 2 for found in ports.values()), f"metrics and exchange: {ports}"
        assert all(address.startswith("127.") for found in ports.values() for address, _ in found), ports
        silent = []
        with new_load(pool, questions, seed) as load:
            wait_tokens(load, 200)
            for address, port in (entry for found in ports.values() for entry in found):
                silent.append(socket.create_connection((address, port), 5))
                for size in (1, 16, 64, 65, 4096, 300000):
                    with socket.create_connection((address, port), 5) as peer:
                        try:
                            peer.sendall(rng.randbytes(size))
                            peer.settimeout(0.2)
                            peer.recv(100)
                        except OSError:
                            pass
            wait_tokens(load, 300)
        for peer in silent:
            peer.close()
        assert_nothing_lost(load.records, wanted, 8)
        assert all(worker.starts == 1 for worker in pool.workers)


@pytest.mark.parametrize("scenario", ["black-hole", "one-way", "link-down"])
def test_the_network_between_namespaces_fails(nano: Path, scenario: str) -> None:
    if reason := pool_network.why_not():
        pytest.skip(reason)
    row = bench(nano, scenario, "--rounds", "1", "--outage-seconds", "2.5")
    assert row["faulty"]["requests"] > 3 and row["faulty"]["tokens"] > 200, row  # there was a load; a sanitizer is slow


def test_a_flipped_bit_is_found_and_repaired(nano: Path) -> None:
    row = bench(nano, "flip", "--rounds", "1", failures_only=True)
    assert "found after" in row["note"] and ", repaired" in row["note"], row
    assert row["after"] == "the same bytes again", row


def bench(checkpoint: Path, scenario: str, *flags: str, failures_only: bool = False) -> dict[str, Any]:
    """One row of bench_pool_faults.py, short, in a process of its own. Nothing may be lost."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("bench_pool_faults.py")), "--checkpoint", str(checkpoint),
         "--scenarios", scenario, "--workers", "3", "--streams", "4", "--quiet-seconds", "1", "--measure-seconds", "1",
         "--json", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=200, check=False)
    assert done.stdout.strip(), done.stderr[-4000:]
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["all"]["failed"] == 0 and (failures_only or row["all"]["differ"] == 0), (row, done.stderr[-4000:])
    return row
