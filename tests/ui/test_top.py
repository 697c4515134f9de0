"""`sheaf top` against a real pool: one frame, a pipe, a terminal."""
from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import subprocess
import time

from sheaf_server import BINARY, SheafServer, run_to_end


def test_one_frame_has_rates_and_every_worker(pool: SheafServer) -> None:
    ended = run_to_end("top", "--once", "--interval", "0.6", "--http", pool.ready["http"])
    assert ended.returncode == 0, ended.stderr
    assert "\x1b" not in ended.stdout
    lines = ended.stdout.splitlines()
    assert re.match(r"nano  ready  up .*  sheaf \d", lines[0])
    assert re.match(r"tokens/s \d+\.\d  prompt tokens/s \d+\.\d  running \d+  waiting \d+  KV \[", lines[1]), "a second answer makes rates"
    assert "held by none 0, one 0, two 360, more 0; 3 live links; 2 holders wanted" in ended.stdout
    rows = [line for line in lines if re.match(r" *\d  ready +up ", line)]
    assert len(rows) == 3, ended.stdout
    for worker in pool.ready["workers"]:
        assert f"pid {worker['pid']} on " in ended.stdout


def test_nobody_there_is_an_error_that_names_the_address() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    ended = run_to_end("top", "--once", "--http", address)
    assert ended.returncode == 1
    assert re.match(rf"sheaf: {re.escape(address)}: ", ended.stderr), ended.stderr
    ended = run_to_end("top", "--once", "--http", "nowhere")
    assert ended.returncode == 1 and "HOST:PORT" in ended.stderr


def test_an_interrupt_leaves_the_terminal_as_it_was(pool: SheafServer) -> None:
    terminal, inside = pty.openpty()
    process = subprocess.Popen([BINARY, "top", "--interval", "0.1", "--http", pool.ready["http"]], stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    seen = b""
    deadline = time.monotonic() + 20

    def read_until(found: bytes, times: int) -> None:
        nonlocal seen
        while seen.count(found) < times:
            assert select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0], seen
            try:
                seen += os.read(terminal, 65536)
            except OSError:  # the other end is closed
                assert seen.count(found) >= times, seen

    read_until(b"\x1b[H", 3)
    process.send_signal(signal.SIGINT)
    read_until(b"\x1b[?1049l", 1)
    assert process.wait(10) == 0
    os.close(terminal)
    assert seen.startswith(b"\x1b[?1049h\x1b[?25l")
    assert seen.endswith(b"\x1b[?25h\x1b[?1049l")
    assert b"held by none" in seen
