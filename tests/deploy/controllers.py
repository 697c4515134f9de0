"""What a cluster does with manifests, without one: Deployments, StatefulSets and Services over pods.py's pods.

    with Cluster(objects, binary, checkpoint, folder) as cluster:
        cluster.start(); cluster.wait_ready(60)
        cluster.roll("StatefulSet/sheaf-worker")
        cluster.endpoints.now          # addresses of ready routers, as a Service has them
"""
from __future__ import annotations

import copy
import os
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import Any, Callable

from pods import Pod, PodNetwork, Root
from secret_volumes import Issuer, SecretVolume

USER = 65532
Object = dict[str, Any]


class Endpoints:
    """Ready addresses of a Service's port; indexed by any number, so that a list that shrinks is no error."""

    def __init__(self, of: Callable[[], list[str]]) -> None:
        self._of = of
        self.last: tuple[str, ...] = ()

    @property
    def now(self) -> tuple[str, ...]:
        found = tuple(self._of())
        self.last = found or self.last
        return found

    def __len__(self) -> int:
        return 1 << 16

    def __getitem__(self, index: int) -> str:
        found = self.now or self.last
        return found[index % len(found)]


class Workload:
    """A Deployment or a StatefulSet."""

    def __init__(self, thing: Object, make: Callable[[str, Object], Pod], replicas: int) -> None:
        self.kind, self.name, self.spec = thing["kind"], thing["metadata"]["name"], thing["spec"]
        self.template, self.replicas, self._make = thing["spec"]["template"], replicas, make
        self.pods: list[Pod] = []
        self.gone: list[Pod] = []
        self.generation = 0

    def start(self) -> None:
        for number in range(self.replicas):
            self._add(number)

    def _add(self, number: int) -> Pod:
        template = copy.deepcopy(self.template)
        if self.kind == "StatefulSet":
            name = f"{self.name}-{number}"
            template["metadata"]["labels"]["apps.kubernetes.io/pod-index"] = str(number)
        else:
            name = f"{self.name}-{secrets.token_hex(3)}"
        pod = self._make(name, template)
        self.pods = [*self.pods, pod] if self.kind == "Deployment" else \
            [*self.pods[:number], pod, *self.pods[number + 1:]] if number < len(self.pods) else [*self.pods, pod]
        pod.start()
        return pod

    def _end(self, pod: Pod) -> None:
        pod.terminate()
        self.gone.append(pod)

    def wait_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not all(pod.ready for pod in self.pods):
            if time.monotonic() > deadline:
                slow = [pod for pod in self.pods if not pod.ready][0]
                raise TimeoutError(f"{slow.name} is not ready after {seconds} s: {slow.why_unready}\n{slow.log_text()[-3000:]}")
            time.sleep(0.05)

    def _settle(self, pod: Pod, seconds: float) -> None:
        """Until the pod has been ready for minReadySeconds."""
        wanted = self.spec.get("minReadySeconds", 0)
        deadline, since = time.monotonic() + seconds, None
        while since is None or time.monotonic() < since + wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{pod.name} is not available after {seconds} s: {pod.why_unready}\n{pod.log_text()[-3000:]}")
            since = (since or time.monotonic()) if pod.ready else None
            time.sleep(0.05)

    def roll(self, seconds: float) -> None:
        """Every pod is replaced, as the strategy says."""
        self.generation += 1
        if self.kind == "StatefulSet":
            for number in reversed(range(self.replicas)):
                self._end(self.pods[number])
                self._settle(self._add(number), seconds)
        elif self.spec.get("strategy", {}).get("type") == "Recreate":
            old, self.pods = self.pods, []
            for pod in old:
                self._end(pod)
            for number in range(self.replicas):
                self._settle(self._add(number), seconds)
        else:  # maxSurge 1, maxUnavailable 0
            assert self.spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
            for pod in list(self.pods):
                self._settle(self._add(0), seconds)
                self.pods = [other for other in self.pods if other is not pod]
                self._end(pod)


