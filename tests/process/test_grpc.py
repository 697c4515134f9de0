"""The gRPC face of a real server: streams, health, reflection, cancellation, deadlines, rich errors."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from answers import generate
from sheaf_grpc import Client, collect, details_pb, pb, status_pb, tokens_request
from sheaf_server import SheafServer, wait_for


@pytest.fixture(scope="module")
def server(tiny: Path) -> Any:
    with SheafServer(tiny, "--workers", "2", "--served-model-name", "tiny") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: SheafServer) -> Any:
    client = Client(server.grpc)
    yield client
    client.close()


def test_tokens_in_tokens_out_equal_http(server: SheafServer, client: Client) -> None:
    ids, text, finished = collect(client.generate(tokens_request([1, 2, 3], 20)))
    over_http = generate(server, [1, 2, 3], 20)
    assert ids == over_http["ids"] and text == over_http["text"]
    assert finished.reason == pb.FINISH_REASON_LENGTH
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (3, 20)


def test_chat_and_text_and_logprobs(client: Client) -> None:
    request = pb.GenerateRequest()
    request.chat.messages.add(role="user", content="Grüße, 世界 🌾!")
    request.stop.max_tokens = 12
    request.output.logprobs = 2
    responses = list(client.generate(request))
    deltas = [r.delta for r in responses if r.HasField("delta")]
    assert all(len(d.logprobs) == len(d.token_ids) for d in deltas)
    for logprob in (entry for d in deltas for entry in d.logprobs):
        assert len(logprob.top) == 2 and logprob.top[0].logprob >= logprob.top[1].logprob and logprob.chosen.rank >= 1
    request = pb.GenerateRequest(text="once upon a time")
    request.stop.max_tokens = 3
    assert collect(client.generate(request))[2].usage.completion_tokens <= 3


def test_tokenize_there_and_back(client: Client) -> None:
    text = "Voilà, 你好 🌾"
    ids = client.unary("Tokenize", pb.TokenizeRequest(text=text, add_special_tokens=False),
                       pb.TokenizeResponse).token_ids
    assert client.unary("Detokenize", pb.DetokenizeRequest(token_ids=ids), pb.DetokenizeResponse).text == text
    info = client.unary("GetModelInfo", pb.GetModelInfoRequest(), pb.GetModelInfoResponse)
    assert list(info.served_names) == ["tiny"] and info.num_experts == 21 and info.ready


def test_bad_requests_name_the_field(client: Client) -> None:
    request = tokens_request([1], 4)
    request.sampling.top_p = 3.0
    with pytest.raises(grpc.RpcError) as caught:
        list(client.generate(request))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    trailers = dict(caught.value.trailing_metadata())
    status = status_pb.Status.FromString(trailers["grpc-status-details-bin"])
    bad = details_pb.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    assert [violation.field for violation in bad.field_violations] == ["sampling.top_p"]
    with pytest.raises(grpc.RpcError) as caught:
        list(client.generate(pb.GenerateRequest(model="another", text="x")))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_cancel_and_deadline_free_the_cache(server: SheafServer, client: Client) -> None:
    call = client.generate(tokens_request([1, 2], 4000))
    next(call)
    next(call)
    call.cancel()
    wait_for(lambda: server.metric("sheaf_kv_blocks_used") == 0, 10, "blocks of the cancelled request")
    start = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        list(client.generate(tokens_request([1, 2], 4000), timeout=0.5))
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - start < 5
    wait_for(lambda: server.metric("sheaf_kv_blocks_used") == 0, 10, "blocks of the late request")


def test_health_and_reflection(client: Client) -> None:
    serving = b"\x08\x01"
    for service in (b"", b"\n\x12sheaf.v1.Inference"):
        assert client.raw("/grpc.health.v1.Health/Check", service) == serving
    with pytest.raises(grpc.RpcError) as caught:
        client.raw("/grpc.health.v1.Health/Check", b"\n\x04none")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    watch = client.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=10)
    assert next(watch) == serving
    watch.cancel()
    listing = client.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(
        iter([b"\x3a\x00"]), timeout=10)
    assert b"sheaf.v1.Inference" in next(listing)
