"""Certificates of a cluster renewed each second, as long as it lasts, and what is seen of it.

    renewals = Renewals(cluster)
    load = Load(..., **renewals.client())    # how clients connect: nothing without Certificates
    with renewals: ...
    renewals.faults()                        # empty: every listener took new certificates up

A thread renews; another looks at the certificate that a router shows clients and at the one that the coordinator says it
shows the cluster.
"""
from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import ssl
import threading
import time
from typing import Any, Callable

from controllers import Cluster

PERIOD_SECONDS = 1.0
EXPIRY = "sheaf_tls_certificate_expiry_timestamp_seconds"


class Renewals:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._each_second, args=(act,), daemon=True)
                         for act in (cluster.renew_certificates, self._look)]
        self._before = 0
        self.renewed = 0
        self.to_clients: set[str] = set()    # different certificates seen
        self.to_cluster: set[str] = set()
        self.troubles: list[str] = []

    def client(self) -> dict[str, Any]:
        if self._cluster.issuer is None:
            return {}
        context = ssl.create_default_context(cadata=self._cluster.issuer.ca.decode())
        return {"tls": context, "tls_name": "sheaf.sheaf.svc"}

    def __enter__(self) -> Renewals:
        if self._cluster.issuer is not None:
            self._before = self._cluster.issuer.renewals
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._cluster.issuer is not None:
            for thread in self._threads:
                thread.join()
            self.renewed = self._cluster.issuer.renewals - self._before

    def _each_second(self, act: Callable[[], None]) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            try:
                act()
            except Exception as error:  # pylint: disable=broad-except  # a thread's end would go unnoticed
                self.troubles.append(f"renewals: {type(error).__name__}: {error}")
            due = max(due + PERIOD_SECONDS, time.monotonic())

    def _look(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):  # what is looked at may be going just now
            host, port = self._cluster.endpoints[0].rsplit(":", 1)
            shown = ssl.get_server_certificate((host, int(port)), timeout=2)
            self.to_clients.add(hashlib.sha256(shown.encode()).hexdigest())
        with contextlib.suppress(OSError, http.client.HTTPException):
            for pod in self._cluster.workload("coordinator").pods:
                ports = {port["name"]: port["containerPort"] for port in pod.spec["ports"]}
                connection = http.client.HTTPConnection(pod.address, ports["metrics"], timeout=2)
                connection.request("GET", "/metrics")
                text = connection.getresponse().read().decode()
                connection.close()
                self.to_cluster |= set(re.findall(EXPIRY + r'\{.*listener="cluster".*\} (\S+)', text))

    def faults(self) -> list[str]:
        if self._cluster.issuer is None:
            return []
        few = self.renewed // 10  # of what was made; those that nobody looked at in time are not seen
        return self.troubles[:5] + [f"renewals: {len(seen)} certificates seen by {whom} of {self.renewed} made"
                                    for whom, seen in (("clients", self.to_clients), ("the cluster", self.to_cluster))
                                    if len(seen) <= few]

    def __str__(self) -> str:
        if self._cluster.issuer is None:
            return "no certificates"
        return (f"certificates: renewed {self.renewed} times; different ones seen by clients {len(self.to_clients)}, "
                f"by the cluster {len(self.to_cluster)}")
