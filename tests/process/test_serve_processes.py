"""The processes of `sheaf serve`: who ends when, which ports are free afterwards, what /health says."""
from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

from answers import generate
from pool_client import get, healthy
from pool_harness import free_port
from sheaf_server import BINARY, HttpError, SheafServer, wait_for

PROMPT = [5, 6, 7, 8]
FLAGS = ["--workers", "2", "--lease-ms", "1000"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
    except OSError:
        return False


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


def test_a_killed_worker_is_replaced_and_told_in_the_ready_file(tiny: Path) -> None:
    with SheafServer(tiny, *FLAGS) as server:
        wanted = generate(server, PROMPT, 40)
        victim = server.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: victim not in server.worker_pids() and len(server.worker_pids()) == 2, 30, "a new process")
        assert generate(server, PROMPT, 40) == wanted


def test_ports_are_free_as_soon_as_the_router_is_killed(tiny: Path) -> None:
    """Children keep none of its sockets."""
    ports = ["--port", str(free_port()), "--grpc-port", str(free_port()), "--cluster-port", str(free_port())]
    with SheafServer(tiny, *FLAGS, *ports) as first:
        children = first.worker_pids()
        for pid in children:
            os.kill(pid, signal.SIGSTOP)  # they cannot end before the next one listens
        first.process.kill()
        first.process.wait()
        try:
            with SheafServer(tiny, *FLAGS, *ports) as second:
                assert second.http.endswith(f":{ports[1]}")
                assert generate(second, PROMPT, 4)["ids"]
        finally:
            for pid in children:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)


def test_a_second_sigterm_ends_at_once(tiny: Path) -> None:
    with SheafServer(tiny, *FLAGS, "--shutdown-timeout-ms", "600000") as server:
        def run() -> None:
            try:
                server.completion(prompt=PROMPT, max_tokens=40, ignore_eos=True)
            except (HttpError, OSError):
                pass  # that is how it should end

        workers = server.worker_pids()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)  # so that the request cannot finish
        running = threading.Thread(target=run)
        running.start()
        wait_for(lambda: server.metric("sheaf_requests_running") + server.metric("sheaf_requests_queued") == 1, 20,
                 "the request is there")
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not server.healthy(), 10, "it drains")
        assert server.process.poll() is None

        def ended_by_another_one() -> bool:  # two within moments are one: a terminal's and a shell's
            server.process.send_signal(signal.SIGTERM)
            return server.process.poll() is not None

        wait_for(ended_by_another_one, 5, "it ends at once")
        running.join()
        wait_for(lambda: not any(alive(pid) for pid in workers), 10, "workers ended")


def test_health_tells_the_truth_while_no_worker_has_come(tiny: Path) -> None:
    http, cluster = free_port(), free_port()
    router = subprocess.Popen([BINARY, "router", str(tiny), "--workers", "1", "--port", str(http), "--grpc-port", "0",
                               "--cluster-port", str(cluster)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    worker = None
    try:
        address = f"127.0.0.1:{http}"

        def answers() -> bool:
            try:
                return get(address, "/health")[0] == 503
            except OSError:
                return False

        wait_for(answers, 20, "it listens before it is ready")
        assert get(address, "/live")[0] == 200
        worker = subprocess.Popen([BINARY, "worker", str(tiny), "--coordinator", f"127.0.0.1:{cluster}"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: healthy(address), 20, "it is ready")
    finally:
        for process in (worker, router):
            if process is not None:
                process.terminate()
                process.wait(20)
