"""Log-probabilities of a long prompt: they leave in pieces over both faces, and cost memory in proportion to the answer."""
from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sheaf_grpc
from sheaf_server import SheafServer

TOKENS = 3000
TOP = 20
CHOICES = 6
MEGABYTE = 1 << 20


def memory_peak(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def prompt(seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 4000, TOKENS).tolist()


def post(server: SheafServer, body: dict[str, Any]) -> bytes:
    request = urllib.request.Request(server.http + "/v1/completions", data=json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=server.patience_seconds) as response:
        return response.read()


def test_they_leave_in_pieces_over_both_faces(nano: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # AddressSanitizer keeps 256 MB of freed memory by default: it would hide what is measured here.
    monkeypatch.setenv("ASAN_OPTIONS", ":".join(filter(None, (os.environ.get("ASAN_OPTIONS"), "quarantine_size_mb=8"))))
    ids = prompt(seed)
    with SheafServer(nano, "--max-num-batched-tokens", "256") as server:
        server.patience_seconds = 600
        body = {"prompt": ids, "max_tokens": 2, "temperature": 0, "ignore_eos": True, "prompt_logprobs": TOP}
        post(server, {**body, "prompt": ids[:600]})
        before = memory_peak(server.pid)
        text = post(server, {**body, "n": CHOICES})
        grown = memory_peak(server.pid) - before
        choices = json.loads(text)["choices"]
        rows = choices[0]["prompt_logprobs"]
        assert [len(choice["prompt_logprobs"]) for choice in choices] == [TOKENS] * CHOICES
        assert all(choice["prompt_logprobs"] == rows for choice in choices)
        assert rows[0] is None
        assert all(str(token) in row and len(row) in (TOP, TOP + 1) for token, row in zip(ids[1:], rows[1:]))
        print(f"an answer of {len(text) / MEGABYTE:.1f} MB: {grown / MEGABYTE:.1f} MB more at the peak")
        assert grown < 5 * len(text) + 64 * MEGABYTE

        client = sheaf_grpc.Client(server.grpc)
        request = sheaf_grpc.pb.GenerateRequest()
        request.token_ids.ids.extend(ids)
        request.stop.max_tokens = 2
        request.stop.ignore_eos = True
        request.output.prompt_logprobs = TOP
        entries = []
        messages = 0
        for message in client.generate(request, timeout=600):
            assert message.ByteSize() < MEGABYTE
            if message.HasField("delta") and message.delta.prompt_logprobs:
                assert not message.delta.token_ids
                messages += 1
                entries.extend(message.delta.prompt_logprobs)
        client.close()
    assert messages > 2
    assert len(entries) == TOKENS
    assert not entries[0].HasField("chosen")
    for row, entry in zip(rows[1:], entries[1:]):
        assert row[str(entry.chosen.token_id)]["rank"] == entry.chosen.rank
        assert [row[str(top.token_id)]["rank"] for top in entry.top] == list(range(1, TOP + 1))
