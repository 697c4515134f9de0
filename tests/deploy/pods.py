"""Pods without a kubelet: each in a network namespace with an address and names, started and probed as its manifest says.

    with PodNetwork() as network, network.entered():
        pod = Pod("sheaf-worker-0", template, network, root, volumes)
        pod.start()          # then pod.ready, pod.kill()
        pod.terminate()

A container that ends, or fails its liveness probe, is started again in the same pod; its sidecars are there before it and after it.
terminate() is what a deleted pod goes through: no endpoint from then on, preStop, SIGTERM, grace. Needs root and iproute2: why_not() says what is missing.
"""
from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "process"))

from limits import Limits  # noqa: E402
from probes import Probe  # noqa: E402
from pool_network import _run, _set_namespace, why_not  # noqa: E402, F401  (found through the path above)

START = Path(__file__).with_name("pod_start.py")
RESTART_SECONDS = 0.5  # the first back-off of a kubelet is 10 s


class PodNetwork:
    """A bridge, where clients and kubelets are, and a namespace for each pod. One hosts file for all, as DNS would say."""

    def __init__(self, folder: Path) -> None:
        self._tag = secrets.token_hex(2)
        self.hub = f"sheaf{self._tag}-node"
        self.hosts = folder / "hosts"
        self._next = 10
        self._names: dict[str, str] = {}  # namespace -> link at the hub
        self._entries: dict[str, tuple[str, list[str]]] = {}
        self._lock = threading.Lock()
        self._write()

    def __enter__(self) -> PodNetwork:
        _run("ip", "netns", "add", self.hub)
        _run("ip", "-n", self.hub, "link", "set", "lo", "up")
        _run("ip", "-n", self.hub, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", self.hub, "addr", "add", "10.204.0.1/16", "dev", "bridge")
        _run("ip", "-n", self.hub, "link", "set", "bridge", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in (*self._names, self.hub):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it starts meanwhile, is on the bridge."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _set_namespace(f"/run/netns/{self.hub}")
        try:
            yield
        finally:
            _set_namespace(f"/proc/self/fd/{home}")
            os.close(home)

    def add(self) -> tuple[str, str]:
        """(namespace, address) of a new pod; no address is given twice."""
        with self._lock:
            self._next += 1
            number = self._next
            name, link = f"sheaf{self._tag}-{number}", f"p{number}"
            self._names[name] = link
        address = f"10.204.{number >> 8}.{number & 255}"
        _run("ip", "netns", "add", name)
        _run("ip", "-n", name, "link", "set", "lo", "up")
        _run("ip", "-n", self.hub, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "-n", self.hub, "link", "set", link, "master", "bridge", "up")
        _run("ip", "-n", name, "addr", "add", f"{address}/16", "dev", "eth0")
        _run("ip", "-n", name, "link", "set", "eth0", "up")
        return name, address

    def remove(self, name: str) -> None:
        with self._lock:
            self._names.pop(name, None)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def set_link(self, name: str, up: bool) -> None:
        _run("ip", "-n", self.hub, "link", "set", self._names[name], "up" if up else "down")

    def publish(self, key: str, address: str, names: list[str]) -> None:
        """What the names of `key` (a pod, a Service) resolve to from now on."""
        with self._lock:
            self._entries[key] = address, names
            self._write()

    def withdraw(self, key: str) -> None:
        with self._lock:
            self._entries.pop(key, None)
            self._write()

    def _write(self) -> None:
        """In place: it is mounted into running pods. One write, so that no reader sees a part."""
        lines = ["127.0.0.1 localhost", *(f"{address} {' '.join(names)}" for address, names in self._entries.values())]
        data = ("\n".join(lines) + "\n").encode()
        with open(self.hosts, "r+b" if self.hosts.exists() else "w+b", buffering=0) as file:
            file.write(data)
            file.truncate(len(data))
        self.hosts.chmod(0o644)


class Root:
    """A root file system for containers: an assembled image, or, without one, this machine's libraries with the program."""

    def __init__(self, folder: Path, binary: str, image: Path | None = None) -> None:
        self.path = image or folder / "root"
        self.mounts: list[tuple[str, str, bool]] = []
        self.environment_path = "/usr/local/bin:/usr/bin:/bin"
        if image is None:
            self.environment_path = "/program:" + self.environment_path
            (self.path / "program").mkdir(parents=True)
            shutil.copy(binary, self.path / "program/sheaf")
            (self.path / "program/sheaf").chmod(0o755)
            for name in ("usr", "etc/ssl"):
                self._bind(f"/{name}", f"/{name}", True)
            for name in ("bin", "lib", "lib64"):
                (self.path / name).symlink_to(f"usr/{name}")
            (self.path / "etc").mkdir(exist_ok=True)
            (self.path / "etc/passwd").write_text("sheaf:x:65532:65532::/:/usr/sbin/nologin\n")
            (self.path / "etc/nsswitch.conf").write_text("hosts: files\n")
        for name in ("proc", "sys"):
            self._bind(f"/{name}", f"/{name}", False)
        for name in ("null", "zero", "urandom"):
            self._bind(f"/dev/{name}", f"/dev/{name}", False)

    def _bind(self, source: str, target: str, read_only: bool) -> None:
        self.mount_point(target, Path(source).is_dir())
        self.mounts.append((source, target, read_only))

    def mount_point(self, target: str, directory: bool = True) -> None:
        """As container runtimes do, before the root is read-only."""
        path = Path(str(self.path) + target)
        if directory:
            path.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


class Container:
    """One life after another of a pod's main container."""

    def __init__(self, name: str, spec: dict[str, Any], log: Path) -> None:
        self.name, self.spec, self.log = name, spec, log
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: list[str] = []

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*self.prefix, sys.executable, str(START), str(self.log.with_suffix(".json"))],
                                            stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Pod:
    def __init__(self, name: str, template: dict[str, Any], network: PodNetwork, root: Root, folder: Path,
                 volume: Callable[[dict[str, Any]], Path], beside: Pod | None = None) -> None:
        self.name, self.labels, self.network = name, template["metadata"]["labels"], network
        self.template = template["spec"]
        self._root, self._folder, self._volume = root, folder, volume
        self.spec = self.template["containers"][0]
        self.container = Container(name, self.spec, folder / f"{name}.log")
        self._ready = False            # its main container
        self.deleted = False
        self.restarts = 0
        self.killed = False            # grace ran out
        self.exit_status: int | None = None  # of a terminated pod
        self._beside = beside
        self.namespace, self.address = (beside.namespace, beside.address) if beside else network.add()
        # Each as a pod of one container in this one's namespace.
        self.sidecars = [Pod(f"{name}-{spec['name']}", {**template, "spec": {**template["spec"], "containers": [spec], "initContainers": []}},
                             network, root, folder, volume, self)
                         for spec in template["spec"].get("initContainers", []) if spec.get("restartPolicy") == "Always"]
        self.why_unready = "not started"
        self._ends: set[int] = set()   # pids whose end somebody wanted
        self.unexpected: list[str] = []
        self.limits = Limits(name, self.spec["resources"]["limits"])
        self.memory_peak = 0           # bytes, of a terminated pod
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)

    @property
    def ready(self) -> bool:
        return self._ready and all(sidecar.ready for sidecar in self.sidecars)

    def start(self) -> None:
        for sidecar in self.sidecars:
            sidecar.start()
        self._prepare()
        self.container.start()
        self._thread.start()

    def _prepare(self) -> None:
        variables = {"PATH": self._root.environment_path, "POD_IP": self.address, "HOME": "/"}
        for variable in self.spec.get("env", []):
            path = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
            if path.startswith("metadata.labels['"):
                variables[variable["name"]] = self.labels[path.split("'")[1]]
            elif path == "status.podIP":
                variables[variable["name"]] = self.address
            else:
                variables[variable["name"]] = variable["value"]
        words = [re.sub(r"\$\((\w+)\)", lambda m: variables[m[1]], word)
                 for word in self.spec["command"] + self.spec.get("args", [])]
        volumes = {volume["name"]: volume for volume in self.template.get("volumes", [])}
        mounts = [*self._root.mounts, (str(self.network.hosts), "/etc/hosts", True)]
        self._root.mount_point("/etc/hosts", directory=False)
        for mount in self.spec.get("volumeMounts", []):
            source = self._volume(volumes[mount["name"]])
            self._root.mount_point(mount["mountPath"])
            mounts.append((str(source), mount["mountPath"], mount.get("readOnly", False)))
        context = self.template["securityContext"]
        spec = {"root": str(self._root.path), "mounts": mounts, "user": context["runAsUser"], "group": context["runAsGroup"],
                "environment": variables, "command": words, "groups": self.limits.join_files}
        self.container.log.with_suffix(".json").write_text(json.dumps(spec))
        self.container.prefix = ["nsenter", f"--net=/run/netns/{self.namespace}"]

    # The kubelet.

    def _keep(self) -> None:
        while not self._stop.is_set():
            self._live_once()
            if self._stop.is_set():
                return
            self._ready = False
            process = self.container.process
            assert process is not None
            if process.pid not in self._ends:
                self.unexpected.append(f"{self.name}: ended with status {process.wait()}")
            self._stop.wait(RESTART_SECONDS)
            if not self._stop.is_set():
                self.restarts += 1
                self.container.start()

    def _live_once(self) -> None:
        """Until the container has ended."""
        probes = {kind: Probe(self.spec.get(f"{kind}Probe"), self) for kind in ("startup", "liveness", "readiness")}
        while self.container.running() and not self._stop.is_set():
            if not probes["startup"].passed:
                if probes["startup"].due() and probes["startup"].failed_for_good():
                    self._kill("its startup probe failed")
            else:
                if probes["liveness"].due() and probes["liveness"].failed_for_good():
                    self._kill("its liveness probe failed")
                if probes["readiness"].due() and not self.deleted:
                    if probes["readiness"].passed_now:
                        self._ready = True
                    elif probes["readiness"].failed_for_good():
                        self._ready = False
                    self.why_unready = probes["readiness"].why
            self._stop.wait(0.05)

    def _kill(self, why: str) -> None:
        assert self.container.process is not None
        self.unexpected.append(f"{self.name}: {why}")
        self._ends.add(self.container.process.pid)
        self.container.process.kill()
        self.container.process.wait()

    # What may happen to it.

    def kill(self) -> None:
        """The container dies; the kubelet starts it again."""
        process = self.container.process
        assert process is not None
        self._ends.add(process.pid)
        process.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Deleted: out of the endpoints, preStop, SIGTERM, grace. Returns when it is gone."""
        self.deleted, self._ready = True, False
        begin = time.monotonic()
        sleep = self.spec.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        time.sleep(sleep)
        self._stop.set()
        self._thread.join()
        process = self.container.process
        assert process is not None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(max(0.0, begin + self.template["terminationGracePeriodSeconds"] - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.killed = True
                process.kill()
        self.exit_status = process.wait()
        self.memory_peak = self.limits.memory_peak()
        self.limits.remove()
        for sidecar in self.sidecars:
            sidecar.terminate()
        if self._beside is None:
            self.network.remove(self.namespace)

    def log_text(self) -> str:
        return self.container.log.read_text(errors="replace") if self.container.log.exists() else ""
