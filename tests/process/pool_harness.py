"""A pool of real processes as a cluster would have it: coordinator, routers and workers, each restarted when it ends.

    with Pool(checkpoint, workers=5, replicas=2) as pool:
        Load([pool.routers[0].http], ...)
        pool.workers[3].signal(signal.SIGKILL)   # comes back by itself, with its id
        pool.wait_whole()

The first router has the coordinator inside, or it is a process of its own (coordinator_outside=True; always so with
more than one router). With `network` each worker lives in a namespace of its own (pool_network.py) and talks TCP. A
process that ends in another way than a test made it end is a finding: `Pool.crashes`, and leaving the pool fails.
"""
from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import pool_client
from pool_network import Namespaces
from sheaf_server import BINARY, wait_for

RESTART_SECONDS = 0.05  # what an orchestrator on the spot would take
PATIENCE_SECONDS = 60.0


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


@dataclass
class Exit:
    """How one life of a process ended: a signal's number as negative status, as subprocess has it."""
    name: str
    status: int
    at: float
    wanted: bool


class Managed:
    """One `sheaf` process under its name, whatever its current life."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, prefix: Sequence[str] = ()) -> None:
        self.name, self.command, self.prefix = name, list(command), list(prefix)
        self.log_path = folder / f"{name}.log"
        self.ready_path = folder / f"{name}.ready.json"
        self.restarts = True       # whether it is started again when it ends
        self.may_refuse = False    # whether it may end by itself, with an error
        self.starts = 0
        self.exits: list[Exit] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._expected: set[int] = set()  # statuses with which this life may end
        self._started_at = 0.0
        self._lock = threading.Lock()

    def start(self) -> None:
        self.ready_path.unlink(missing_ok=True)
        with open(self.log_path, "ab") as log:
            process = subprocess.Popen([*self.prefix, BINARY, *self.command], stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL)
        with self._lock:
            self._process, self._expected, self._started_at = process, set(), time.monotonic()
            self.starts += 1

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def alive(self) -> bool:
        process = self._process
        return process is not None and process.poll() is None

    def signal(self, number: signal.Signals) -> int:
        """Sends it to the current life, whose pid it returns."""
        with self._lock:
            assert self._process is not None
            if number == signal.SIGKILL:
                self._expected.add(-signal.SIGKILL)
            elif number in (signal.SIGTERM, signal.SIGINT):
                if 0 in self._expected:  # the second one of a life that still leaves ends it at once
                    self._expected.add(128 + number)
                self._expected.add(0)
                if time.monotonic() < self._started_at + 1:  # it may not have come to take signals yet
                    self._expected.add(-number)
            if self._process.poll() is None:
                self._process.send_signal(number)
            return self._process.pid

    def signal_if_alive(self, number: signal.Signals) -> bool:
        """False between two lives."""
        if not self.alive():
            return False
        try:
            self.signal(number)
            return True
        except AssertionError:  # it was reaped meanwhile
            return False

    def reap(self) -> Exit | None:
        """The end of the current life, once."""
        with self._lock:
            if self._process is None or self._process.poll() is None:
                return None
            status = self._process.returncode
            wanted = status in self._expected or (self.may_refuse and status > 0)
            end = Exit(self.name, status, time.monotonic(), wanted)
            self.exits.append(end)
            self._process = None
            return end

    def wait_life(self, beyond: int, seconds: float = PATIENCE_SECONDS) -> None:
        """Until it has been started more than `beyond` times."""
        wait_for(lambda: self.starts > beyond and self.alive(), seconds, f"{self.name} is started again")

    def wait_ended(self, pid: int, seconds: float = PATIENCE_SECONDS) -> None:
        wait_for(lambda: self._process is None or self._process.pid != pid or self._process.poll() is not None,
                 seconds, f"{self.name}: process {pid} ends")

    def wait_exit(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Until it has ended and is not started again."""
        wait_for(lambda: self._process is None, seconds, f"{self.name} ends")

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


class Router(Managed):
    @property
    def http(self) -> str:
        """host:port; the same in every life."""
        return self.command[self.command.index("--host") + 1] + ":" + self.command[self.command.index("--port") + 1]

    @property
    def grpc(self) -> str:
        at = self.command.index("--grpc-port") + 1
        return self.command[self.command.index("--host") + 1] + ":" + self.command[at]

    def healthy(self) -> bool:
        return pool_client.healthy(self.http)

    def metric(self, name: str, **labels: str) -> float:
        return pool_client.metric(self.http, name, **labels)


    def sees_whole(self, replicas: int) -> bool:
        """Whether every expert has that many holders at the other end of a live link."""
        try:
            return all(self.metric("sheaf_expert_coverage", holders=str(n)) == 0 for n in range(min(replicas, 3)))
        except (OSError, http.client.HTTPException):
            return False


