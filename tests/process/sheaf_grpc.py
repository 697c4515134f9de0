"""A gRPC client of sheaf.v1.Inference without generated stubs: protoc writes the messages, grpcio does the rest."""
from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

import grpc

_PROTO = Path(os.environ.get("SHEAF_PROTO_PATH", Path(__file__).resolve().parents[2] / "proto"))
_OUT = tempfile.TemporaryDirectory(prefix="sheaf-proto-")
atexit.register(_OUT.cleanup)
subprocess.run(["protoc", f"-I{_PROTO}", f"--python_out={_OUT.name}",
                *map(str, sorted(_PROTO.glob("**/*.proto")))], check=True)
sys.path.insert(0, _OUT.name)

pb: Any = importlib.import_module("sheaf.v1.inference_pb2")


def _load(name: str, path: str) -> Any:
    """Messages by file: the packages `google` and `grpc` are already imported from the system."""
    spec = importlib.util.spec_from_file_location(name, Path(_OUT.name) / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


status_pb = _load("sheaf_test_status_pb2", "google/rpc/status_pb2.py")
reflection_pb = _load("sheaf_test_reflection_pb2", "grpc/reflection/v1/reflection_pb2.py")
details_pb = _load("sheaf_test_error_details_pb2", "google/rpc/error_details_pb2.py")


class Client:
    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        """Plaintext without credentials. A connection of its own."""
        options = [("grpc.max_receive_message_length", 1 << 28)]
        if credentials is None:
            self.channel = grpc.insecure_channel(address, options=options)
        else:
            options.append(("grpc.use_local_subchannel_pool", 1))
            self.channel = grpc.secure_channel(address, credentials, options=options)

    def close(self) -> None:
        self.channel.close()

    def generate(self, request: Any, timeout: float = 60.0) -> Any:
        """The call: iterate over it for GenerateResponse messages; it can be cancelled."""
        method = self.channel.unary_stream("/sheaf.v1.Inference/Generate",
                                           request_serializer=pb.GenerateRequest.SerializeToString,
                                           response_deserializer=pb.GenerateResponse.FromString)
        return method(request, timeout=timeout)

    def unary(self, name: str, request: Any, reply: Any, timeout: float = 30.0) -> Any:
        method = self.channel.unary_unary(f"/sheaf.v1.Inference/{name}",
                                          request_serializer=type(request).SerializeToString,
                                          response_deserializer=reply.FromString)
        return method(request, timeout=timeout)

    def raw(self, path: str, request: bytes, timeout: float = 30.0) -> bytes:
        return self.channel.unary_unary(path)(request, timeout=timeout)


def tokens_request(ids: list[int], max_tokens: int, **sampling: Any) -> Any:
    request = pb.GenerateRequest()
    request.token_ids.ids.extend(ids)
    request.stop.max_tokens = max_tokens
    request.stop.ignore_eos = True
    request.sampling.temperature = 0.0
    for name, value in sampling.items():
        setattr(request.sampling, name, value)
    return request


@dataclass
class ToolCall:
    id: str
    name: str
    arguments: str = ""
    complete: bool = False


@dataclass
class ChatAnswer:
    """The deltas of a chat put together."""
    ids: list[int] = field(default_factory=list)
    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    finished: Any = None


def collect_chat(call: Iterator[Any]) -> ChatAnswer:
    answer = ChatAnswer()
    for response in call:
        delta = response.delta
        assert bool(delta.text) + bool(delta.reasoning) + bool(delta.tool_calls) <= 1, delta
        answer.ids += delta.token_ids
        answer.text += delta.text
        answer.reasoning += delta.reasoning
        for piece in delta.tool_calls:
            if piece.HasField("id"):
                assert piece.index == len(answer.calls)
                answer.calls.append(ToolCall(piece.id, piece.name))
            answer.calls[piece.index].arguments += piece.arguments_json
            answer.calls[piece.index].complete |= piece.complete
        if response.HasField("finished"):
            answer.finished = response.finished
    return answer


def collect(call: Iterator[Any]) -> tuple[list[int], str, Any]:
    """(token ids, text, Finished) of a whole stream."""
    ids: list[int] = []
    text, finished = "", None
    for response in call:
        if response.HasField("delta"):
            ids += response.delta.token_ids
            text += response.delta.text
        elif response.HasField("finished"):
            finished = response.finished
            text += finished.text
    return ids, text, finished