class Cluster:
    def __init__(self, objects: list[Object], binary: str, checkpoint: Path, folder: Path, namespace: str = "sheaf",
                 image: Path | None = None) -> None:
        self.folder, self._namespace = folder, namespace
        folder.chmod(0o755)
        self.network = PodNetwork(folder)
        self._root = Root(folder, binary, image)
        self._checkpoints = self._checkpoint(checkpoint)
        self.token = secrets.token_hex(16)
        self._certificates = [thing for thing in objects if thing["kind"] == "Certificate"]
        self.issuer = Issuer(folder / "ca") if self._certificates else None
        self._secrets = {name: SecretVolume(folder / f"secret-{name}", USER)
                         for name in ("sheaf-cluster-token", *(thing["spec"]["secretName"] for thing in self._certificates))}
        self._secrets["sheaf-cluster-token"].write({"token": self.token.encode() + b"\n"})
        self.renew_certificates()
        self._services = [thing for thing in objects if thing["kind"] == "Service"]
        self.workloads = {f"{thing['kind']}/{thing['metadata']['name']}": Workload(thing, self._pod, thing["spec"].get("replicas", 1))
                          for thing in objects if thing["kind"] in ("Deployment", "StatefulSet")}
        [clients] = [service for service in self._services if service["metadata"].get("labels", {}).get("sheaf/clients")]
        [http] = [port["port"] for port in clients["spec"]["ports"] if port["name"] == "http"]
        self.endpoints = Endpoints(lambda: [f"{pod.address}:{http}" for pod in self.chosen(clients) if pod.ready])
        self._lock = threading.Lock()

    def _checkpoint(self, checkpoint: Path) -> Path:
        shutil.copytree(checkpoint, self.folder / "checkpoints" / checkpoint.name)
        for path in (self.folder / "checkpoints").rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return self.folder / "checkpoints"

    def renew_certificates(self) -> None:
        for certificate in self._certificates:
            assert self.issuer is not None
            self._secrets[certificate["spec"]["secretName"]].write(self.issuer.issue(certificate))

    def _volume(self, volume: Object) -> Path:
        if "emptyDir" in volume:
            path = self.folder / f"empty-{secrets.token_hex(4)}"
            path.mkdir()
            os.chown(path, USER, USER)
            return path
        if "secret" in volume:
            return self._secrets[volume["secret"]["secretName"]].folder
        assert "persistentVolumeClaim" in volume, volume
        return self._checkpoints

    def _pod(self, name: str, template: Object) -> Pod:
        pod = Pod(name, template, self.network, self._root, self.folder, self._volume)
        for service in self._services:
            if service["spec"].get("clusterIP") != "None" or not service["spec"]["selector"].items() <= pod.labels.items():
                continue
            base = service["metadata"]["name"]
            if pod.labels["app.kubernetes.io/component"] == "worker":
                base = f"{name}.{base}"
            elif not service["spec"].get("publishNotReadyAddresses"):
                continue  # clients look at the endpoints
            self.network.publish(base, pod.address, [base, f"{base}.{self._namespace}", f"{base}.{self._namespace}.svc",
                                                     f"{base}.{self._namespace}.svc.cluster.local"])
        return pod

    def __enter__(self) -> Cluster:
        self.network.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for pod in self.pods():
            pod.template["terminationGracePeriodSeconds"] = 10
            pod.spec.pop("lifecycle", None)
        threads = [threading.Thread(target=pod.terminate) for pod in self.pods()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.network.__exit__()

    def pods(self) -> list[Pod]:
        return [pod for workload in self.workloads.values() for pod in workload.pods]

    def every_pod(self) -> list[Pod]:
        return self.pods() + [pod for workload in self.workloads.values() for pod in workload.gone]

    def chosen(self, service: Object) -> list[Pod]:
        return [pod for pod in self.pods() if service["spec"]["selector"].items() <= pod.labels.items()]

    def start(self) -> None:
        """All at once, as `kubectl apply` does."""
        for workload in self.workloads.values():
            workload.start()

    def wait_ready(self, seconds: float) -> None:
        for workload in self.workloads.values():
            workload.wait_ready(seconds)

    def workload(self, component: str) -> Workload:
        [found] = [workload for workload in self.workloads.values()
                   if workload.template["metadata"]["labels"]["app.kubernetes.io/component"] == component]
        return found
