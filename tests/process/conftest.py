"""Shared by the process tests: a fresh seed for each run, printed, tiny random checkpoints, and the trained one."""
from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "oracle"))

import make_checkpoint  # noqa: E402  (found through the path above)
from replay import Replay  # noqa: E402
from replay_checkpoint import ReplayOptions, write_replay_checkpoint  # noqa: E402
from sheaf_server import SheafServer  # noqa: E402


def pytest_report_header() -> str:
    return f"SHEAF_TEST_SEED={SEED}"


SEED = int(os.environ.get("SHEAF_TEST_SEED", secrets.randbelow(1 << 31)))


@pytest.fixture(scope="session")
def seed() -> int:
    return SEED


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make(format="gptq", experts=12, ...) -> a checkpoint folder, written once a session for equal options."""
    written: dict[tuple[Any, ...], Path] = {}

    def build(**options: Any) -> Path:
        options.setdefault("seed", SEED)
        key = tuple(sorted((name, str(value)) for name, value in options.items()))
        if key not in written:
            folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
            make_checkpoint.make_checkpoint(folder, make_checkpoint.Options(**options))
            written[key] = folder
        return written[key]

    return build


@pytest.fixture(scope="session")
def tiny(make: Callable[..., Path]) -> Path:
    """A GPTQ checkpoint with an odd number of experts."""
    return make(format="gptq", experts=21)


@pytest.fixture(scope="session")
def nano() -> Path:
    """The trained checkpoint of this repository."""
    return Path(__file__).resolve().parents[2] / "checkpoints/sheaf-nano-120"


@pytest.fixture(scope="session")
def nano_questions(nano: Path) -> list[dict[str, Any]]:
    """For the trained checkpoint. Twenty questions with messages, tools, the rendered prompt and the answer."""
    return json.loads(Path(__file__).with_name("nano_questions.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def replay_checkpoint(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[ReplayOptions], Path]:
    """A replay checkpoint, written once a session for equal options."""
    written: dict[ReplayOptions, Path] = {}

    def build(options: ReplayOptions) -> Path:
        if options not in written:
            written[options] = tmp_path_factory.mktemp("replay") / "replay"
            write_replay_checkpoint(written[options], nano, options)
        return written[options]

    return build


REPLAYS = {
    "glm45": ReplayOptions(),
    "glm45_bytes_plain_tags": ReplayOptions(distance=768, one_byte=True, plain_tags=True),
    "glm47_bytes": ReplayOptions(distance=768, newlines=False, one_byte=True),
    "glm47_plain_tags": ReplayOptions(newlines=False, plain_tags=True),
}


@pytest.fixture(scope="module", params=list(REPLAYS))
def replay(request: pytest.FixtureRequest, replay_checkpoint: Callable[[ReplayOptions], Path]) -> Iterator[Replay]:
    """A server that says what it is told to: both chat formats, tags as tokens or as text, tokens long or of one byte."""
    options = REPLAYS[request.param]
    with SheafServer(replay_checkpoint(options), "--workers", "0", "--served-model-name", "replay") as server:
        yield Replay(server, options)