class Pool:
    def __init__(self, checkpoint: Path | str, workers: int = 3, replicas: float = 1, routers: int = 1,
                 coordinator_outside: bool = False, transport: str = "auto", network: Namespaces | None = None,
                 router_flags: Sequence[str] = (), worker_flags: Sequence[str] = (),
                 pool_flags: Sequence[str] = (), threads: int = 1, token: str = "") -> None:
        self.checkpoint = str(checkpoint)
        self._folder = Path(tempfile.mkdtemp(prefix="sheaf-pool-"))
        self.network = network
        self.host = network.hub_address if network else "127.0.0.1"
        self._transport = "tcp" if network else transport
        self._threads, self._worker_flags = threads, list(worker_flags)
        self._token_flags: list[str] = []
        self.token = token
        if token:
            (self._folder / "token").write_text(token + "\n")
            self._token_flags = ["--cluster-token-file", str(self._folder / "token")]
        self.crashes: list[Exit] = []
        self._ending = threading.Event()
        self.cluster = f"{self.host}:{free_port(self.host)}"
        outside = coordinator_outside or routers > 1
        plan = ["--workers", str(workers), "--expert-replicas", str(replicas), "--cluster-host", self.host,
                "--cluster-port", self.cluster.rsplit(":", 1)[1], *self._token_flags, *pool_flags]
        self.coordinator: Managed | None = None
        if outside:
            self.coordinator = Managed("coordinator", ["coordinator", self.checkpoint, *plan, "--ready-file",
                                                       str(self._folder / "coordinator.ready.json")], self._folder)
        self.routers: list[Router] = []
        for i in range(routers):
            name = f"router{i}"
            pool = ["--coordinator", self.cluster, *self._token_flags] if outside else plan
            self.routers.append(Router(name, [
                "router", self.checkpoint, *pool, "--host", self.host, "--port", str(free_port(self.host)),
                "--grpc-port", str(free_port(self.host)), "--transport", self._transport, "--threads", str(threads),
                "--ready-file", str(self._folder / f"{name}.ready.json"), *router_flags], self._folder))
        self.workers = [self.worker(i) for i in range(workers)]
        self._managed: list[Managed] = [*([self.coordinator] if self.coordinator else []), *self.routers,
                                        *self.workers]
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)

    def worker(self, number: int, *flags: str) -> Managed:
        """A worker that is not started yet; add() starts it and looks after it."""
        prefix, place = [], ["--host", "127.0.0.1"]
        if self.network:
            outpost = number % len(self.network.outposts)
            prefix = self.network.within(outpost)
            place = ["--host", self.network.addresses[outpost], "--exchange-host", self.network.addresses[outpost]]
        return Managed(f"worker{number}", [
            "worker", self.checkpoint, "--coordinator", self.cluster, "--id", str(number), *place, "--transport",
            self._transport, "--worker-threads", str(self._threads), *self._token_flags, *self._worker_flags, *flags],
            self._folder, prefix)

    def add(self, managed: Managed) -> Managed:
        managed.start()
        self._managed.append(managed)
        return managed

    def __enter__(self) -> Pool:
        try:
            for managed in self._managed:
                managed.start()
            self._supervisor.start()
            self.wait_whole()
            self.wait_healthy()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._ending.set()
        if self._supervisor.ident is not None:
            self._supervisor.join()
        for group in (self.routers, [m for m in self._managed if m not in self.routers]):
            for managed in group:
                if managed.alive():
                    managed.signal(signal.SIGCONT)
                    managed.signal(signal.SIGTERM)
            for managed in group:
                try:
                    if managed.alive():
                        managed.wait_ended(managed.pid, 20)
                except TimeoutError:
                    sys.stderr.write(f"{managed.name} does not end on SIGTERM\n")
                    self.crashes.append(Exit(managed.name, 0, time.monotonic(), False))
                    managed.signal(signal.SIGKILL)
                self._note(managed.reap())
        failed = kind is not None or self.crashes
        if failed or "SHEAF_KEEP_LOGS" in os.environ:
            for managed in self._managed:
                sys.stderr.write(f"--- {managed.name}: {managed.log_path}\n{managed.log()[-6000:]}\n")
        else:
            shutil.rmtree(self._folder, ignore_errors=True)
        if kind is None and self.crashes:
            raise AssertionError(f"processes ended by themselves: {self.crashes}")

    def _supervise(self) -> None:
        due: dict[str, float] = {}
        while not self._ending.wait(0.005):
            for managed in list(self._managed):
                end = managed.reap()
                if end is not None:
                    self._note(end)
                    if managed.restarts:
                        due[managed.name] = end.at + RESTART_SECONDS
                if managed.name in due and time.monotonic() >= due[managed.name]:
                    del due[managed.name]
                    if managed.restarts:
                        managed.start()

    def _note(self, end: Exit | None) -> None:
        if end is not None and not end.wanted:
            self.crashes.append(end)

    # What the coordinator says.

    def status(self) -> Any:
        """sheaf.v1.PoolStatus; raises grpc.RpcError where there is no coordinator."""
        return pool_client.status(self.cluster, self.token)

    def status_or_none(self) -> Any:
        return pool_client.status_or_none(self.cluster, self.token)

    def whole(self) -> Any:
        """The status when every started worker is a member, holds what it should and every expert has its holders."""
        status = self.status_or_none()
        if status is None:
            return None
        alive = {m.pid for m in self._managed if m.name.startswith("worker") and m.restarts and m.alive()}
        ready = {w.pid for w in status.workers if w.state in (pool_client.READY, pool_client.SPARE)}
        replicas = min(int(status.replicas), len(ready))
        enough = all(count == 0 for holders, count in enumerate(status.coverage) if holders < min(replicas, 3))
        whole = alive and alive <= ready and status.complete and enough
        return status if whole and all(router.sees_whole(replicas) for router in self.routers) else None

    def wait_whole(self, seconds: float = PATIENCE_SECONDS) -> Any:
        return wait_for(self.whole, seconds, f"the pool is whole; it says: {self._text()}")

    def wait_healthy(self, seconds: float = PATIENCE_SECONDS) -> None:
        for router in self.routers:
            wait_for(router.healthy, seconds, f"{router.name} is ready")

    def _text(self) -> str:
        status = self.status_or_none()
        return status.text if status else "no coordinator answers"

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`sheaf pool ARGUMENTS --coordinator ...`, to its end."""
        return subprocess.run([BINARY, "pool", *arguments, "--coordinator", self.cluster, *self._token_flags],
                              capture_output=True, text=True, timeout=30, check=False)

    def status_json(self) -> dict[str, Any]:
        done = self.command("status", "--json")
        assert done.returncode == 0, done
        return json.loads(done.stdout)
