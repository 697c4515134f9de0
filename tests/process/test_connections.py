"""Connections under stress: descriptors that run out, half-closed clients, clients that never read, floods of resets, signals
while requests are prepared.

SHEAF_RESETS (default 60,000) is the number of calls that are begun and reset at once.
"""
from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import grpc
import pytest

from sheaf_grpc import Client, tokens_request
from sheaf_server import SheafServer, wait_for

RESETS = int(os.environ.get("SHEAF_RESETS", "60000"))


def address(text: str) -> tuple[str, int]:
    host, port = text.split("//")[-1].rsplit(":", 1)
    return host, int(port)


def resident_mb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 >> 20


def kept(http_connection: http.client.HTTPConnection, path: str) -> tuple[int, str]:
    """Over a connection that is there already: no descriptor is needed."""
    http_connection.request("GET", path)
    answer = http_connection.getresponse()
    return answer.status, answer.read().decode()


def is_closed(client: socket.socket) -> bool:
    """Whether the server has closed it by now, perhaps after a word."""
    client.setblocking(False)
    try:
        while client.recv(4096):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def grpc_works(server: SheafServer) -> bool:
    client = Client(server.grpc)
    try:
        return len(list(client.generate(tokens_request([1, 2, 3], 2), timeout=10))) > 0
    except grpc.RpcError:
        return False
    finally:
        client.close()


@pytest.mark.parametrize("limit, workers", [(64, "0"), (128, "1"), (1024, "2")])
def test_descriptors_run_out_and_come_back(tiny: Path, limit: int, workers: str) -> None:
    server = SheafServer(tiny, "--workers", workers)
    server.prefix = ["prlimit", f"--nofile={limit}:{limit}"]
    with server, contextlib.closing(Client(server.grpc)) as old_grpc:
        old_http = http.client.HTTPConnection(*address(server.http), timeout=20)
        assert kept(old_http, "/health")[0] == 200
        assert list(old_grpc.generate(tokens_request([1], 1)))
        for face in (server.http, server.grpc, server.http, server.grpc):
            crowd = [socket.create_connection(address(face), timeout=10) for _ in range(limit + 20)]
            # The newest are refused, and those who were there before are served.
            wait_for(lambda: sum(map(is_closed, crowd)) >= 20, 20, "the newest connections are closed")
            if face == server.http:  # gRPC waits 20 s for a client's first words
                assert not is_closed(crowd[0]), "the oldest of the crowd was refused"
            assert kept(old_http, "/health")[0] == 200
            assert list(old_grpc.generate(tokens_request([1], 1)))
            # The other face still takes newcomers.
            if face == server.http:
                assert grpc_works(server)
            else:
                assert server.healthy()
            for client in crowd:
                client.close()
            wait_for(lambda: server.healthy() and grpc_works(server), 20, "both faces take connections again")
        assert server.metric("sheaf_connections_refused_total", face="http") >= 20
        assert server.metric("sheaf_connections_refused_total", face="grpc") >= 20
        old_http.close()
        assert server.completion(prompt=[1, 2], max_tokens=2)["usage"]["completion_tokens"] == 2


def final_answer(client: socket.socket) -> bytes:
    """All that comes until the server closes, without interim answers."""
    data = b""
    while piece := client.recv(65536):
        data += piece
    while data.startswith(b"HTTP/1.1 100"):
        data = data[data.index(b"\r\n\r\n") + 4:]
    return data


@pytest.mark.parametrize("stream", [False, True])
def test_a_half_closed_client_gets_its_answer(tiny: Path, stream: bool) -> None:
    body = json.dumps({"prompt": [1, 2, 3], "max_tokens": 40, "ignore_eos": True, "stream": stream}).encode()
    with SheafServer(tiny, "--workers", "0") as server:
        with socket.create_connection(address(server.http), timeout=30) as client:
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            client.shutdown(socket.SHUT_WR)
            answer = final_answer(client)
        assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
        if stream:
            assert b"data: [DONE]" in answer
        else:
            assert json.loads(answer[answer.index(b"\r\n\r\n") + 4:])["usage"]["completion_tokens"] == 40
        assert server.metric("sheaf_requests_total", face="http", outcome="cancelled") == 0
        # One that has left is noticed all the same.
        client = socket.create_connection(address(server.http), timeout=30)
        body = body.replace(b'"max_tokens": 40', b'"max_tokens": 4000')
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        wait_for(lambda: server.metric("sheaf_requests_running") > 0, 20, "it runs")
        client.close()
        wait_for(lambda: server.metric("sheaf_requests_total", face="http", outcome="cancelled") == 1, 20, "it is noticed")


