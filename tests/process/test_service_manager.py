"""What a service manager is told by processes that it has started, over a socket like systemd's."""
from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Iterator

import pytest

from pool_harness import free_port
from sheaf_server import BINARY, wait_for

WATCHDOG_SECONDS = 2.0
PTRACE_ATTACH, PTRACE_DETACH = 16, 17


class Manager:
    """The manager's end: who told what."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)
        self.told: list[tuple[int, str]] = []  # process, text

    def hear(self) -> list[str]:
        """All that has been told by now."""
        while True:
            try:
                text, extra, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
            except BlockingIOError:
                return [said for _, said in self.told]
            self.told.append((struct.unpack("3i", extra[0][2][:12])[0], text.decode()))

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with open(self.path.with_name(command[0] + ".log"), "wb") as log:
            environment = {**os.environ, "NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6))}
            return subprocess.Popen([BINARY, *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)

    def pings(self) -> int:
        return self.hear().count("WATCHDOG=1")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.socket.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def a_life(manager: Manager, process: subprocess.Popen[bytes]) -> None:
    try:
        wait_for(lambda: "READY=1" in manager.hear(), 60, "it is ready")
        before = manager.pings()
        wait_for(lambda: manager.pings() >= before + 4, 20, "progress is told, also at rest")
        assert "STOPPING=1" not in manager.hear()
    finally:
        stop(process)
    said = manager.hear()
    assert said.count("READY=1") == 1 and said.count("STOPPING=1") == 1 and said.index("STOPPING=1") > said.index("READY=1")
    assert {pid for pid, _ in manager.told} == {process.pid}, "children have nothing to tell"


def test_a_coordinator(manager: Manager, tiny: Path) -> None:
    a_life(manager, manager.start("coordinator", str(tiny), "--cluster-port", "0"))


def test_a_router_with_workers(manager: Manager, tiny: Path) -> None:
    process = manager.start("serve", str(tiny), "--port", "0", "--grpc-port", "0", "--workers", "1")
    wait_for(lambda: "STATUS=ready" in manager.hear() or process.poll() is not None, 60, "it is ready")
    a_life(manager, process)


def thread_of(pid: int, name: str) -> int:
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int(task.name)
    raise AssertionError(f"no thread {name}")


@pytest.mark.parametrize("thread", ["sheaf-serve", "sheaf-control"])
def test_a_worker_whose_thread_stands_still_tells_nothing(manager: Manager, tiny: Path, thread: str) -> None:
    process = manager.start("worker", str(tiny), "--coordinator", f"127.0.0.1:{free_port()}", "--worker-threads", "1")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    try:
        wait_for(lambda: manager.pings() >= 4, 60, "progress is told, also without a coordinator")
        tid = thread_of(process.pid, thread)
        if libc.ptrace(PTRACE_ATTACH, tid, None, None) != 0:
            pytest.skip(f"a thread cannot be held here (ptrace: {os.strerror(ctypes.get_errno())})")
        os.waitpid(tid, 0x40000000)  # __WALL: threads too
        manager.hear()
        # What was under way when it was held may still be told, once.
        held, before = time.monotonic(), manager.pings()
        wait_for(lambda: time.monotonic() > held + 2 * WATCHDOG_SECONDS, 20, "twice the watchdog's time")
        assert manager.pings() <= before + 1, "it said that it makes progress"
        assert libc.ptrace(PTRACE_DETACH, tid, None, None) == 0
        before = manager.pings()
        wait_for(lambda: manager.pings() > before + 1, 20, "it goes on")
        assert "no progress" in manager.path.with_name("worker.log").read_text()
    finally:
        stop(process)


def test_a_manager_that_is_gone_holds_up_nobody(manager: Manager, tiny: Path) -> None:
    manager.socket.close()
    manager.path.unlink()
    process = manager.start("coordinator", str(tiny), "--cluster-port", "0")
    log = manager.path.with_name("coordinator.log")
    try:
        wait_for(lambda: "cluster on" in log.read_text() or process.poll() is not None, 60, "it listens")
        assert "NOTIFY_SOCKET: nobody listens" in log.read_text()
    finally:
        stop(process)
