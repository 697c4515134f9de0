"""The logits command, the error measure, and the drawing of unambiguous prompts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import clear_prompt
import logits
from checkpoint_reader import CheckpointReader
from make_checkpoint import Options, make_checkpoint

SCRIPT = Path(logits.__file__)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    make_checkpoint(folder, Options(seed=3, experts=24, layers=2, shards=2, split_linears=True))
    return folder


def run(checkpoint: Path, *arguments: str, stdin: str | None = None) -> dict:
    done = subprocess.run([sys.executable, str(SCRIPT), "--checkpoint", str(checkpoint),
                           *arguments], input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_relative_error_removes_the_mean() -> None:
    wanted = np.array([[1.0, -1.0], [3.0, -3.0]])
    assert logits.relative_error(wanted + 5.0, wanted) == pytest.approx(0.0, abs=1e-15)
    # The second row is off by (.3, -.3) of (3, -3): 0.1, and the worst row counts.
    assert logits.relative_error(wanted + np.array([[0, 0], [0.3, -0.3]]), wanted) == (
        pytest.approx(0.1))
    with pytest.raises(ValueError, match="shape"):
        logits.relative_error(wanted[:1], wanted)


def test_json_from_ids_and_from_stdin(checkpoint: Path) -> None:
    model = CheckpointReader(checkpoint).model()
    want = model.forward([5, 6, 7])
    got = run(checkpoint, "--ids", "5,6,7")
    np.testing.assert_allclose(got["logits"], want.logits)
    np.testing.assert_allclose(got["gate_margins"], want.routes[0].margins)
    again = run(checkpoint, "--last", stdin='{"ids": [5, 6, 7]}')
    np.testing.assert_allclose(again["logits"], want.logits[-1:])


def test_greedy_is_the_argmax_one_token_at_a_time(checkpoint: Path) -> None:
    got = run(checkpoint, "--ids", "5,6,7", "--greedy", "4")["greedy"]
    model = CheckpointReader(checkpoint).model()
    ids = [5, 6, 7]
    for token, margin, gate_margin in zip(got["ids"], got["margins"], got["gate_margins"]):
        output = model.forward(ids)  # without a cache
        two = np.sort(output.logits[-1])[-2:]
        assert token == int(np.argmax(output.logits[-1]))
        assert margin == pytest.approx(two[1] - two[0])
        assert gate_margin == pytest.approx(output.routes[0].margins.min())
        ids.append(token)
    assert len(got["ids"]) == 4


@pytest.mark.parametrize("name", ["x.npy", "x.f32"])
def test_files_and_comparison(checkpoint: Path, tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    report = run(checkpoint, "--ids", "5,6,7", "--out", path)
    assert "logits" not in report
    assert run(checkpoint, "--ids", "5,6,7", "--compare", path)["relative_error"] < 1e-6
    assert run(checkpoint, "--ids", "5,6,8", "--compare", path)["relative_error"] > 1e-2


def test_kv_rounding_shows_in_the_logits(checkpoint: Path, tmp_path: Path) -> None:
    path, ids = str(tmp_path / "x.npy"), "5,6,7,8,9,10,11,12"
    run(checkpoint, "--ids", ids, "--out", path)
    errors = [run(checkpoint, "--ids", ids, "--kv-rounding", kind, "--compare",
                  path)["relative_error"] for kind in ("none", "f32", "bf16", "fp8_e5m2")]
    assert errors[0] < 1e-12 and errors[1] < 1e-5 and errors[1] < errors[2] < errors[3]


def test_ids_outside_the_vocabulary_are_refused(checkpoint: Path) -> None:
    for ids in ("600", "-1", "1,2,99999"):
        done = subprocess.run([sys.executable, str(SCRIPT), "--checkpoint", str(checkpoint),
                               f"--ids={ids}"], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and "0..599" in done.stderr


def test_clear_prompts_are_clear(checkpoint: Path, seed: int) -> None:
    model = CheckpointReader(checkpoint).model()
    rng = np.random.default_rng(seed)
    ids = clear_prompt.draw_clear_prompt(model, rng, 16, 5e-3)
    assert len(ids) == 16 and len(set(ids)) > 8
    # Seen as a whole, without the cache that the drawing used.
    assert clear_prompt.smallest_gate_margins(model.forward(ids)).min() >= 5e-3 - 1e-12
    with pytest.raises(ValueError, match="no token with a gate margin"):
        clear_prompt.draw_clear_prompt(model, rng, 1, 10.0)


def test_drawn_prompt_on_the_command_line(checkpoint: Path) -> None:
    got = run(checkpoint, "--draw-prompt", "9", "--seed", "4", "--min-gate-margin", "2e-3",
              "--last")
    assert len(got["ids"]) == 9 and min(got["gate_margins"]) >= 2e-3
    assert run(checkpoint, "--draw-prompt", "9", "--seed", "4", "--min-gate-margin", "2e-3",
               "--last")["ids"] == got["ids"]
