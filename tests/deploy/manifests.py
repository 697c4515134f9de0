"""Rendered manifests as objects, their pods, and which flags the program has ($SHEAF_BINARY)."""
from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterable, Iterator

import yaml

Object = dict[str, Any]


@dataclass
class Pod:
    """A pod template: where it stands, its labels and its spec."""
    where: str
    labels: dict[str, str]
    spec: Object

    def containers(self) -> Iterator[tuple[str, Object]]:
        for kind in ("initContainers", "containers"):
            for container in self.spec.get(kind, []):
                yield f"{self.where} {container['name']}", container

    def main(self) -> Object:
        return self.spec["containers"][0]

    def sidecars(self) -> list[Object]:
        return [container for container in self.spec.get("initContainers", []) if container.get("restartPolicy") == "Always"]

    def servers(self) -> Iterator[tuple[str, Object]]:
        """Whatever runs as long as the pod does."""
        for container in (self.main(), *self.sidecars()):
            yield f"{self.where} {container['name']}", container

    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for _, container in self.servers() for port in container.get("ports", [])}


def title(thing: Object) -> str:
    return f"{thing['kind']}/{thing['metadata']['name']}"


def pods_of(objects: Iterable[Object]) -> list[Pod]:
    """Every pod template, of plain kinds and of groups."""
    found = []
    for thing in objects:
        spec = thing.get("spec", {})
        if thing["kind"] in ("Deployment", "StatefulSet"):
            found.append((title(thing), spec["template"]))
        groups = [(title(thing), spec)] if thing["kind"] == "LeaderWorkerSet" else []
        groups += [(f"{title(thing)} {role['name']}", role["spec"]) for role in spec.get("roles", [])]
        for where, group in groups:
            for part in ("leaderTemplate", "workerTemplate"):
                if part in group["leaderWorkerTemplate"]:
                    found.append((f"{where} {part}", group["leaderWorkerTemplate"][part]))
    return [Pod(where, template["metadata"]["labels"], template["spec"]) for where, template in found]


@lru_cache
def flags_of(command: str) -> frozenset[str]:
    done = subprocess.run([binary(), command, "--help"], capture_output=True, text=True, timeout=30, check=True)
    return frozenset(re.findall(r"--[a-z][a-z0-9-]*", done.stdout))


def binary() -> str:
    return os.environ.get("SHEAF_BINARY", str(Path(__file__).resolve().parents[2] / "build/release/sheaf"))


def value_of(arguments: list[str], flag: str) -> str | None:
    for argument in arguments:
        if argument.startswith(flag + "="):
            return argument.split("=", 1)[1]
    return None


def load(text: str) -> list[Object]:
    return [thing for thing in yaml.safe_load_all(text) if thing]
