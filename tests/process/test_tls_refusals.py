"""Each listener, each reason to refuse somebody: refused, told in the log and counted, every time.

What a listener does not ask for is no row: clients of HTTP, gRPC and /metrics may have any name of their CAs and TLS 1.2.
Run with -rP to see the lines.
"""
from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path
from typing import Callable, Iterator

import grpc
import pytest

pytest.importorskip("cryptography", reason="python3-cryptography is missing (deploy/install_dependencies.sh --tests)")

from certificates import DAY, ROUTER, WORKER, Authority, Pair
from pool_client import pool_pb
from sheaf_server import wait_for
from tls_harness import MINUTE, TlsPool, TlsServer, cluster_flags, context_of, worker

TOKEN = "a token of this pool"
LISTENERS = ["http", "grpc", "cluster", "metrics"]
CAUSES = {"plaintext": "plaintext", "wrong CA": "wrong_ca", "expired": "expired", "not yet valid": "expired",
          "no certificate": "no_certificate", "wrong name": "wrong_name", "TLS 1.2": "old_version"}  # as they are counted
ROWS = [(listener, case) for listener in LISTENERS for case in CAUSES
        if listener == "cluster" or case not in ("wrong name", "TLS 1.2")]


class Cluster:
    """One process of each kind that listens, all with client certificates: a router and a coordinator."""

    def __init__(self, server: TlsServer, pool: TlsPool) -> None:
        self.server, self.pool = server, pool
        self.addresses = {"http": server.ready["http"], "grpc": server.grpc, "cluster": pool.address,
                          "metrics": f"127.0.0.1:{pool.metrics_port}"}

    def label(self, listener: str) -> str:
        return "clients" if listener in ("http", "grpc") else listener

    def refused(self, listener: str, cause: str) -> float:
        owner = self.server.figure if self.label(listener) == "clients" else self.pool.metric
        return owner("sheaf_tls_refused_total", listener=self.label(listener), cause=cause)

    def log(self, listener: str) -> str:
        return self.server.log() if self.label(listener) == "clients" else self.pool.coordinator.log()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def strangers_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Of the same name as ours, with another key."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def cluster(ca: Authority, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("pool")
    (folder / "token").write_text(TOKEN)
    pool = TlsPool(ca, tiny, folder, "--metrics-tls", "--metrics-tls-client-ca", str(ca.cert), "--cluster-token-file",
                   str(folder / "token"))
    pool.reader = ca.issue("reader")
    with TlsServer(tiny, ca, "--workers", "0", client_ca=True) as server:
        server.reader = pool.reader
        yield Cluster(server, pool)
    pool.coordinator.stop()


def answered(address: str, listener: str, context: ssl.SSLContext | None) -> bool:
    """Whether who comes so (a null context: in plaintext) gets a word of HTTP/1.1 or HTTP/2 back."""
    http2 = listener in ("grpc", "cluster")
    said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]) if http2 else \
        b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    heard = b""
    try:
        with socket.create_connection(address.rsplit(":", 1), timeout=20) as raw:
            speaker = raw
            if context is not None:
                context.set_alpn_protocols(["h2" if http2 else "http/1.1"])
                speaker = context.wrap_socket(raw, server_hostname="localhost")
            speaker.sendall(said)
            while len(heard) < 9 and (got := speaker.recv(4096)):
                heard += got
    except (ssl.SSLError, ConnectionError):
        pass
    return len(heard) >= 9 and heard[3] == 4 if http2 else heard.startswith(b"HTTP/1.1 200")


def visitor(ca: Authority, strangers_ca: Authority, case: str, dns: str) -> Pair | None:
    own = {"uris": [WORKER], "dns": (dns,)}
    made: dict[str, Callable[[], Pair | None]] = {
        "friend": lambda: ca.issue("visitor", **own), "TLS 1.2": lambda: ca.issue("visitor", **own),
        "plaintext": lambda: None, "no certificate": lambda: None,
        "wrong CA": lambda: strangers_ca.issue("visitor", **own),
        "expired": lambda: ca.issue("visitor", until=-MINUTE, **own),
        "not yet valid": lambda: ca.issue("visitor", since=MINUTE, until=DAY, **own),
        "wrong name": lambda: ca.issue("visitor", uris=[WORKER + "s"], dns=(dns,))}
    return made[case]()


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_friend_is_answered(cluster: Cluster, ca: Authority, strangers_ca: Authority, listener: str) -> None:
    """Else the refusals below prove nothing."""
    pair = visitor(ca, strangers_ca, "friend", "friend.example")
    before = [cluster.refused(listener, cause) for cause in sorted(set(CAUSES.values()))]
    assert answered(cluster.addresses[listener], listener, context_of(ca, pair))
    assert [cluster.refused(listener, cause) for cause in sorted(set(CAUSES.values()))] == before


