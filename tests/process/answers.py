"""What the process tests read out of a completion: token ids, log-probabilities and logits.

Everything goes by token id (`return_tokens_as_token_ids`), since token texts of half characters are alike.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from sheaf_server import SheafServer

Answer = dict[str, Any]


def generate(server: SheafServer, prompt: list[int], max_tokens: int, **fields: Any) -> Answer:
    """{"ids", "logprobs"} of a greedy (or as told) completion; exact floats, so equality means equal bits."""
    fields = {"temperature": 0, "logprobs": 3, "ignore_eos": True, **fields}
    body = server.completion(prompt=prompt, max_tokens=max_tokens, return_token_ids=True,
                             return_tokens_as_token_ids=True, **fields)
    choice = body["choices"][0]
    return {"ids": choice["token_ids"], "text": choice["text"],
            "logprobs": choice["logprobs"]["token_logprobs"], "top": choice["logprobs"]["top_logprobs"]}


def counts(usage: dict[str, Any]) -> dict[str, Any]:
    """Of a usage, what the request alone decides: not what was cached."""
    return {name: value for name, value in usage.items() if name != "prompt_tokens_details"}


def _row(by_id: dict[int, float], vocab: int) -> np.ndarray:
    row = np.full(vocab, np.nan)
    for token, value in by_id.items():
        row[token] = value
    assert np.isfinite(row).all(), "a token of the vocabulary has no log-probability"
    return row


def logits(server: SheafServer, prompt: list[int], vocab: int) -> np.ndarray:
    """[len(prompt), vocab]: log-probabilities, which are logits up to a constant in each row."""
    body = server.completion(prompt=prompt, max_tokens=1, temperature=0, logprobs=-1, prompt_logprobs=-1,
                             ignore_eos=True, return_tokens_as_token_ids=True, return_token_ids=True)
    choice = body["choices"][0]
    rows = [_row({int(token): entry["logprob"] for token, entry in row.items()}, vocab)
            for row in choice["prompt_logprobs"][1:]]
    top = choice["logprobs"]["top_logprobs"][0]
    rows.append(_row({int(key.removeprefix("token_id:")): value for key, value in top.items()}, vocab))
    return np.stack(rows)


def decoded(server: SheafServer, prompt: list[int], count: int, vocab: int) -> tuple[list[int], np.ndarray]:
    """`count` greedy tokens, and the log-probabilities [count, vocab] that each was chosen from."""
    body = server.completion(prompt=prompt, max_tokens=count, temperature=0, logprobs=-1, ignore_eos=True,
                             return_tokens_as_token_ids=True, return_token_ids=True)
    choice = body["choices"][0]
    rows = [_row({int(key.removeprefix("token_id:")): value for key, value in top.items()}, vocab)
            for top in choice["logprobs"]["top_logprobs"]]
    return choice["token_ids"], np.stack(rows)
