"""`sheaf inspect` and `sheaf serve` agree on damaged checkpoints: no crash, no hang, one line, the same words.

$SHEAF_MUTATIONS cases (40 unless told), drawn from $SHEAF_TEST_SEED. $SHEAF_MUTATION=17 runs that
one alone.
"""
from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Callable

from checkpoint_faults import copy_checkpoint
from checkpoint_mutations import mutate
from preflight_verdicts import inspect_verdict, serve_verdict

CASES = int(os.environ.get("SHEAF_MUTATIONS", "40"))
ONLY = os.environ.get("SHEAF_MUTATION")
AT_ONCE = 2

SMALL = dict(experts=4, layers=2, hidden=128, intermediate=128, moe_width=128, heads=2, top_k=2)
SOURCES = [
    dict(SMALL, format="gptq", kv_heads=1),
    dict(SMALL, format="ct", kv_heads=1, shards=2, config_style="v5"),
    dict(SMALL, format="autoround", kv_heads=1, shards=2, split_linears=True),
    dict(SMALL, format="gptq", arch="glm_moe_dsa", q_lora=128, kv_lora=128, index_heads=2),
]


def test_inspect_and_serve_agree_on_mutated_checkpoints(make: Callable[..., Path], tmp_path: Path, seed: int) -> None:
    sources = [make(**options) for options in SOURCES]

    def disagreement(case: int) -> str:
        random = Random(f"{seed} {case}")
        folder = copy_checkpoint(sources[case % len(sources)], tmp_path / f"case-{case}")
        done = mutate(folder, random)
        try:
            inspected, served = inspect_verdict(folder), serve_verdict(folder)
            if inspected == served:
                shutil.rmtree(folder)
                return ""
            return f"case {case} ({done}):\n  inspect {inspected}\n  serve   {served}"
        except Exception as error:  # every case is tried, whatever the others did
            return f"case {case} ({done}): {type(error).__name__} {error}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [text for text in pool.map(disagreement, range(CASES) if ONLY is None else [int(ONLY)]) if text]
    assert not found, f"SHEAF_TEST_SEED={seed}\n" + "\n".join(found)
