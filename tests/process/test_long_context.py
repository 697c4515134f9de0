"""A context far beyond what the indexer chooses, served in chunks: the answer is the oracle's, memory is bounded.

SHEAF_LONG_CONTEXT_TOKENS=131072 is the length by hand (some twenty minutes, most of them the oracle's).
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import numpy as np

import clear_prompt
from answers import generate
from checkpoint_reader import CheckpointReader
from oracle_check import MIN_GATE_MARGIN, MIN_LOGIT_MARGIN
from sheaf_server import SheafServer

TOKENS = int(os.environ.get("SHEAF_LONG_CONTEXT_TOKENS", 3000))
CHUNK = 256  # of Sheaf's prefill
ORACLE_CHUNK = 128
ANSWER = 4
# Of the answer's own choices of positions: below it int16 activations may choose another one.
MIN_INDEX_MARGIN = 5e-4
MEGABYTE = 1 << 20


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_the_answer_after_a_long_context(make: Callable[..., Path], seed: int) -> None:
    checkpoint = make(arch="glm_moe_dsa", format="gptq", experts=8, top_k=4, layers=2, indexer_types="FF",
                      heads=2, q_lora=128, index_heads=4, index_dim=32, index_topk=64,
                      overrides={"max_position_embeddings": TOKENS + 64})
    reader = CheckpointReader(checkpoint)
    prompt = np.random.default_rng(seed).integers(0, 512, TOKENS).tolist()
    with SheafServer(checkpoint, "--workers", "0", "--kv-cache-dtype", "float32", "--max-num-batched-tokens",
                     str(CHUNK), "--max-model-len", str(TOKENS + 16), "--kv-cache-memory-bytes", "2GiB") as server:
        server.patience_seconds = 3600
        before = resident_bytes(server.pid)
        answer = generate(server, prompt, ANSWER)
        grown = resident_bytes(server.pid) - before
    # Per token: two layers of 128 + 32 floats and 32 of an index key. Scores of a chunk: CHUNK rows, or 64 MB.
    cache_bytes = TOKENS * 4 * 2 * (128 + 32 + 32)
    scores_bytes = min(4 * CHUNK * TOKENS, 64 * MEGABYTE + 4 * TOKENS)
    print(f"{TOKENS} tokens: {grown / MEGABYTE:.0f} MB more resident, {cache_bytes / MEGABYTE:.0f} MB of them the cache")
    assert grown < cache_bytes + scores_bytes + 96 * MEGABYTE

    model = reader.model("none")
    cache = model.new_cache()
    for first in range(0, TOKENS, ORACLE_CHUNK):
        output = model.forward(prompt[first:first + ORACLE_CHUNK], cache)
    equal, clear = 0, True
    for token in answer["ids"]:
        logits = output.logits[-1]
        # What an unclear choice leaves in the cache, all later tokens read.
        clear = (clear and clear_prompt.smallest_gate_margins(output)[-1] >= MIN_GATE_MARGIN
                 and clear_prompt.smallest_index_margins(output)[-1] >= MIN_INDEX_MARGIN
                 and np.diff(np.sort(logits)[-2:])[0] >= MIN_LOGIT_MARGIN)
        best = int(np.argmax(logits))
        assert token == best or not clear
        if token != best:
            break
        equal += 1
        output = model.forward([token], cache)
    print(f"{equal} of {ANSWER} tokens of the answer are the oracle's")
