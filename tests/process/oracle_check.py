"""A served checkpoint beside the oracle: logits of a prompt, of decoded tokens, and the tokens themselves."""
from __future__ import annotations

from pathlib import Path

import numpy as np

import clear_prompt
from answers import decoded, generate, logits
from checkpoint_reader import CheckpointReader, Model
from logits import relative_error
from sheaf_server import SheafServer

MIN_GATE_MARGIN = 5e-4  # of a sigmoid score: below it rounding may choose another expert
# The most that is asked where the cache rounds: a value beside a rounding step goes the other way now and then, and
# moves scores by about as much as the logits.
MAX_ROUNDED_GATE_MARGIN = 1e-2
MIN_LOGIT_MARGIN = 2e-2   # where the cache is exact


def serve(checkpoint: Path, *flags: str) -> SheafServer:
    return SheafServer(checkpoint, "--workers", "0", "--max-logprobs", "-1", "--max-model-len", "256", *flags)


def errors_of_prompt(server: SheafServer, prompt: list[int], wanted: np.ndarray) -> list[float]:
    got = logits(server, prompt, wanted.shape[1])
    return [relative_error(row, want) for row, want in zip(got, wanted)]


def errors_of_decoding(server: SheafServer, model: Model, prompt: list[int], count: int, min_gate_margin: float,
                       min_index_margin: float) -> list[float]:
    """Of the logits from which each of `count` greedy tokens came, as far as no choice was close."""
    ids, rows = decoded(server, prompt, count, model.config.vocab_size)
    output = model.forward(prompt + ids[:-1])
    clear = ((clear_prompt.smallest_gate_margins(output) >= min_gate_margin)
             & (clear_prompt.smallest_index_margins(output) >= min_index_margin))
    close = np.flatnonzero(~clear)
    end = int(close[0]) if len(close) else len(clear)
    first = len(prompt) - 1
    return [relative_error(row, want) for row, want in zip(rows, output.logits[first:end])]


def check(checkpoint: Path, seed: int, kv: str, rounding: str, tolerance: float, prompt_tokens: int = 24,
          min_index_margin: float = 0.0, flags: tuple[str, ...] = ()) -> float:
    """The largest error with an exact cache, the median with a rounding one; also the greedy tokens."""
    reader = CheckpointReader(checkpoint)
    model = reader.model(rounding)
    min_gate_margin = MIN_GATE_MARGIN if kv == "float32" else min(tolerance, MAX_ROUNDED_GATE_MARGIN)
    prompt = clear_prompt.draw_clear_prompt(model, np.random.default_rng(seed), prompt_tokens, min_gate_margin,
                                            min_index_margin)
    wanted, continuation = clear_prompt.greedy(model, prompt, 12)
    with serve(checkpoint, "--kv-cache-dtype", kv, *flags) as server:
        errors = errors_of_prompt(server, prompt, wanted.logits)
        errors += errors_of_decoding(server, model, prompt, 12, min_gate_margin, min_index_margin)
        error = max(errors) if kv == "float32" else float(np.median(errors))
        print(f"relative error {error:.2e}")
        assert error <= tolerance
        ids = generate(server, prompt, 12)["ids"]
    # A rounding cache differs by a step now and then (test_logits.py), so only plainly better tokens count.
    min_logit_margin = MIN_LOGIT_MARGIN * (1.0 if kv == "float32" else tolerance / 4e-4)
    for position, (got, want) in enumerate(zip(ids, continuation.ids)):
        clear = (continuation.margins[position] >= min_logit_margin
                 and continuation.gate_margins[position] >= min_gate_margin
                 and continuation.index_margins[position] >= min_index_margin)
        if not clear:
            break  # from here on both may rightly differ
        assert got == want, f"greedy token {position}: {ids} wanted {continuation.ids}"
    return error
