"""What an operator meets: signals at any moment, ports, log pipes nobody reads, full disks, files that are in use."""
from __future__ import annotations

import concurrent.futures
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable

import pytest

from answers import generate
from sheaf_grpc import Client
from sheaf_server import BINARY, HttpError, SheafServer, run_to_end, wait_for

PROMPT = [5, 6, 7, 8]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def grpc_serving(address: str) -> bool:
    client = Client(address)
    try:
        service = b"sheaf.v1.Inference"
        answer = client.raw("/grpc.health.v1.Health/Check", b"\n" + bytes([len(service)]) + service)
        assert answer in (b"\x08\x01", b"\x08\x02"), answer
        return answer == b"\x08\x01"
    finally:
        client.close()


def sockets(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(entry))
        except OSError:
            pass  # closed meanwhile
    return {name for name in found if name.startswith("socket:")}


@pytest.fixture(scope="module")
def slow_disk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process whose loading takes minutes."""
    library = tmp_path_factory.mktemp("slow") / "slow_reads.so"
    source = Path(__file__).with_name("slow_reads.c")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library), "SHEAF_SLOW_READ_MS": "2000"}


def health(port: int) -> tuple[int, Any, dict[str, str]]:
    return ask(port, "GET", "/health")


def ask(port: int, method: str, path: str) -> tuple[int, Any, dict[str, str]]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, data=b"{}" if method == "POST" else None,
                                     headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.loads(response.read() or b"null"), dict(response.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null"), dict(error.headers)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_ports_answer_and_signals_end_it_while_weights_load(make: Callable[..., Path], slow_disk: dict[str, str], tmp_path: Path,
                                                                       sig: signal.Signals) -> None:
    checkpoint = make(format="bf16", experts=21)
    port, grpc_port = free_port(), free_port()
    log = open(tmp_path / "log", "wb")
    process = subprocess.Popen([BINARY, "serve", str(checkpoint), "--workers", "1", "--port", str(port), "--grpc-port", str(grpc_port)],
                               env=slow_disk, stderr=log)
    try:
        def loading() -> Any:
            try:
                return health(port)
            except OSError:
                return None

        status, body, headers = wait_for(loading, 60, "the port answers")
        assert (status, body["status"]) == (503, "loading"), body
        assert 0 <= body["progress"] < 1
        assert headers["Retry-After"]
        assert ask(port, "GET", "/live")[0] == 200
        assert ask(port, "GET", "/ready")[0] == 503
        status, body, headers = ask(port, "POST", "/v1/completions")
        assert status == 503 and headers["Retry-After"], body
        assert ask(port, "GET", "/v1/models")[0] == 503
        assert not grpc_serving(f"127.0.0.1:{grpc_port}")
        begun = time.monotonic()
        process.send_signal(sig)
        assert process.wait(10) == 0
        assert time.monotonic() - begun < 1.0
    finally:
        process.kill()
        process.wait()


def test_a_signal_ends_it_at_any_moment_of_its_start(tiny: Path, tmp_path: Path) -> None:
    for step in range(8):
        ready = tmp_path / f"ready{step}"
        process = subprocess.Popen([BINARY, "serve", str(tiny), "--workers", "1", "--port", "0", "--grpc-port", "0", "--ready-file", str(ready)],
                                   stderr=subprocess.PIPE)
        try:
            process.wait(0.05 * step)  # the moment; it does not end by itself
        except subprocess.TimeoutExpired:
            pass
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=10)
        took = time.monotonic() - begun
        # Before main nobody takes the signal.
        assert process.returncode == 0 or (process.returncode == -signal.SIGTERM and not said), (process.returncode, said)
        assert took < 5, f"{took} s at step {step}"
        assert not ready.exists()


def test_a_second_signal_ends_it_at_once(tiny: Path) -> None:
    with SheafServer(tiny, "--workers", "1") as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        def unanswered() -> Any:
            try:
                return generate(server, PROMPT, 40)
            except (HttpError, OSError) as error:
                return error

        workers = server.worker_pids()
        os.kill(workers[0], signal.SIGSTOP)  # so that the request cannot end
        running = pool.submit(unanswered)
        wait_for(lambda: server.metric("sheaf_requests_running") + server.metric("sheaf_requests_queued") == 1, 20,
                 "the request is there")
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.3)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(2) == 128 + signal.SIGTERM
        os.kill(workers[0], signal.SIGKILL)
        running.result(timeout=20)


def test_the_ports_of_a_killed_router_are_free_at_once(tiny: Path) -> None:
    with SheafServer(tiny, "--workers", "1") as server:
        ports = [int(server.ready[face].rpartition(":")[2]) for face in ("http", "grpc")]
        # A worker that still ends must not hold them either.
        assert not sockets(server.pid) & sockets(server.worker_pids()[0])
        server.process.kill()
        server.process.wait()
        for taken in ports:
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", taken))
                listener.listen()


def test_a_log_that_nobody_reads_stops_nothing(tiny: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    ready = tmp_path / "ready"
    process = subprocess.Popen([BINARY, "serve", str(tiny), "--workers", "1", "--port", "0", "--grpc-port", "0", "--ready-file", str(ready)],
                               stderr=writer)
    try:
        wait_for(ready.exists, 60, "ready")
        victim = json.loads(ready.read_text())["workers"][0]["pid"]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: [w["pid"] for w in json.loads(ready.read_text())["workers"]] not in ([], [victim]), 30, "replaced")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)


def test_a_checkpoint_that_is_absent_for_a_moment_ends_nothing(tiny: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(tiny, checkpoint)
    with SheafServer(checkpoint, "--workers", "1") as server:
        away = tmp_path / "away"
        checkpoint.rename(away)
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        wait_for(lambda: re.search(r"ended: exit status 1: .*checkpoint.*restart in", server.log()), 30, "a failed restart with its reason")
        away.rename(checkpoint)
        wait_for(server.healthy, 30, "healthy again")
        assert generate(server, PROMPT, 4)["ids"]


def test_the_last_line_names_the_reason_when_it_ends(tiny: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(tiny, checkpoint)
    with SheafServer(checkpoint, "--workers", "1") as server:
        (checkpoint / "config.json").write_text("{")
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        assert server.process.wait(30) == 1
        last = server.log().rstrip().splitlines()[-1]
        assert last.startswith("sheaf: ") and "config.json" in last, last


def test_a_ready_file_has_one_owner_and_goes_with_it(tiny: Path) -> None:
    with SheafServer(tiny, "--workers", "0") as server:
        before = server.ready_path.read_text()
        second = run_to_end("serve", str(tiny), "--workers", "0", "--port", "0", "--grpc-port", "0", "--ready-file", str(server.ready_path))
        assert second.returncode == 1
        assert "belongs to a server that is running" in second.stderr and str(server.ready_path) in second.stderr
        assert server.ready_path.read_text() == before
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert not any(server.ready_path.parent.glob("ready*"))


def test_a_full_disk_ends_nothing(tiny: Path) -> None:
    with SheafServer(tiny, "--workers", "1") as server:
        before = server.worker_pids()
        partial = Path(str(server.ready_path) + ".part")
        partial.symlink_to("/dev/full")
        os.kill(before[0], signal.SIGKILL)
        wait_for(lambda: "tried again every second" in server.log(), 30, "the warning")
        wait_for(server.healthy, 30, "healthy again")
        assert server.worker_pids() == before, "the file is as it was"
        partial.unlink()
        wait_for(lambda: server.worker_pids() != before, 30, "written again")
        assert server.log().count("tried again every second") == 1


@pytest.mark.parametrize("host", ["::1", "::", "[::1]"])
def test_ipv6(tiny: Path, host: str) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6")
    with SheafServer(tiny, "--workers", "1", "--host", host) as server:
        announced = "[::]" if host == "::" else "[::1]"
        assert server.ready["http"].startswith(announced + ":") and server.ready["grpc"].startswith(announced + ":")
        assert server.healthy()
        assert generate(server, PROMPT, 4)["ids"]
        assert grpc_serving(server.grpc.replace("[::]", "[::1]"))


@pytest.mark.parametrize("host", ["::1", "::", "0.0.0.0"])
def test_a_worker_tells_an_address_that_others_reach(tiny: Path, tmp_path: Path, host: str) -> None:
    with SheafServer(tiny, "--workers", "0") as server, open(tmp_path / "log", "wb") as log:
        command = [BINARY, "worker", str(tiny), "--router", server.grpc, "--host", host]
        process = subprocess.Popen(command, stderr=log)
        try:
            found = wait_for(lambda: re.search(r"metrics on (\S+):\d+\n", (tmp_path / "log").read_text()), 30, "the address")
            assert found.group(1) == ("[::1]" if host == "::1" else "127.0.0.1")
            with urllib.request.urlopen("http://" + found.group(0).split()[-1] + "/metrics", timeout=20) as response:
                assert b"sheaf_" in response.read()
        finally:
            process.terminate()
            process.wait(20)


def test_idle_connections_do_not_block_a_workers_metrics(tiny: Path) -> None:
    with SheafServer(tiny, "--workers", "1") as server:
        address = re.search(r"metrics on 127\.0\.0\.1:(\d+)", server.log())
        assert address, server.log()
        port = int(address.group(1))
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        begun = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
            assert b"sheaf_" in response.read()
        assert time.monotonic() - begun < 2
        for connection in idle:
            connection.close()


def test_a_directory_as_config_is_named(tiny: Path, tmp_path: Path) -> None:
    ended = run_to_end("serve", str(tiny), "--config", str(tmp_path))
    assert ended.returncode == 1
    assert "--config" in ended.stderr and str(tmp_path) in ended.stderr and "directory" in ended.stderr.lower(), ended.stderr


def test_a_limit_on_processes_is_named(tiny: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs another user for a limit that binds")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = shutil.copy(BINARY, folder)
        ended = subprocess.run([program, "worker", str(tiny), "--router", "127.0.0.1:1"], user=65534, group=65534, extra_groups=[],
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (10, 10)),
                               capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert ended.returncode == 1, ended
    assert "limit on processes" in ended.stderr, ended.stderr
