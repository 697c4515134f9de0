"""A kubelet's probes: HTTP and gRPC health, with their period, timeout and threshold."""
from __future__ import annotations

import http.client
import ssl
import time
from typing import Any, Protocol

import grpc

_ANY_CERTIFICATE = ssl.create_default_context()
_ANY_CERTIFICATE.check_hostname, _ANY_CERTIFICATE.verify_mode = False, ssl.CERT_NONE


class Probed(Protocol):
    """What is probed: where it is, and its container's manifest."""
    address: str
    spec: dict[str, Any]


class Probe:
    """One probe of one life."""

    def __init__(self, spec: dict[str, Any] | None, pod: Probed) -> None:
        self._spec, self._pod = spec, pod
        self.passed = spec is None  # ever
        self.passed_now = spec is None
        self.why = ""
        self._failures = 0
        self._next = time.monotonic()

    def due(self) -> bool:
        """Asks when it is time to; False when it is not."""
        if self._spec is None or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._spec.get("periodSeconds", 10)
        self.why = self._ask()
        self.passed_now = not self.why
        self.passed |= self.passed_now
        self._failures = 0 if self.passed_now else self._failures + 1
        return True

    def failed_for_good(self) -> bool:
        assert self._spec is not None
        return self._failures >= self._spec.get("failureThreshold", 3)

    def _ask(self) -> str:
        assert self._spec is not None
        timeout = self._spec.get("timeoutSeconds", 1)
        if "grpc" in self._spec:
            return ask_health(f"{self._pod.address}:{self._spec['grpc']['port']}", self._spec["grpc"].get("service", ""), timeout)
        ports = {port["name"]: port["containerPort"] for port in self._pod.spec["ports"]}
        request = self._spec["httpGet"]
        port = ports.get(request["port"], request["port"])
        if request.get("scheme") == "HTTPS":  # a kubelet takes any certificate
            connection = http.client.HTTPSConnection(self._pod.address, port, timeout=timeout, context=_ANY_CERTIFICATE)
        else:
            connection = http.client.HTTPConnection(self._pod.address, port, timeout=timeout)
        try:
            connection.request("GET", request["path"])
            response = connection.getresponse()
            text = response.read(500).decode(errors="replace")
            return "" if 200 <= response.status < 400 else f"HTTP {response.status} {text}"
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            connection.close()


def ask_health(address: str, service: str, timeout: float) -> str:
    """grpc.health.v1.Health/Check by hand: the request is field 1, the reply's field 1 is SERVING = 1. Empty: serving."""
    name = service.encode()
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            reply = channel.unary_unary("/grpc.health.v1.Health/Check")(
                b"\x0a" + bytes([len(name)]) + name if name else b"", timeout=timeout)
        except grpc.RpcError as error:
            return f"gRPC {error.code().name}"
    return "" if reply == b"\x08\x01" else f"gRPC health says {reply!r}"
