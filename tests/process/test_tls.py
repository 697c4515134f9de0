"""TLS: who gets in, who does not and how that is told, and certificates that change under load."""
from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from pathlib import Path
from typing import Iterator

import grpc
import pytest

pytest.importorskip("cryptography", reason="python3-cryptography is missing (deploy/install_dependencies.sh --tests)")

import pool_client
from bench_tls_rotation import rotate_under_load
from certificates import ROUTER, SPIFFE, WORKER, Authority
from sheaf_grpc import Client, collect, tokens_request
from sheaf_server import SheafServer, run_to_end, wait_for
from tls_harness import (ALLOWED, MINUTE, TlsPool, TlsServer, cluster_flags, over_grpc, over_https, presented, worker)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def strangers_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Of the same name as ours, with another key."""
    return Authority(tmp_path_factory.mktemp("stranger"))


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
    # The line is written by another thread than the one that counts.
    wait_for(lambda: re.search(rf"TLS: cluster: refused \({cause}\)", pool.coordinator.log()), 10, f"{cause} is told")


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


def test_a_pool_over_tls_answers_with_the_same_bytes(tiny: Path, ca: Authority) -> None:
    prompts = [[n, n + 1, n + 2] for n in range(1, 6)]
    with SheafServer(tiny, "--workers", "0") as plain:
        client = Client(plain.grpc)
        wanted = [collect(client.generate(tokens_request(prompt, 20)))[:2] for prompt in prompts]
        client.close()
    with TlsServer(tiny, ca, "--workers", "2") as server:
        assert [over_grpc(server, prompt, 20) for prompt in prompts] == wanted
        assert [over_https(server, prompt, 20) for prompt in prompts] == [text for _, text in wanted]
        end = ca.end_of("server")
        assert server.figure("sheaf_tls_certificate_expiry_timestamp_seconds", listener="clients") == end


def test_what_clients_are_refused_for(tiny: Path, ca: Authority, strangers_ca: Authority) -> None:
    friend = ca.issue("client")
    with TlsServer(tiny, ca, "--workers", "0", client_ca=True) as server:
        assert server.https("GET", "/health", pair=friend)[0] == 200
        client = Client(server.grpc, server.credentials(friend))
        assert len(collect(client.generate(tokens_request([1, 2], 4)))[0]) == 4
        client.close()

        def refused(cause: str) -> int:
            metrics = server.https("GET", "/metrics", pair=friend)[1]
            found = re.search(rf'sheaf_tls_refused_total{{cause="{cause}",listener="clients"}} (\d+)', metrics)
            return int(found[1]) if found else -1

        for cause, pair in (("no_certificate", None), ("wrong_ca", strangers_ca.issue("client")),
                            ("expired", ca.issue("late", until=-MINUTE))):
            before = refused(cause)
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                server.https("GET", "/health", pair=pair)
            wait_for(lambda: refused(cause) == before + 1, 10, f"HTTP: {cause}")  # pylint: disable=W0640
            client = Client(server.grpc, server.credentials(pair))
            with pytest.raises(grpc.RpcError):
                collect(client.generate(tokens_request([1, 2], 4), timeout=10))
            client.close()
            wait_for(lambda: refused(cause) > before + 1, 10, f"gRPC: {cause}")  # pylint: disable=W0640
        before = refused("plaintext")
        for address in (server.ready["http"], server.grpc):
            with socket.create_connection(address.rsplit(":", 1), timeout=10) as stranger:
                stranger.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                try:
                    while b"200" not in (got := stranger.recv(4096)) and got:
                        pass
                    assert b"200" not in got
                except ConnectionResetError:
                    pass
        wait_for(lambda: refused("plaintext") == before + 2, 10, "plaintext on both ports")
        wait_for(lambda: "TLS: clients: refused (plaintext): 127.0.0.1" in server.log(), 10, "plaintext is told")


def test_a_tls_client_that_leaves_is_noticed(tiny: Path, ca: Authority) -> None:
    """Also behind bytes that nobody may read yet: a next request, or TLS's farewell."""
    with TlsServer(tiny, ca, "--workers", "0") as server:
        body = json.dumps({"prompt": [1, 2, 3], "max_tokens": 3500, "n": 32, "ignore_eos": True}).encode()
        head = (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n")
        raw = socket.create_connection(server.ready["http"].rsplit(":", 1), timeout=30)
        secure = server.context().wrap_socket(raw, server_hostname="localhost")
        secure.sendall(head + body)
        wait_for(lambda: server.figure("sheaf_requests_running") == 32, 30, "it runs")
        secure.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        secure.settimeout(0)  # its farewell goes, none is waited for
        with pytest.raises(ssl.SSLWantReadError):
            secure.unwrap()
        secure.close()
        wait_for(lambda: server.figure("sheaf_requests_total", outcome="cancelled") == 1, 10, "it is ended")


def test_certificates_change_under_load(tiny: Path, ca: Authority) -> None:
    with TlsServer(tiny, ca, "--workers", "2") as server:
        result = rotate_under_load(server, rotations=20, seconds_between=0.1, look_every=10)
    assert not result.failures, result.failures[:3]
    assert min(result.answers.values()) > 10, result


def test_half_a_rotation_is_waited_out(tiny: Path, ca: Authority) -> None:
    """A certificate whose key is not there yet: the old pair stays, and a lasting state is told."""
    with TlsServer(tiny, ca, "--workers", "0") as server:
        before = presented(server.ready["http"])
        old_key = server.pair.key_bytes()
        server.rotate()
        server.pair.key.write_bytes(old_key)
        wait_for(lambda: "wanted the key of the certificate" in server.log(), 10, "it is told")
        assert presented(server.ready["http"]) == before == presented(server.grpc)
        server.rotate()
        wait_for(lambda: presented(server.ready["http"]) != before and presented(server.grpc) != before, 20,
                 "the whole pair is taken")


@pytest.mark.parametrize("flags,says", [
    (["--tls-cert", "x.pem"], "--tls-key: wanted with --tls-cert"),
    (["--tls-client-ca", "x.pem"], "--tls-cert: wanted"),
    (["--cluster-tls-cert", "x.pem"], "--cluster-tls-key: wanted"),
    (["--cluster-tls-cert", "x", "--cluster-tls-key", "x", "--cluster-tls-ca", "x"], "--cluster-allowed-names: wanted"),
    (["--cluster-tls-cert", "x", "--cluster-tls-key", "x", "--cluster-tls-ca", "x", "--cluster-allowed-names",
      "*.example"], "no pattern"),
    (["--tls-cert", "missing.pem", "--tls-key", "missing.key"], "missing.pem: cannot be read"),
])
def test_wrong_flags(tiny: Path, flags: list[str], says: str) -> None:
    ended = run_to_end("serve", str(tiny), "--port", "0", "--grpc-port", "0", "--workers", "0", *flags)
    assert ended.returncode != 0 and says in ended.stderr + ended.stdout, ended


def test_open_to_all_is_said(tiny: Path) -> None:
    with SheafServer(tiny, "--workers", "1", "--host", "0.0.0.0") as server:
        said = [line for line in server.log().splitlines() if "without TLS" in line]
        assert len(said) == 2 and any("may join as a worker" in line for line in said), said
    with SheafServer(tiny, "--workers", "1") as server:
        assert "without TLS" not in server.log()
