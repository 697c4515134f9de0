"""TLS: who gets in, who does not and how that is told, and certificates that change under load."""
from __future__ import annotations

import datetime
import re
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import grpc
import pytest

pytest.importorskip("cryptography", reason="python3-cryptography is missing (deploy/install_dependencies.sh --tests)")

import pool_client
import sheaf_grpc
from certificates import COORDINATOR, ROUTER, SPIFFE, WORKER, Authority, Pair
from pool_client import pool_pb
from pool_harness import free_port
from sheaf_server import BINARY, SheafServer, run_to_end, wait_for

ALLOWED = ",".join([WORKER, ROUTER, COORDINATOR])
MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def strangers_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Of the same name as ours, with another key."""
    return Authority(tmp_path_factory.mktemp("stranger"))


def cluster_flags(ca: Authority, pair: Pair, allowed: str = ALLOWED) -> list[str]:
    return ["--cluster-tls-cert", str(pair.cert), "--cluster-tls-key", str(pair.key), "--cluster-tls-ca", str(ca.cert),
            "--cluster-allowed-names", allowed]


class Process:
    """A `sheaf` process with its log."""

    def __init__(self, folder: Path, name: str, *command: str) -> None:
        self.log_path = folder / f"{name}.log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([BINARY, *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

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

    def __init__(self, ca: Authority, checkpoint: Path, folder: Path) -> None:
        self.folder, self.checkpoint = folder, checkpoint
        self.port, self.metrics_port = free_port(), free_port()
        pair = ca.issue("coordinator", uris=[COORDINATOR])
        self.coordinator = Process(folder, "coordinator", "coordinator", str(checkpoint), "--cluster-port", str(self.port),
                                   "--metrics-port", str(self.metrics_port), "--workers", "1",
                                   *cluster_flags(ca, pair))
        self.address = f"127.0.0.1:{self.port}"
        wait_for(lambda: "cluster on" in self.coordinator.log() or self.coordinator.process.poll() is not None, 60,
                 "the coordinator listens")
        assert self.coordinator.process.poll() is None, self.coordinator.log()

    def metric(self, name: str, **labels: str) -> float:
        return pool_client.metric(f"127.0.0.1:{self.metrics_port}", name, **labels)

    def refused(self, cause: str) -> float:
        return self.metric("sheaf_tls_refused_total", listener="cluster", cause=cause)

    def status(self, ca: Authority, pair: Pair | None) -> Any:
        """Asks for the pool's status as a client with these certificates would."""
        credentials = grpc.ssl_channel_credentials(ca.cert.read_bytes(),
                                                   pair.key_bytes() if pair else None,
                                                   pair.cert_bytes() if pair else None)
        with grpc.secure_channel(self.address, credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            method = channel.unary_unary("/sheaf.v1.Pool/GetStatus",
                                         request_serializer=pool_pb.GetPoolStatusRequest.SerializeToString,
                                         response_deserializer=pool_pb.PoolStatus.FromString)
            return method(pool_pb.GetPoolStatusRequest(), timeout=10)


@pytest.fixture(scope="module")
def pool(ca: Authority, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsPool]:
    made = TlsPool(ca, tiny, tmp_path_factory.mktemp("pool"))
    yield made
    made.coordinator.stop()


def test_an_allowed_name_is_served(pool: TlsPool, ca: Authority) -> None:
    for name, uris, dns in (("uri", [ROUTER], ()), ("several", ["spiffe://other/x", WORKER], ("a.example",))):
        status = pool.status(ca, ca.issue(name, uris=uris, dns=("localhost", *dns)))
        assert status is not None
    done = run_to_end("pool", "status", "--coordinator", pool.address, *cluster_flags(ca, ca.issue("op", uris=[ROUTER])))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("cause", ["plaintext", "no_certificate", "wrong_ca", "expired", "wrong_name"])
def test_everybody_else_is_refused_counted_and_told(pool: TlsPool, ca: Authority, strangers_ca: Authority,
                                                    cause: str) -> None:
    before = pool.refused(cause)
    with pytest.raises(grpc.RpcError) as refusal:
        if cause == "plaintext":
            pool_client.status(pool.address)
        else:
            pair = {"no_certificate": lambda: None,
                    "wrong_ca": lambda: strangers_ca.issue("thief", uris=[WORKER]),
                    "expired": lambda: ca.issue("late", uris=[WORKER], until=-MINUTE),
                    # Nearly the same names, and the common name of a friend.
                    "wrong_name": lambda: ca.issue(WORKER.rpartition("/")[2], dns=("sheaf-worker",), uris=[
                        WORKER + "x", WORKER[:-1], SPIFFE + "Sheaf-worker", WORKER + "/"])}[cause]()
            pool.status(ca, pair)
    assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE
    wait_for(lambda: pool.refused(cause) > before, 10, f"{cause} is counted")
    assert re.search(rf"TLS: cluster: refused \({cause}\)", pool.coordinator.log())


def test_a_flood_of_refusals_is_few_lines(pool: TlsPool) -> None:
    before = pool.refused("plaintext")
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", pool.port), timeout=10) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            try:
                while stranger.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    wait_for(lambda: pool.refused("plaintext") >= before + 200, 10, "all are counted")
    assert pool.coordinator.log().count("refused (plaintext)") <= 3


def test_only_the_newest_version_between_our_processes(pool: TlsPool, ca: Authority) -> None:
    pair = ca.issue("versions", uris=[ROUTER])

    def handshake(version: ssl.TLSVersion) -> str | None:
        context = ssl.create_default_context(cafile=str(ca.cert))
        context.load_cert_chain(str(pair.cert), str(pair.key))
        context.check_hostname = False
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(("127.0.0.1", pool.port), timeout=10) as raw, context.wrap_socket(raw) as secure:
            return secure.version()

    assert handshake(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        handshake(ssl.TLSVersion.TLSv1_2)


def worker(pool: TlsPool, name: str, *flags: str) -> Process:
    return Process(pool.folder, name, "worker", str(pool.checkpoint), "--coordinator", pool.address, "--worker-threads",
                   "1", *flags)


def test_only_who_has_a_workers_identity_joins(pool: TlsPool, ca: Authority, strangers_ca: Authority) -> None:
    plain = worker(pool, "plain")
    thief_pair = strangers_ca.issue("thief", uris=[WORKER])
    thief = worker(pool, "thief", "--cluster-tls-cert", str(thief_pair.cert), "--cluster-tls-key", str(thief_pair.key),
                   "--cluster-tls-ca", str(ca.cert), "--cluster-allowed-names", ALLOWED)
    friend = None
    me = ca.issue("observer", uris=[ROUTER])
    try:
        before = pool.refused("wrong_ca"), pool.refused("plaintext")
        wait_for(lambda: pool.refused("wrong_ca") > before[0] + 1 and pool.refused("plaintext") > before[1] + 1, 60,
                 "both strangers have tried twice")
        assert not pool.status(ca, me).workers
        friend = worker(pool, "friend", *cluster_flags(ca, ca.issue("worker", uris=[WORKER])))
        wait_for(lambda: len(pool.status(ca, me).workers) == 1, 60, "the friend joins")
        assert pool.status(ca, me).workers[0].pid == friend.process.pid
    finally:
        for process in (plain, thief, *([friend] if friend else [])):
            process.stop()


def test_a_worker_does_not_tell_a_false_coordinator(ca: Authority, strangers_ca: Authority, tiny: Path,
                                                    tmp_path: Path) -> None:
    """A coordinator of another CA that accepts everybody hears no hello."""
    false = TlsPool(strangers_ca, tiny, tmp_path)
    pair = ca.issue("honest", uris=[WORKER])
    honest = worker(false, "honest", *cluster_flags(ca, pair))
    try:
        wait_for(lambda: "TLS: cluster: refused (wrong_ca)" in honest.log(), 60, "the worker refuses it")
        assert not false.status(strangers_ca, strangers_ca.issue("observer", uris=[ROUTER])).workers
    finally:
        honest.stop()
        false.coordinator.stop()


PROMPT = {"prompt": [5, 6, 7, 8, 9], "max_tokens": 24, "temperature": 0, "return_token_ids": True}


def generate(channel: grpc.Channel) -> list[int]:
    request = sheaf_grpc.pb.GenerateRequest()
    request.token_ids.ids.extend(PROMPT["prompt"])
    request.sampling.max_tokens = PROMPT["max_tokens"]
    request.sampling.temperature = 0
    method = channel.unary_stream("/sheaf.v1.Inference/Generate",
                                  request_serializer=sheaf_grpc.pb.GenerateRequest.SerializeToString,
                                  response_deserializer=sheaf_grpc.pb.GenerateResponse.FromString)
    return [bytes(answer.SerializeToString(deterministic=True)) for answer in method(request, timeout=60)]