@pytest.mark.parametrize("listener,case", ROWS, ids=[f"{listener}-{case.replace(' ', '_')}" for listener, case in ROWS])
def test_refused(cluster: Cluster, ca: Authority, strangers_ca: Authority, listener: str, case: str) -> None:
    cause, name = CAUSES[case], f"{case.lower().replace(' ', '-')}.{listener}.example"
    pair = visitor(ca, strangers_ca, case, name)
    context = None if case == "plaintext" else context_of(ca, pair)
    if context is not None and case == "TLS 1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    before = cluster.refused(listener, cause)
    assert not answered(cluster.addresses[listener], listener, context)
    wait_for(lambda: cluster.refused(listener, cause) > before, 10, "it is counted")
    assert cluster.refused(listener, cause) == before + 1
    # A line names who it was; those without a name share one.
    who = rf".*{re.escape(name)}" if pair is not None and case != "TLS 1.2" else ""
    line = re.search(rf"TLS: {cluster.label(listener)}: refused \({cause}\):{who}.*", cluster.log(listener))
    assert line, cluster.log(listener)
    print(f"{listener:8} {case:15} refused, counted as {cause}: {line[0]}")


@pytest.mark.parametrize("who", ["operator", "worker", "router"])
@pytest.mark.parametrize("token", ["", "another token"])
def test_without_the_token(cluster: Cluster, ca: Authority, tmp_path: Path, who: str, token: str) -> None:
    """Somebody with a good certificate."""
    pool, pair = cluster.pool, ca.issue("tokenless", uris=[ROUTER if who == "router" else WORKER])
    says = "the token is not the pool's" if token else "the pool wants a token"

    def refusals() -> float:
        return pool.metric("sheaf_pool_refused_hellos_total")

    before = refusals()
    if who == "operator":
        with pytest.raises(grpc.RpcError) as end:
            pool.status(ca, pair, token)
        assert end.value.code() == grpc.StatusCode.UNAUTHENTICATED
    elif who == "router":
        credentials = grpc.ssl_channel_credentials(ca.cert.read_bytes(), pair.key_bytes(), pair.cert_bytes())
        with grpc.secure_channel(pool.address, credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            method = channel.stream_stream("/sheaf.v1.Coordinator/RouterSession",
                                           request_serializer=pool_pb.FromRouter.SerializeToString,
                                           response_deserializer=pool_pb.ToRouter.FromString)
            hello = pool_pb.FromRouter(hello=pool_pb.RouterHello(token=token))
            with pytest.raises(grpc.RpcError) as end:
                for _ in method(iter([hello]), timeout=20):
                    pass
        assert end.value.code() == grpc.StatusCode.UNAUTHENTICATED, end.value
    else:
        (tmp_path / "token").write_text(token)
        flags = ["--cluster-token-file", str(tmp_path / "token")] if token else []
        tokenless = worker(pool, f"tokenless{len(token)}", *cluster_flags(ca, pair), *flags)
        wait_for(lambda: tokenless.process.poll() is not None, 60, "the worker gives up")
        assert tokenless.process.returncode != 0 and says in tokenless.log(), tokenless.log()
    wait_for(lambda: refusals() > before, 10, "it is counted")
    verb = "an operator is refused" if who == "operator" else f"a {who} may not join"
    # Strangers' lines are five in ten seconds at most; those that are held back are counted.
    wait_for(lambda: re.search(rf"{verb}: {says}", pool.coordinator.log())
             or pool.metric("sheaf_log_lines_suppressed_total") > 0, 10, "it is told, or held back")
    line = re.search(rf".*{verb}: {says}.*", pool.coordinator.log())
    print(f"cluster  {who}, {says}: refused, counted: {line[0] if line else 'a line held back'}")
