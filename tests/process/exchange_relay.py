"""Somebody between routers and workers: sees, records, changes and adds bytes of their links (docs/exchange_protocol.md).

    with Between(pool) as between:      # before the pool starts
        between.on_frame = lambda way, frame: flipped(frame)
        with pool: ...

A worker tells its address over the control plane, so a relay stands there too and tells routers another one: what an
attacker who owns the network has for nothing.
"""
from __future__ import annotations

import contextlib
import importlib
import socket
import struct
import threading
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator

import grpc

import sheaf_grpc  # noqa: F401  (writes the messages that are imported next)
from pool_harness import Pool

pool_pb: Any = importlib.import_module("sheaf.v1.pool_pb2")

HELLO, ANSWER, PROOF = 64, 48, 40
HEADER, TAG = 64, 16
TO_WORKER, TO_ROUTER = "to worker", "to router"
REPLAYED, WRONG_KEY, PROVE = 8, 5, 9
_SESSION = "/sheaf.v1.Coordinator/WorkerSession"


def verdict(answer: bytes) -> int:
    assert answer[:4] == b"SHEA" and len(answer) == ANSWER, answer
    return struct.unpack_from("<I", answer, 4)[0]


def read_exactly(connection: socket.socket, count: int) -> bytes:
    """b"" when the other side ends."""
    parts = bytearray()
    while len(parts) < count:
        more = connection.recv(count - len(parts))
        if not more:
            return b""
        parts += more
    return bytes(parts)


@dataclass
class Recording:
    """One link's bytes as they passed, hello included."""
    worker: tuple[str, int]  # where it really listens
    to_worker: bytearray = field(default_factory=bytearray)
    to_router: bytearray = field(default_factory=bytearray)


class Between:
    def __init__(self, pool: Pool, integrity: str = "mac") -> None:
        self.recordings: list[Recording] = []
        # What becomes of a frame (header, tag and payload): the bytes that go on.
        self.on_frame: Callable[[str, bytes], bytes] = lambda way, frame: frame
        self._tag = TAG if integrity == "mac" else 0
        self._coordinator = pool.cluster
        self._ending = threading.Event()
        self._sockets: list[socket.socket] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(
            "sheaf.v1.Coordinator", {"WorkerSession": grpc.stream_stream_rpc_method_handler(self._session)})])
        port = self._server.add_insecure_port("127.0.0.1:0")
        for worker in pool.workers:
            worker.command[worker.command.index("--coordinator") + 1] = f"127.0.0.1:{port}"

    def __enter__(self) -> Between:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._server.stop(None)
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    # The control plane.

    def _session(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        with grpc.insecure_channel(self._coordinator, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.stream_stream(_SESSION)(self._rewritten(messages))
            context.add_callback(call.cancel)
            try:
                yield from call
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

    def _rewritten(self, messages: Iterator[bytes]) -> Iterator[bytes]:
        with contextlib.suppress(grpc.RpcError):
            for raw in messages:
                message = pool_pb.FromWorker.FromString(raw)
                if message.HasField("hello"):
                    told = [self._listen(address) for address in message.hello.addresses]
                    message.hello.addresses[:] = told
                    raw = message.SerializeToString()
                yield raw

    # The links.

    def _listen(self, address: str) -> str:
        kind, host, port = address.split(":")
        assert kind == "tcp", address
        listening = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(listening)
        threading.Thread(target=self._accept, args=(listening, (host, int(port))), daemon=True).start()
        return f"tcp:127.0.0.1:{listening.getsockname()[1]}"

    def _accept(self, listening: socket.socket, worker: tuple[str, int]) -> None:
        while not self._ending.is_set():
            try:
                router, _ = listening.accept()
                there = socket.create_connection(worker)
            except OSError:
                return
            for end in (router, there):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [router, there]
            recording = Recording(worker)
            self.recordings.append(recording)
            for way, source, target, hello, kept in (
                    (TO_WORKER, router, there, HELLO + PROOF, recording.to_worker),
                    (TO_ROUTER, there, router, 2 * ANSWER, recording.to_router)):
                threading.Thread(target=self._pump, args=(way, source, target, hello, kept), daemon=True).start()

    def _pump(self, way: str, source: socket.socket, target: socket.socket, hello: int, kept: bytearray) -> None:
        try:
            while hello > 0:  # as it comes: each message waits for the other side's
                part = source.recv(hello)
                if not part:
                    return
                hello -= len(part)
                kept += part
                target.sendall(part)
            while head := read_exactly(source, HEADER + self._tag):
                count = struct.unpack_from("<Q", head, 56)[0]
                payload = read_exactly(source, count)
                if len(payload) < count:
                    return
                frame = head + payload
                if len(kept) < 1 << 20:
                    kept += frame
                target.sendall(self.on_frame(way, frame))
        except OSError:
            pass
        finally:
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
