"""What a pool's coordinator and its processes say of themselves: sheaf.v1.Pool, /health, /metrics."""
from __future__ import annotations

import http.client
import importlib
import json
from typing import Any

import grpc

import sheaf_grpc  # noqa: F401  (writes the messages that are imported next)

pool_pb: Any = importlib.import_module("sheaf.v1.pool_pb2")
READY, SPARE = pool_pb.WorkerStatus.READY, pool_pb.WorkerStatus.SPARE
DRAINING, QUARANTINED = pool_pb.WorkerStatus.DRAINING, pool_pb.WorkerStatus.QUARANTINED


def call(cluster: str, name: str, request: Any, reply: Any, token: str = "", seconds: float = 5.0) -> Any:
    """One unary call of sheaf.v1.Pool on a connection of its own; raises grpc.RpcError."""
    with grpc.insecure_channel(cluster, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        method = channel.unary_unary(f"/sheaf.v1.Pool/{name}", request_serializer=type(request).SerializeToString,
                                     response_deserializer=reply.FromString)
        metadata = [("authorization", f"Bearer {token}")] if token else []
        return method(request, timeout=seconds, metadata=metadata)


def status(cluster: str, token: str = "") -> Any:
    return call(cluster, "GetStatus", pool_pb.GetPoolStatusRequest(), pool_pb.PoolStatus, token)


def status_or_none(cluster: str, token: str = "") -> Any:
    try:
        return status(cluster, token)
    except grpc.RpcError:
        return None


def get(address: str, path: str, seconds: float = 5.0) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address.rsplit(":", 1), timeout=seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def post(address: str, path: str, body: Any, seconds: float = 60.0) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address.rsplit(":", 1), timeout=seconds)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def healthy(address: str) -> bool:
    try:
        return get(address, "/health")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def samples(address: str) -> dict[str, float]:
    """name{labels} -> value of everything at /metrics."""
    found = {}
    for line in get(address, "/metrics")[1].splitlines():
        head, _, value = line.rpartition(" ")
        if head and not line.startswith("#"):
            found[head] = float(value)
    return found


def metric(address: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry all these labels; 0 when there is none."""
    return sum(value for head, value in samples(address).items() if head.split("{")[0] == name
               and all(f'{key}="{wanted}"' in head for key, wanted in labels.items()))
