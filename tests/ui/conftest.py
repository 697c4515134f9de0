"""Shared by the page's tests: a browser, where there is one, and a pool of the trained checkpoint."""
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Iterator

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "process"))

from devtools import Browser, find_chromium  # noqa: E402
from sheaf_server import ROOT, SheafServer  # noqa: E402  (found through the path above)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason in sorted({report.longrepr[2] for report in terminalreporter.getreports("skipped")}):
        terminalreporter.write_line(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("the page's tests in a browser need Chromium: deploy/install_dependencies.sh --tests installs chromium-headless-shell")
    with Browser(executable) as running:
        yield running


@pytest.fixture(scope="module")
def pool() -> Iterator[SheafServer]:
    """Three workers, each expert with two of them. SHEAF_UI_FILE: a page to try instead of the built-in one."""
    trial = ["--ui-file", os.environ["SHEAF_UI_FILE"]] if "SHEAF_UI_FILE" in os.environ else []
    with SheafServer(ROOT / "checkpoints/sheaf-nano-120", "--workers", "3", "--expert-replicas", "2", "--served-model-name", "nano",
                     *trial) as running:
        yield running