def test_clients_that_never_read_lose_their_slots(tiny: Path) -> None:
    with SheafServer(tiny, "--workers", "0", "--max-num-seqs", "8", "--max-model-len", "4096") as server:
        before = server.metric("sheaf_connections", face="http")
        clients = []
        for _ in range(4):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(address(server.http))
            body = json.dumps({"prompt": [1], "max_tokens": 4000, "ignore_eos": True, "stream": True, "logprobs": 20}).encode()
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            clients.append(client)
        wait_for(lambda: server.metric("sheaf_requests_running") > 0, 20, "they run")
        begun = time.monotonic()
        # 10 s without a byte taken, and what it takes to fill the kernel's buffers.
        wait_for(lambda: server.metric("sheaf_connections", face="http") <= before, 60, "all four are cut off")
        wait_for(lambda: server.metric("sheaf_requests_running") == 0, 10, "their slots are free")
        print(f"cut off after {time.monotonic() - begun:.1f} s")
        for client in clients:
            client.close()


def h2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def h2_field(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def begun_and_reset(stream: int, path: bytes) -> bytes:
    head = b"".join(h2_field(*pair) for pair in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"a"),
        (b"content-type", b"application/grpc"), (b"te", b"trailers")))
    message = b"\x12\x05hello" if path.endswith(b"Generate") else b""  # text
    return (h2_frame(1, 4, stream, head) + h2_frame(0, 1, stream, b"\x00" + struct.pack(">I", len(message)) + message) +
            h2_frame(3, 0, stream, struct.pack(">I", 8)))


def flood(server: SheafServer, calls: int, path: bytes) -> int:
    """Begins and resets calls; as often as it is thrown out it comes again. How often that was."""
    def swallow(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while client.recv(65536):
                pass

    thrown_out = 0
    left = calls
    while left > 0:
        client = socket.create_connection(address(server.grpc), timeout=30)
        reader = threading.Thread(target=swallow, args=(client,), daemon=True)
        reader.start()
        try:
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0, b""))
            stream = 1
            while left > 0:
                client.sendall(b"".join(begun_and_reset(stream + 2 * i, path) for i in range(100)))
                stream += 200
                left -= 100
        except OSError:
            thrown_out += 1
        client.close()
        reader.join(10)
    return thrown_out


@pytest.mark.parametrize("path", ["/sheaf.v1.Inference/Generate", "/sheaf.v1.Inference/Tokenize", "/sheaf.v1.Inference/GetModelInfo",
                                  "/grpc.health.v1.Health/Watch", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                                  "/no/such/method"])
def test_a_flood_of_resets_is_bounded(tiny: Path, path: str) -> None:
    with SheafServer(tiny, "--workers", "0") as server:
        assert grpc_works(server)
        before = resident_mb(server.pid)
        thrown_out = flood(server, RESETS, path.encode())
        peak = resident_mb(server.pid)
        wait_for(lambda: resident_mb(server.pid) <= before + 32, 60, "the memory is given back")
        print(f"{RESETS} resets, thrown out {thrown_out} times: {before} -> {peak} -> {resident_mb(server.pid)} MB")
        assert peak <= before + 500, (before, peak)
        assert server.metric("sheaf_connections", face="grpc") == 0
        if path.endswith("Generate"):
            assert thrown_out >= 1
            assert server.metric("sheaf_call_resets_total") >= 1000
        assert grpc_works(server)


def test_sigterm_while_requests_of_departed_clients_are_prepared(tiny: Path, seed: int) -> None:
    text = "many words, and a few more; " * 30_000
    for attempt in range(4):
        with SheafServer(tiny, "--workers", "0") as server:
            bodies = {"/tokenize": {"prompt": text}, "/v1/completions": {"prompt": text, "max_tokens": 1}}
            for path, body in list(bodies.items()) * 3:
                data = json.dumps(body).encode()
                client = socket.create_connection(address(server.http), timeout=30)
                client.sendall(b"POST %s HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(data), data))
                client.close()
            if attempt % 2:
                wait_for(server.healthy, 10, "it answers meanwhile")
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0, server.log()


def idle_streams(server: SheafServer, count: int) -> Iterator[socket.socket]:
    body = json.dumps({"prompt": [1, 2], "max_tokens": 4000, "ignore_eos": True, "stream": True}).encode()
    for _ in range(count):
        client = socket.create_connection(address(server.http), timeout=30)
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        yield client


def test_idle_streams_and_connections_cost_little(tiny: Path) -> None:
    count = 500
    # One runs for seconds, all others wait.
    with SheafServer(tiny, "--workers", "0", "--max-num-seqs", "1", "--max-num-queued-reqs", "2000") as server:
        server.completion(prompt=[1], max_tokens=1)
        start = resident_mb(server.pid)
        connections = [socket.create_connection(address(server.http)) for _ in range(count)]
        wait_for(lambda: server.metric("sheaf_connections", face="http") >= count, 30, "all are connected")
        connected = resident_mb(server.pid)
        streams = list(idle_streams(server, count))
        wait_for(lambda: server.metric("sheaf_requests_queued") >= count * 0.9, 60, "all wait")
        waiting = resident_mb(server.pid)
        print(f"{(connected - start) * 1024 / count:.0f} KiB a connection, {(waiting - connected) * 1024 / count:.0f} KiB a stream")
        assert connected - start <= count * 16 / 1024 + 8
        assert waiting - connected <= count * 48 / 1024 + 8
        for client in [*connections, *streams]:
            client.close()
        wait_for(lambda: server.metric("sheaf_requests_queued") == 0, 60, "all that left is forgotten")
