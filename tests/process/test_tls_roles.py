"""Names by role: who may join as what, who may change the pool, and whom a worker takes for a coordinator."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator

import grpc
import pytest

pytest.importorskip("cryptography", reason="python3-cryptography is missing (deploy/install_dependencies.sh --tests)")

from certificates import ADMIN, COORDINATOR, ROUTER, WORKER, Authority
from pool_client import pool_pb
from pool_harness import free_port
from sheaf_server import run_to_end, wait_for
from tls_harness import Process, TlsPool, cluster_flags, worker

BY_ROLE = f"worker={WORKER},router={ROUTER},coordinator={COORDINATOR},admin={ADMIN}"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pool(ca: Authority, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsPool]:
    made = TlsPool(ca, tiny, tmp_path_factory.mktemp("pool"), allowed=BY_ROLE)
    yield made
    made.coordinator.stop()


def denied(pool: TlsPool, call: Callable[[], Any], role: str) -> None:
    """The call is refused for want of the role, counted and told."""
    before = pool.refused("wrong_role")
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    assert refusal.value.code() == grpc.StatusCode.PERMISSION_DENIED, refusal.value
    assert f"may act as {role}" in refusal.value.details()
    assert pool.refused("wrong_role") == before + 1
    # One line a peer, cause and minute: of another role's refusal, it may be.
    wait_for(lambda: "refused (wrong_role)" in pool.coordinator.log(), 10, "it is told")


def test_an_admin_changes_the_pool_and_nobody_else(pool: TlsPool, ca: Authority) -> None:
    admin, router, member = (ca.issue(name, uris=[uri]) for name, uri in
                             (("admin", ADMIN), ("router", ROUTER), ("member", WORKER)))
    changes = {"SetReplicas": (pool_pb.SetReplicasRequest(replicas=1), pool_pb.SetReplicasResponse),
               "Rebalance": (pool_pb.RebalanceRequest(), pool_pb.RebalanceResponse)}
    others = {"Drain": (pool_pb.DrainRequest(worker_id=7), pool_pb.DrainResponse),
              "Undrain": (pool_pb.UndrainRequest(worker_id=7), pool_pb.UndrainResponse)}
    for name, (request, reply) in changes.items():
        assert pool.call(ca, admin, name, request, reply) is not None
    for name, (request, reply) in others.items():
        with pytest.raises(grpc.RpcError) as nobody:  # there is no such worker
            pool.call(ca, admin, name, request, reply)
        assert nobody.value.code() == grpc.StatusCode.NOT_FOUND
    for pair in (router, member):
        for name, (request, reply) in (changes | others).items():
            denied(pool, lambda: pool.call(ca, pair, name, request, reply), "admin")  # pylint: disable=W0640
    assert pool.status(ca, admin) is not None and pool.status(ca, router) is not None
    denied(pool, lambda: pool.status(ca, member), "router or admin")
    done = run_to_end("pool", "rebalance", "--coordinator", pool.address, *cluster_flags(ca, admin, BY_ROLE))
    assert done.returncode == 0, done
    done = run_to_end("pool", "rebalance", "--coordinator", pool.address, *cluster_flags(ca, router, BY_ROLE))
    assert done.returncode == 1 and "may act as admin" in done.stderr, done


def session(pool: TlsPool, ca: Authority, uri: str, kind: str) -> grpc.RpcError:
    """How a session of that kind ends that begins with an empty message."""
    pair = ca.issue("speaker", uris=[uri])
    credentials = grpc.ssl_channel_credentials(ca.cert.read_bytes(), pair.key_bytes(), pair.cert_bytes())
    said = {"Worker": pool_pb.FromWorker, "Router": pool_pb.FromRouter}[kind]
    heard = {"Worker": pool_pb.ToWorker, "Router": pool_pb.ToRouter}[kind]
    with grpc.secure_channel(pool.address, credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        method = channel.stream_stream(f"/sheaf.v1.Coordinator/{kind}Session", request_serializer=said.SerializeToString,
                                       response_deserializer=heard.FromString)
        with pytest.raises(grpc.RpcError) as end:
            for _ in method(iter([said()]), timeout=20):
                pass
        return end.value


@pytest.mark.parametrize("kind,own", [("Worker", WORKER), ("Router", ROUTER)])
def test_a_session_wants_its_own_role(pool: TlsPool, ca: Authority, kind: str, own: str) -> None:
    before = pool.refused("wrong_role")
    assert session(pool, ca, own, kind).code() == grpc.StatusCode.INVALID_ARGUMENT  # let in, and said nonsense
    assert pool.refused("wrong_role") == before
    for uri in {WORKER, ROUTER, COORDINATOR, ADMIN} - {own}:
        end = session(pool, ca, uri, kind)
        assert end.code() == grpc.StatusCode.PERMISSION_DENIED and f"may act as {kind.lower()}" in end.details(), end
    assert pool.refused("wrong_role") == before + 3


def test_only_a_workers_name_joins_as_one(pool: TlsPool, ca: Authority) -> None:
    admin = ca.issue("onlooker", uris=[ADMIN])
    false = worker(pool, "false", *cluster_flags(ca, ca.issue("false", uris=[ROUTER]), BY_ROLE))
    friend = None
    try:
        before = pool.refused("wrong_role")
        wait_for(lambda: pool.refused("wrong_role") > before + 1, 60, "it has tried twice")
        wait_for(lambda: "may act as worker" in false.log(), 10, "it says why")
        assert not pool.status(ca, admin).workers
        friend = worker(pool, "friend", *cluster_flags(ca, ca.issue("friend", uris=[WORKER]), BY_ROLE))
        wait_for(lambda: len(pool.status(ca, admin).workers) == 1, 60, "the friend joins")
        assert pool.status(ca, admin).workers[0].pid == friend.process.pid
    finally:
        for process in (false, *([friend] if friend else [])):
            process.stop()


def ranked_router(ca: Authority, tiny: Path, tmp_path: Path, port: int, uri: str, *flags: str) -> Process:
    made = Process(tmp_path, "router", "router", str(tiny), "--port", "0", "--grpc-port", "0", "--attention-port", str(port),
                   "--tensor-parallel-size", "2", *flags, *cluster_flags(ca, ca.issue("rank0", uris=[uri]), BY_ROLE))
    wait_for(lambda: "join at" in made.log(), 60, "the attention port")
    return made


def test_a_rank_acts_as_a_router(ca: Authority, pool: TlsPool, tiny: Path, tmp_path: Path) -> None:
    """It sees what the router sees: a worker's key is not enough. Its router need not be a coordinator: that one is elsewhere."""
    port = free_port()
    router = ranked_router(ca, tiny, tmp_path, port, ROUTER, "--coordinator", pool.address)

    def rank(name: str, uri: str) -> Process:
        return Process(tmp_path, name, "attention", str(tiny), "--router", f"127.0.0.1:{port}", "--rank", "1", "--threads",
                       "1", *cluster_flags(ca, ca.issue(name, uris=[uri]), BY_ROLE))

    ranks: list[Process] = []
    try:
        ranks.append(rank("impostor", WORKER))
        wait_for(lambda: "may act as router" in ranks[0].log(), 60, "it says why")
        assert "joins" not in router.log()
        ranks.append(rank("friend", ROUTER))
        wait_for(lambda: f"pid {ranks[1].process.pid} on" in router.log() and "is linked by" in router.log(), 60, "a rank")
    finally:
        for process in (*ranks, router):
            process.stop()


