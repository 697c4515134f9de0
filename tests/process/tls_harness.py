"""Processes that speak TLS, for tests: a coordinator alone, `sheaf serve`, and what a client may present to them."""
from __future__ import annotations

import datetime
import http.client
import json
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any, Sequence

import grpc

import pool_client
from certificates import COORDINATOR, ROUTER, WORKER, Authority, Pair
from pool_client import pool_pb
from pool_harness import free_port
from sheaf_grpc import Client, collect, tokens_request
from sheaf_server import BINARY, SheafServer, wait_for

ALLOWED = ",".join([WORKER, ROUTER, COORDINATOR])
MINUTE = datetime.timedelta(minutes=1)


def cluster_flags(ca: Authority, pair: Pair, allowed: str = ALLOWED) -> list[str]:
    return ["--cluster-tls-cert", str(pair.cert), "--cluster-tls-key", str(pair.key), "--cluster-tls-ca", str(ca.cert),
            "--cluster-allowed-names", allowed]


def context_of(ca: Authority, pair: Pair | None) -> ssl.SSLContext:
    """Of a client that trusts the CA and shows the certificate, if any."""
    made = ssl.create_default_context(cafile=str(ca.cert))
    if pair:
        made.load_cert_chain(str(pair.cert), str(pair.key))
    return made


def https(address: str, ca: Authority, method: str, path: str, body: Any = None,
          pair: Pair | None = None) -> tuple[int, str]:
    connection = http.client.HTTPSConnection(*address.rsplit(":", 1), timeout=60, context=context_of(ca, pair))
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None,
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def figure(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples in TEXT that carry these labels."""
    total = 0.0
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        if head.split("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
            total += float(value)
    return total


class Process:
    """A `sheaf` process with its log."""

    def __init__(self, folder: Path, name: str, *command: str, prefix: Sequence[str] = ()) -> None:
        self.log_path = folder / f"{name}.log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([*prefix, BINARY, *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class TlsPool:
    """A coordinator with mutual TLS, alone: who may join it?"""

    def __init__(self, ca: Authority, checkpoint: Path, folder: Path, *flags: str, allowed: str = ALLOWED,
                 uri: str = COORDINATOR) -> None:
        self.ca, self.folder, self.checkpoint = ca, folder, checkpoint
        self.reader: Pair | None = None  # who reads /metrics shows it
        self.port, self.metrics_port = free_port(), free_port()
        pair = ca.issue("coordinator", uris=[uri])
        self.coordinator = Process(folder, "coordinator", "coordinator", str(checkpoint), "--cluster-port", str(self.port),
                                   "--metrics-port", str(self.metrics_port), "--workers", "1",
                                   *cluster_flags(ca, pair, allowed), *flags)
        self.metrics_tls = "--metrics-tls" in flags
        self.address = f"127.0.0.1:{self.port}"
        wait_for(lambda: "cluster on" in self.coordinator.log() or self.coordinator.process.poll() is not None, 60,
                 "the coordinator listens")
        assert self.coordinator.process.poll() is None, self.coordinator.log()

    def metric(self, name: str, **labels: str) -> float:
        if not self.metrics_tls:
            return pool_client.metric(f"127.0.0.1:{self.metrics_port}", name, **labels)
        status, text = https(f"127.0.0.1:{self.metrics_port}", self.ca, "GET", "/metrics", pair=self.reader)
        assert status == 200, text
        return figure(text, name, **labels)

    def refused(self, cause: str, listener: str = "cluster") -> float:
        return self.metric("sheaf_tls_refused_total", listener=listener, cause=cause)

    def status(self, ca: Authority, pair: Pair | None, token: str = "") -> Any:
        """Asks for the pool's status as a client with these certificates would."""
        return self.call(ca, pair, "GetStatus", pool_pb.GetPoolStatusRequest(), pool_pb.PoolStatus, token)

    def call(self, ca: Authority, pair: Pair | None, name: str, request: Any, reply: Any, token: str = "") -> Any:
        """A call of sheaf.v1.Pool; raises grpc.RpcError."""
        credentials = grpc.ssl_channel_credentials(ca.cert.read_bytes(),
                                                   pair.key_bytes() if pair else None,
                                                   pair.cert_bytes() if pair else None)
        with grpc.secure_channel(self.address, credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            method = channel.unary_unary(f"/sheaf.v1.Pool/{name}", request_serializer=type(request).SerializeToString,
                                         response_deserializer=reply.FromString)
            return method(request, timeout=10, metadata=[("authorization", f"Bearer {token}")] if token else [])


def worker(pool: TlsPool, name: str, *flags: str) -> Process:
    return Process(pool.folder, name, "worker", str(pool.checkpoint), "--coordinator", pool.address, "--worker-threads",
                   "1", *flags)


class TlsServer(SheafServer):
    """`sheaf serve`, clients and cluster over TLS."""

    def __init__(self, checkpoint: Path, ca: Authority, *flags: str, client_ca: bool = False) -> None:
        self.ca, self.pair = ca, ca.issue("server", uris=[COORDINATOR])
        self.reader: Pair | None = None  # who reads /metrics shows it
        clients = ["--tls-cert", str(self.pair.cert), "--tls-key", str(self.pair.key)]
        if client_ca:
            clients += ["--tls-client-ca", str(ca.cert)]
        super().__init__(checkpoint, *clients, *cluster_flags(ca, ca.issue("member", uris=[WORKER])), *flags)

    def rotate(self) -> None:
        """Another certificate of the same names, and another for the cluster; file after file."""
        self.ca.issue("server", uris=[COORDINATOR])
        self.ca.issue("member", uris=[WORKER])

    def credentials(self, pair: Pair | None = None) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca.cert.read_bytes(), pair.key_bytes() if pair else None,
                                            pair.cert_bytes() if pair else None)

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        return context_of(self.ca, pair)

    def https(self, method: str, path: str, body: Any = None, pair: Pair | None = None) -> tuple[int, str]:
        return https(self.ready["http"], self.ca, method, path, body, pair)

    def figure(self, name: str, **labels: str) -> float:
        return figure(self.https("GET", "/metrics", pair=self.reader)[1], name, **labels)


def over_grpc(server: TlsServer, prompt: list[int], tokens: int) -> tuple[list[int], str]:
    client = Client(server.grpc, server.credentials())
    try:
        return collect(client.generate(tokens_request(prompt, tokens)))[:2]
    finally:
        client.close()


def over_https(server: TlsServer, prompt: list[int], tokens: int) -> str:
    status, text = server.https("POST", "/v1/completions", {"prompt": prompt, "max_tokens": tokens, "temperature": 0,
                                                            "ignore_eos": True})
    assert status == 200, text
    return json.loads(text)["choices"][0]["text"]


def presented(address: str) -> bytes | None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(address.rsplit(":", 1), timeout=10) as raw, context.wrap_socket(raw) as secure:
        return secure.getpeercert(binary_form=True)
