"""The gRPC face of a real server: streams, chats with tools, health, reflection, cancellation, deadlines, errors."""
from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from answers import generate
from sheaf_grpc import Client, collect, collect_chat, details_pb, pb, reflection_pb, status_pb, tokens_request
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
        list(client.generate(tokens_request([1, 2], 4000), timeout=0.2))
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - start < 5
    wait_for(lambda: server.metric("sheaf_kv_blocks_used") == 0, 10, "blocks of the late request")


def test_the_server_ends_late_calls_itself(client: Client) -> None:
    """Before its library does, which would send a second status. On a busy machine the client's timer may win."""
    for _ in range(5):
        with pytest.raises(grpc.RpcError) as caught:
            list(client.generate(tokens_request([1, 2], 4000), timeout=0.2))
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        if "grpc-status-details-bin" in dict(caught.value.trailing_metadata()):
            return
    pytest.fail("the details of the server's status never came")


def test_undecodable_requests_are_invalid(client: Client) -> None:
    for method in ("Generate", "Tokenize", "Detokenize", "GetModelInfo"):
        with pytest.raises(grpc.RpcError) as caught:
            client.raw(f"/sheaf.v1.Inference/{method}", b"\x0a\x7f")
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert f"sheaf.v1.{method}Request" in caught.value.details()


def test_health(client: Client) -> None:
    serving = b"\x08\x01"
    for service in (b"", b"sheaf.v1.Inference", b"grpc.health.v1.Health"):
        request = b"\n" + bytes([len(service)]) + service if service else b""
        assert client.raw("/grpc.health.v1.Health/Check", request) == serving
    with pytest.raises(grpc.RpcError) as caught:
        client.raw("/grpc.health.v1.Health/Check", b"\n\x04none")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    watch = client.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=10)
    assert next(watch) == serving
    watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_every_service_can_be_described(client: Client, version: str) -> None:
    ask = client.channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                                       request_serializer=reflection_pb.ServerReflectionRequest.SerializeToString,
                                       response_deserializer=reflection_pb.ServerReflectionResponse.FromString)
    listing = next(ask(iter([reflection_pb.ServerReflectionRequest(list_services="")]), timeout=10))
    names = [service.name for service in listing.list_services_response.service]
    assert {"sheaf.v1.Inference", "grpc.health.v1.Health"} <= set(names)
    questions = [reflection_pb.ServerReflectionRequest(file_containing_symbol=name) for name in names]
    for name, answer in zip(names, ask(iter(questions), timeout=10), strict=True):
        assert answer.file_descriptor_response.file_descriptor_proto, f"{name}: {answer.error_response}"


@pytest.fixture(scope="module")
def trained(nano: Path) -> Any:
    with SheafServer(nano, "--workers", "0") as running:
        client = Client(running.grpc)
        yield client
        client.close()


def _weather_request() -> Any:
    request = pb.GenerateRequest()
    request.chat.messages.add(role="user", content="What is the weather in Oslo?")
    for name, description, argument, kind in (("get_weather", "Get the weather of a city.", "city", "string"),
                                              ("set_timer", "Set a timer.", "minutes", "integer")):
        schema = {"type": "object", "properties": {argument: {"type": kind}}, "required": [argument]}
        request.chat.tools.add(name=name, description=description, parameters_json=json.dumps(schema))
    request.chat.enable_thinking = False
    request.sampling.temperature = 0.0
    request.stop.max_tokens = 200
    return request


def test_a_chat_calls_a_tool(trained: Client) -> None:
    info = trained.unary("GetModelInfo", pb.GetModelInfoRequest(), pb.GetModelInfoResponse)
    assert (info.tool_call_parser, info.reasoning_parser) == ("glm45", "glm45")
    answer = collect_chat(trained.generate(_weather_request()))
    assert [(call.name, json.loads(call.arguments), call.complete) for call in answer.calls] == [
        ("get_weather", {"city": "Oslo"}, True)]
    assert answer.finished.reason == pb.FINISH_REASON_TOOL_CALLS
    assert len(answer.ids) == answer.finished.usage.completion_tokens


def test_a_forced_call_and_a_constraint(trained: Client) -> None:
    request = _weather_request()
    request.chat.tool_choice.mode = pb.ToolChoice.MODE_REQUIRED
    request.chat.tool_choice.allowed.append("set_timer")
    answer = collect_chat(trained.generate(request))
    assert [(call.name, call.complete) for call in answer.calls] == [("set_timer", True)]
    assert isinstance(json.loads(answer.calls[0].arguments)["minutes"], int)

    request = _weather_request()
    request.chat.ClearField("tools")
    request.constraint.choice.texts.extend(["rain", "sun"])
    answer = collect_chat(trained.generate(request))
    assert answer.text in ("rain", "sun") and not answer.calls

    request = _weather_request()
    request.chat.tools[1].parameters_json = "{"
    with pytest.raises(grpc.RpcError) as caught:
        list(trained.generate(request))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "chat.tools[1].parameters_json" in str(dict(caught.value.trailing_metadata()))


def test_the_answer_to_a_call_goes_back(trained: Client) -> None:
    request = _weather_request()
    call = request.chat.messages.add(role="assistant").tool_calls.add(id="call_1", name="get_weather")
    call.arguments_json = '{"city": "Oslo"}'
    request.chat.messages.add(role="tool", tool_call_id="call_1", content="rain, 7 degrees")
    answer = collect_chat(trained.generate(request))
    assert not answer.calls and "rain" in answer.text
