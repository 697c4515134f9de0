"""The commands that ask a running process, over TLS: who they believe, and what they say where they are not understood."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

pytest.importorskip("cryptography", reason="python3-cryptography is missing (deploy/install_dependencies.sh --tests)")

from certificates import COORDINATOR, ROUTER, WORKER, Authority, Pair
from sheaf_server import BINARY, SheafServer, run_to_end, wait_for
from tls_harness import MINUTE, TlsPool, TlsServer, cluster_flags, figure, https, presented, worker


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def strangers_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def server(nano: Path, ca: Authority) -> Iterator[TlsServer]:
    with TlsServer(nano, ca, "--workers", "0") as running:
        yield running


@pytest.fixture(scope="module")
def plain(nano: Path) -> Iterator[SheafServer]:
    with SheafServer(nano, "--workers", "1") as running:
        yield running


@pytest.fixture(scope="module")
def pool(ca: Authority, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsPool]:
    made = TlsPool(ca, tiny, tmp_path_factory.mktemp("pool"), "--metrics-tls")
    yield made
    made.coordinator.stop()


def run(server: SheafServer, command: str, *flags: str, system_cas: Path = Path("/nowhere")) -> subprocess.CompletedProcess[str]:
    """One of the three, with one question for the two that ask one."""
    words = {"ask": ["ask", "--raw", "--max-tokens", "3", "hello", "--grpc", server.grpc],
             "chat": ["chat", "--max-tokens", "3", "--grpc", server.grpc],
             "top": ["top", "--once", "--interval", "0.1", "--http", server.ready["http"]]}[command]
    return subprocess.run([BINARY, *words, *flags], input="hello\n", capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "SSL_CERT_FILE": str(system_cas)})


def shows(pair: Pair) -> list[str]:
    return ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]


COMMANDS = ["ask", "chat", "top"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_of_a_known_ca_is_believed(server: TlsServer, ca: Authority, command: str) -> None:
    done = run(server, command, "--tls-ca", str(ca.cert))
    assert done.returncode == 0, done
    assert run(server, command, "--tls", system_cas=ca.cert).returncode == 0
    for name in ("localhost", COORDINATOR):  # others that its certificate has
        done = run(server, command, "--tls", "--tls-ca", str(ca.cert), "--tls-server-name", name)
        assert done.returncode == 0, done


@pytest.mark.parametrize("command", COMMANDS)
def test_another_server_is_not(server: TlsServer, ca: Authority, strangers_ca: Authority, command: str) -> None:
    own = ["--tls-ca", str(ca.cert)]
    for flags, says in ((["--tls-ca", str(strangers_ca.cert)], "certificate"),  # of the same name, another key
                        (["--tls"], "certificate"),                             # not of the system's
                        ([*own, "--tls-server-name", "other.example"], "none of its names is other.example"),
                        ([*own, "--tls-server-name", WORKER], "none of its names is spiffe://")):
        done = run(server, command, *flags, system_cas=strangers_ca.cert)
        assert done.returncode == 1 and "is refused" in done.stderr and says in done.stderr, done
        assert done.stderr.count("\n") == 1, done


@pytest.mark.parametrize("command", COMMANDS)
def test_a_plaintext_client_is_told_of_tls(server: TlsServer, command: str) -> None:
    done = run(server, command)
    assert done.returncode == 1 and "it speaks TLS, and was asked in plaintext: wanted --tls" in done.stderr, done


@pytest.mark.parametrize("command", COMMANDS)
def test_a_tls_client_is_told_of_plaintext(plain: SheafServer, ca: Authority, command: str) -> None:
    done = run(plain, command, "--tls-ca", str(ca.cert))
    assert done.returncode == 1 and "it speaks plaintext, and TLS is wanted of it" in done.stderr, done


@pytest.mark.parametrize("command", COMMANDS)
def test_a_certificate_is_shown_where_one_is_wanted(nano: Path, ca: Authority, strangers_ca: Authority, command: str) -> None:
    with TlsServer(nano, ca, "--workers", "0", client_ca=True) as server:
        friend = ["--tls-ca", str(ca.cert), *shows(ca.issue("friend"))]
        assert run(server, command, *friend).returncode == 0
        none = run(server, command, "--tls-ca", str(ca.cert))
        assert none.returncode == 1 and "needs --tls-cert and --tls-key" in none.stderr, none
        assert run(server, command, "--tls-ca", str(ca.cert), *shows(strangers_ca.issue("thief"))).returncode == 1


@pytest.mark.parametrize("flags,says", [
    (["--tls-cert", "x.pem"], "--tls-key: wanted with --tls-cert"),
    (["--tls-key", "x.pem"], "--tls-cert: wanted with --tls-key"),
    (["--tls-ca", "missing.pem"], "missing.pem: cannot be read"),
])
@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_flags(plain: SheafServer, command: str, flags: list[str], says: str) -> None:
    done = run(plain, command, *flags)
    assert done.returncode == 1 and says in done.stderr, done


def test_an_operator_speaks_either_way(pool: TlsPool, plain: SheafServer, ca: Authority, strangers_ca: Authority) -> None:
    operator = ca.issue("operator", uris=[ROUTER])
    own = ["--tls-ca", str(ca.cert), *shows(operator)]

    def status(address: str, *flags: str) -> subprocess.CompletedProcess[str]:
        return run_to_end("pool", "status", "--coordinator", address, *flags)

    assert status(pool.address, *cluster_flags(ca, operator)).returncode == 0
    assert status(pool.address, *own).returncode == 0
    assert status(pool.address, *own, "--tls-server-name", COORDINATOR).returncode == 0
    cluster = plain.ready["cluster"]
    for done, says in (
            (status(pool.address), "it speaks TLS, and was asked in plaintext"),
            (status(cluster, *own), "it speaks plaintext, and TLS is wanted"),
            (status(cluster, *cluster_flags(ca, operator)), "it speaks plaintext, and TLS is wanted"),
            (status(pool.address, "--tls-ca", str(ca.cert)), "needs --tls-cert and --tls-key"),
            (status(pool.address, *own, "--tls-server-name", WORKER), "none of its names is"),
            (status(pool.address, "--tls-ca", str(strangers_ca.cert), *shows(operator)), "is refused"),
            (status(pool.address, *own, *cluster_flags(ca, operator)), "got both")):
        assert done.returncode == 1 and says in done.stderr, done


def test_metrics_and_probes_over_tls(pool: TlsPool, ca: Authority, strangers_ca: Authority) -> None:
    address = f"127.0.0.1:{pool.metrics_port}"
    for path in ("/metrics", "/live", "/ready"):
        assert https(address, ca, "GET", path)[0] == 200
    assert pool.metric("sheaf_tls_certificate_expiry_timestamp_seconds", listener="metrics") == ca.end_of("coordinator")
    before = presented(address)
    ca.issue("coordinator", uris=[COORDINATOR])
    wait_for(lambda: presented(address) != before, 20, "the renewed certificate is shown")
    # A worker's, for those with a certificate alone.
    pair = ca.issue("measured", uris=[WORKER])
    measured = worker(pool, "measured", *cluster_flags(ca, pair), "--metrics-tls", "--metrics-tls-client-ca", str(ca.cert))
    try:
        wait_for(lambda: "metrics on" in measured.log() or measured.process.poll() is not None, 60, "it listens")
        address = measured.log().split("metrics on ")[1].split()[0]
        prometheus = ca.issue("prometheus")
        text = https(address, ca, "GET", "/metrics", pair=prometheus)[1]
        assert figure(text, "sheaf_build_info") == 1
        for stranger in (None, strangers_ca.issue("reader"), ca.issue("late", until=-MINUTE)):
            with pytest.raises(OSError):
                https(address, ca, "GET", "/metrics", pair=stranger)
        text = https(address, ca, "GET", "/metrics", pair=prometheus)[1]
        for cause in ("no_certificate", "wrong_ca", "expired"):
            assert figure(text, "sheaf_tls_refused_total", listener="metrics", cause=cause) == 1, text
    finally:
        measured.stop()


@pytest.mark.parametrize("flags,says", [
    (["--metrics-tls"], "--cluster-tls-cert: wanted with --metrics-tls"),
    (["--metrics-tls-client-ca", "x"], "--metrics-tls: wanted with --metrics-tls-client-ca"),
])
def test_metrics_tls_wants_a_certificate(tiny: Path, flags: list[str], says: str) -> None:
    ended = run_to_end("worker", str(tiny), "--coordinator", "127.0.0.1:1", *flags)
    assert ended.returncode != 0 and says in ended.stderr + ended.stdout, ended
