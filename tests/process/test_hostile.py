"""What hostile requests cost: little time, little memory, and nothing that stays. bench_hostile.py times innocents beside."""
from __future__ import annotations

import concurrent.futures
import json
import select
import socket
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import sheaf_grpc
from sheaf_server import HttpError, SheafServer, wait_for

CONTEXT = 4096
LONGEST_TOKEN = 26  # bytes, of the trained checkpoint's vocabulary
TEXT_BOUND = CONTEXT * LONGEST_TOKEN
MB = 1 << 20


@pytest.fixture(scope="module")
def server(nano: Path) -> Any:
    with SheafServer(nano, "--workers", "0", "--max-model-len", str(CONTEXT), "--max-preparing-bytes", "40MiB") as running:
        running.completion(prompt="x", max_tokens=1)
        yield running


def rss_mb(server: SheafServer, field: str = "VmRSS") -> float:
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise ValueError(field)


def peak_mb_of(server: SheafServer, work: Any) -> float:
    """How far beyond the start memory went while `work` ran; it has come back to within 10 % (or 16 MB) afterwards."""
    before = rss_mb(server)
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # VmHWM begins anew
    work()
    peak = rss_mb(server, "VmHWM")
    wait_for(lambda: rss_mb(server) <= before + max(before / 10, 16), 10, f"memory back at {before:.0f} MB")
    return peak - before


def text_of(size: int) -> str:
    line = "Once upon a time, in 1234 lands; they said: \"don't\"!\n"
    return (line * (size // len(line) + 1))[:size]


def refusal(server: SheafServer, path: str, body: Any) -> tuple[int, str]:
    with pytest.raises(HttpError) as caught:
        server.request("POST", path, body)
    return caught.value.status, json.dumps(caught.value.body)


def test_text_beyond_the_context_is_refused_before_it_is_tokenized(server: SheafServer) -> None:
    text = text_of(9_000_000)
    chat = {"messages": [{"role": "user", "content": text}]}
    for path, body in (("/v1/chat/completions", chat), ("/v1/completions", {"prompt": text}), ("/tokenize", chat),
                       ("/tokenize", {"prompt": text}), ("/v1/chat/completions/render", chat)):
        start = time.monotonic()
        status, message = refusal(server, path, body)
        assert status == 400 and "maximum context length is 4096" in message, path
        assert len(message) < 1000
        assert time.monotonic() - start < 2, f"{path}: tokenizing takes longer"


def test_long_text_within_the_bound_is_tokenized(server: SheafServer) -> None:
    text = text_of(TEXT_BOUND)
    tokens = server.request("POST", "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]
    assert server.request("POST", "/detokenize", {"tokens": tokens})["prompt"] == text
    status, message = refusal(server, "/v1/completions", {"prompt": text})
    assert status == 400 and " or more in the prompt" in message
    kept = server.completion(prompt=text, truncate_prompt_tokens=10, max_tokens=1, return_token_ids=True)
    assert kept["choices"][0]["prompt_token_ids"] == tokens[-10:]


def test_large_chats_cost_little_memory_and_give_it_back(server: SheafServer) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": text_of(8_000_000)}]}).encode()

    def five() -> None:
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            for status in pool.map(lambda _: refusal(server, "/v1/chat/completions", body)[0], range(5)):
                assert status in (400, 503)

    assert peak_mb_of(server, five) < 5 * 8 * 8


def test_sixty_megabytes_over_grpc(server: SheafServer) -> None:
    request = sheaf_grpc.pb.GenerateRequest()
    request.chat.messages.add(role="user", content=text_of(20_000_000))
    channel = grpc.insecure_channel(server.grpc, options=[("grpc.max_send_message_length", -1)])
    generate = channel.unary_stream("/sheaf.v1.Inference/Generate",
                                    request_serializer=sheaf_grpc.pb.GenerateRequest.SerializeToString,
                                    response_deserializer=sheaf_grpc.pb.GenerateResponse.FromString)

    def three() -> None:
        for call in [generate(request, timeout=60) for _ in range(3)]:
            with pytest.raises(grpc.RpcError) as caught:
                list(call)
            assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)

    assert peak_mb_of(server, three) < 3 * 20 * 8
    channel.close()


def test_allowed_token_ids_of_a_whole_body(server: SheafServer) -> None:
    many = b'{"prompt":"x","n":128,"allowed_token_ids":[1' + b",1" * 8_000_000 + b"]}"
    assert peak_mb_of(server, lambda: refusal(server, "/v1/completions", many)) < 8 * 16
    status, message = refusal(server, "/v1/completions", {"prompt": "x", "allowed_token_ids": [1] * 5000})
    assert status == 400 and "allowed_token_ids: at most 4096 entries, got 5000" in message


def test_bodies_share_a_budget_and_short_requests_have_room(server: SheafServer) -> None:
    host, port = server.ready["http"].rsplit(":", 1)
    head = b"POST /tokenize HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n{"
    large = {"prompt": text_of(3 * MB)}

    def begun() -> socket.socket:
        connection = socket.create_connection((host, int(port)), timeout=10)
        connection.sendall(head % (14 * MB))
        return connection

    held = [begun() for _ in range(2)]  # 28 of the 30 MiB that large ones may have

    def taken() -> bool:
        for i, connection in enumerate(held):
            if select.select([connection], [], [], 0)[0]:  # refused: what came before it is not given back yet
                connection.close()
                held[i] = begun()
        return refusal(server, "/tokenize", large)[0] == 503

    try:
        wait_for(taken, 20, "the budget is taken")
        assert server.request("POST", "/tokenize", {"prompt": "short"})["count"] > 0
    finally:
        for each in held:
            each.close()
    wait_for(lambda: refusal(server, "/tokenize", large)[0] == 400, 10, "the budget is free again")


def test_short_requests_are_not_behind_long_ones(server: SheafServer) -> None:
    """Long ones: they fill the context of a truncated prompt, a tenth of a second and more each."""
    body = json.dumps({"prompt": text_of(1_000_000), "truncate_prompt_tokens": 4, "max_tokens": 1}).encode()
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        long_ones = [pool.submit(server.request, "POST", "/v1/completions", body) for _ in range(24)]
        ended_before = 0
        while not all(each.done() for each in long_ones):
            server.request("POST", "/tokenize", {"prompt": "short"})
            ended_before += not all(each.done() for each in long_ones)
        for each in long_ones:
            each.result()
    assert ended_before >= 10, "short ones come through meanwhile"
