"""Workers die, hang and come back: requests end with a cause, and service goes on."""
from __future__ import annotations

import concurrent.futures
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from answers import generate
from sheaf_server import HttpError, SheafServer, wait_for

PROMPT = [5, 6, 7, 8]
FLAGS = ["--workers", "2", "--expert-timeout-ms", "1000", "--lease-ms", "1000"]


def outcome(server: SheafServer, max_tokens: int) -> Any:
    try:
        return generate(server, PROMPT, max_tokens)
    except HttpError as error:
        return error


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSTOP], ids=["SIGKILL", "SIGSTOP"])
def test_a_lost_worker_ends_its_requests_with_its_name_and_is_replaced(tiny: Path, sig: signal.Signals) -> None:
    with SheafServer(tiny, *FLAGS) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        wanted = generate(server, PROMPT, 300)
        victim = server.worker_pids()[1]
        running = pool.submit(outcome, server, 100000 // 100)
        wait_for(lambda: server.metric("sheaf_generated_tokens_total") > 320, 20, "the request is running")
        struck = time.monotonic()
        os.kill(victim, sig)
        answer = running.result(timeout=20)
        took = time.monotonic() - struck
        assert isinstance(answer, HttpError), "the request needs the lost worker"
        assert answer.status == 503, answer.body
        assert "worker 1" in answer.body["error"]["message"], answer.body
        assert took < 8, f"ended {took:.1f} s after the loss"
        wait_for(lambda: victim not in server.worker_pids() and server.healthy(), 30, "worker replaced")
        assert generate(server, PROMPT, 300) == wanted


def test_health_tells_the_truth_while_a_worker_is_missing(tiny: Path) -> None:
    with SheafServer(tiny, *FLAGS) as server:
        assert server.healthy()
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        wait_for(lambda: not server.healthy(), 10, "unhealthy after the loss")
        wait_for(server.healthy, 30, "healthy again")
        assert generate(server, PROMPT, 4)["ids"]


def test_sigterm_ends_every_process_in_order(tiny: Path) -> None:
    with SheafServer(tiny, *FLAGS) as server:
        workers = server.worker_pids()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        for pid in workers:
            assert not Path(f"/proc/{pid}").exists(), "a worker outlived its server"


def test_workers_end_when_the_router_is_killed(tiny: Path) -> None:
    with SheafServer(tiny, *FLAGS) as server:
        workers = server.worker_pids()
        server.process.kill()
        server.process.wait()
        wait_for(lambda: not any(alive(pid) for pid in workers), 20, "workers ended")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
    except OSError:
        return False
