"""`sheaf repack`: the same model to the bit in every file format, and a clear end when it cannot be."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from answers import Answer, generate
from sheaf_server import SheafServer, run_to_end

FORMATS = ("gptq", "gptq_v2", "auto-round", "compressed-tensors")


def answers(checkpoint: Path, seed: int) -> list[Answer]:
    rng = np.random.default_rng(seed)
    with SheafServer(checkpoint, "--workers", "0") as server:
        return [generate(server, rng.integers(0, 512, size=size).tolist(), 16) for size in (1, 20, 70)]


@pytest.mark.parametrize("source, options", [
    ("gptq", {}), ("gptq_v2_asym", {}), ("autoround", {}), ("ct_asym", {}), ("awq", {}),
    ("autoround", {"arch": "glm_moe_dsa"}), ("gptq", {"arch": "glm_moe_dsa"})])
def test_every_format_serves_the_same_bytes(make: Callable[..., Path], tmp_path: Path, seed: int, source: str,
                                            options: dict[str, Any]) -> None:
    original = make(format=source, experts=21, **options)
    wanted = answers(original, seed)
    for format_name in FORMATS:
        done = run_to_end("repack", str(original), str(tmp_path / format_name), "--format", format_name)
        assert done.returncode == 0, done.stderr
        assert answers(tmp_path / format_name, seed) == wanted, format_name


def test_the_trained_checkpoint_speaks_the_same_in_every_format(nano: Path, nano_questions: list[dict[str, Any]],
                                                                 tmp_path: Path) -> None:
    def texts(checkpoint: Path) -> list[str]:
        with SheafServer(checkpoint, "--workers", "2") as server:
            body = server.completion(prompt=[question["prompt"] for question in nano_questions], add_special_tokens=False,
                                     max_tokens=24, temperature=0, skip_special_tokens=False)
            return [choice["text"] for choice in body["choices"]]

    wanted = texts(nano)
    assert len(set(wanted)) > len(wanted) // 2
    for format_name in FORMATS:
        done = run_to_end("repack", str(nano), str(tmp_path / format_name), "--format", format_name)
        assert done.returncode == 0, done.stderr
        assert texts(tmp_path / format_name) == wanted, format_name


@pytest.mark.parametrize("arguments, words", [
    (["{source}", "{source}", "--format", "gptq"], "exists already"),
    (["{source}", "{out}", "--format", "fp8"], "--format"),
    (["{source}/none", "{out}", "--format", "gptq"], "none"),
    (["{eight_bit}", "{out}", "--format", "gptq"], "model.layers.0.mlp.down_proj.qweight: 8-bit weights"),
    (["{bytes}", "{out}", "--format", "compressed-tensors"], ".weight: 8-bit weights"),
    (["{mixed}", "{out}", "--format", "auto-round"], "lm_head.qweight: 8-bit weights"),
])
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(make: Callable[..., Path], tmp_path: Path,
                                                            arguments: list[str], words: str) -> None:
    names: dict[str, Any] = {"source": make(format="gptq", experts=21), "out": tmp_path / "out"}
    for name, format_name in (("eight_bit", "gptq_w8"), ("bytes", "ct_int8"), ("mixed", "mixed48")):
        names[name] = make(format=format_name, experts=21)
    done = run_to_end("repack", *(argument.format(**names) for argument in arguments))
    assert done.returncode == 1
    assert words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert list(tmp_path.iterdir()) == []
