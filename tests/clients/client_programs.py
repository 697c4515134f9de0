"""Clients as their users install them, kept out of the system Python, and the programs that use them.

What is installed lies under $SHEAF_CLIENTS_DIR (default: build/clients beside the sources) and is made again only where what it is
made from has changed. Where a registry cannot be reached, the tests that need it are skipped with a line that says so. A client's
program (ask_*) gets the server's URL and prints what each of its cases was given.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from sheaf_server import ROOT, SheafServer

INSTALL_SECONDS = 500.0
PROGRAM_SECONDS = 120.0
# What pip and npm say when there is no way to a registry. Any other failure of theirs is a failure of the test.
NO_REGISTRY = ("NewConnectionError", "NameResolutionError", "ProxyError", "ConnectTimeoutError", "ReadTimeoutError",
               "Connection refused", "Network is unreachable", "ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT",
               "ENETUNREACH")
Outcomes = dict[str, dict[str, Any]]


class Answers:
    """What a program's cases were given."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes

    def __getitem__(self, case: str) -> Any:
        outcome = self._outcomes[case]
        assert "error" not in outcome, outcome["error"]
        return outcome["value"]


def install(command: list[str], folder: Path) -> None:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if ended.returncode != 0:
        said = ended.stdout + ended.stderr
        if any(sign in said for sign in NO_REGISTRY):
            pytest.skip(f"{Path(command[0]).name} cannot reach its registry")
        pytest.fail(f"{' '.join(command)}\n{said[-4000:]}")


def made_once(name: str, sources: list[Path], make: Callable[[Path], None]) -> Path:
    """The folder, made by make(folder) unless it is there, whole, and of the same sources and Python."""
    folder = Path(os.environ.get("SHEAF_CLIENTS_DIR", str(ROOT / "build/clients"))) / name
    digest = hashlib.sha256(sys.version.encode() + b"".join(source.read_bytes() for source in sources)).hexdigest()
    mark = folder / "made_from"
    if not mark.exists() or mark.read_text() != digest:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        mark.write_text(digest)
    return folder


def answers(command: list[str], server: SheafServer) -> Answers:
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    ended = subprocess.run([*command, server.http], capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False,
                           env=environment)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return Answers(json.loads(ended.stdout.splitlines()[-1]))
