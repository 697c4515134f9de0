"""Every form of --host starts, and HTTP and gRPC answer on the same addresses."""
from __future__ import annotations

import http.client
import socket
from pathlib import Path

import grpc
import pytest

from sheaf_grpc import Client
from sheaf_server import SheafServer

V4, V6 = "127.0.0.1", "::1"


def machine_has_v6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((V6, 0))
        return True
    except OSError:
        return False


def http_answers(address: str, port: int) -> bool:
    connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        connection.request("GET", "/live")
        return connection.getresponse().status == 200
    except ConnectionRefusedError:
        return False
    finally:
        connection.close()


def grpc_answers(address: str, port: int) -> bool:
    target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    client = Client(target)
    try:
        return client.raw("/grpc.health.v1.Health/Check", b"", timeout=10) == b"\x08\x01"  # SERVING
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        return False
    finally:
        client.close()


@pytest.mark.parametrize("host, answers", [
    ("127.0.0.1", {V4}),
    ("0.0.0.0", {V4}),
    ("::1", {V6}),
    ("[::1]", {V6}),
    ("::", {V4, V6}),
    ("[::]", {V4, V6}),
])
def test_both_faces_answer_on_the_same_addresses(nano: Path, host: str, answers: set[str]) -> None:
    if V6 in answers and not machine_has_v6():
        pytest.skip("this machine has no ::1")
    # A worker of its own: it must find the coordinator under each form, too.
    with SheafServer(nano, "--host", host, "--workers", "1") as server:
        ports = [int(address.rsplit(":", 1)[1]) for address in (server.ready["http"], server.grpc)]
        seen = {V4, V6} if machine_has_v6() else {V4}
        assert {address for address in seen if http_answers(address, ports[0])} == answers
        assert {address for address in seen if grpc_answers(address, ports[1])} == answers