@pytest.mark.parametrize("uri", [WORKER, COORDINATOR])
def test_a_rank_joins_none_but_a_router(ca: Authority, tiny: Path, tmp_path: Path, uri: str) -> None:
    """Whoever has a worker's or a coordinator's key gets no rank to compute for it."""
    port = free_port()
    false = ranked_router(ca, tiny, tmp_path, port, uri, "--workers", "0")
    honest = Process(tmp_path, "honest", "attention", str(tiny), "--router", f"127.0.0.1:{port}", "--rank", "1", "--threads",
                     "1", *cluster_flags(ca, ca.issue("honest", uris=[ROUTER]), BY_ROLE))
    try:
        wait_for(lambda: "none of its names may act as router" in honest.log(), 60, "the rank refuses it")
        assert "joins" not in false.log()
    finally:
        honest.stop()
        false.stop()


def test_a_worker_is_no_coordinator(ca: Authority, tiny: Path, tmp_path: Path) -> None:
    """Whoever has a worker's key cannot have other workers and routers join it."""
    listener = TlsPool(ca, tiny, tmp_path, allowed=BY_ROLE, uri=WORKER)
    honest = worker(listener, "honest", *cluster_flags(ca, ca.issue("honest", uris=[WORKER]), BY_ROLE))
    try:
        wait_for(lambda: "refused (wrong_role)" in honest.log(), 60, "the worker refuses it")
        assert "none of its names may act as coordinator" in honest.log()
    finally:
        honest.stop()
        listener.coordinator.stop()


@pytest.mark.parametrize("allowed", ["boss=spiffe://x/y", "worker=", "worker=a=b", "worker=*.example"])
def test_wrong_lists(tiny: Path, allowed: str) -> None:
    ended = run_to_end("coordinator", str(tiny), "--cluster-tls-cert", "x", "--cluster-tls-key", "x", "--cluster-tls-ca", "x",
                       "--cluster-allowed-names", allowed)
    assert ended.returncode != 0 and "--cluster-allowed-names: wanted" in ended.stderr, ended
