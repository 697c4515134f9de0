"""Shared by the client tests: a server of the trained checkpoint, and the Python and Node programs that ask it."""
from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Callable, Iterator

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "process"))

from client_programs import Answers, answers, install, made_once  # noqa: E402  (found through the path above)
from sheaf_server import ROOT, SheafServer  # noqa: E402


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason in sorted({report.longrepr[2] for report in terminalreporter.getreports("skipped")}):
        terminalreporter.write_line(reason)


@pytest.fixture(scope="session")
def client_python() -> Path:
    """A Python that has the packages of requirements.txt."""
    requirements = HERE / "requirements.txt"

    def make(folder: Path) -> None:
        install([sys.executable, "-m", "venv", str(folder)], HERE)
        install([str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--retries", "1", "-r", str(requirements)], HERE)

    return made_once("python", [requirements], make) / "bin/python"


@pytest.fixture(scope="session")
def client_modules() -> Path:
    """A folder with the node_modules of node/package-lock.json."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("the AI SDK's tests need node and npm")
    sources = [HERE / "node/package.json", HERE / "node/package-lock.json"]

    def make(folder: Path) -> None:
        for source in sources:
            shutil.copy(source, folder)
        install(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"], folder)

    return made_once("node", sources, make)


@pytest.fixture(scope="session")
def server() -> Iterator[SheafServer]:
    """The trained checkpoint. White space in constrained JSON, because the model was trained on JSON that has it."""
    with SheafServer(ROOT / "checkpoints/sheaf-nano-120", "--workers", "0", "--served-model-name", "nano",
                     "--json-any-whitespace") as running:
        yield running


@pytest.fixture(scope="session")
def run_python(client_python: Path, server: SheafServer) -> Callable[[str], Answers]:
    return lambda program: answers([str(client_python), str(HERE / program)], server)


@pytest.fixture(scope="session")
def run_node(client_modules: Path, server: SheafServer) -> Callable[[str], Answers]:
    def run(program: str) -> Answers:
        shutil.copy(HERE / "node" / program, client_modules)  # modules are looked for from where the program lies
        return answers(["node", str(client_modules / program)], server)

    return run
