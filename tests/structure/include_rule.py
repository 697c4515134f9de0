"""Who may include whom: the folder rule of docs/architecture.md, as data and one pure function.

check_file(path, text) returns one message for each `#include "folder/..."` that breaks the rule.
"""
from __future__ import annotations

import re
from pathlib import PurePosixPath

_FACES = {"router/api/openai", "router/api/status", "router/api/grpc"}
_API = {"base", "network", "tracing", "kernels", "model", "router/text", "router/schedule", "router/metrics", "router/api/request", "router/api/generation"}
_MOVER = {"base", "exchange/wire", "exchange/link"}
_LINKS = {"exchange", "exchange/wire", "exchange/link", "exchange/layer", "exchange/pool"}

# Folder -> folders it may include, beside itself. The longest matching prefix of a path is its folder.
ALLOWED: dict[str, set[str]] = {
    "base": set(),
    "network": {"base"},
    "proto": set(),
    "tracing": {"base", "proto"},
    "kernels": {"base"},
    "model": {"base", "kernels"},
    # A frame, a link, its byte movers; then what a router makes of them.
    "exchange": {"base", "kernels"},
    "exchange/wire": {"base", "kernels"},
    "exchange/link": {"base", "exchange/wire"},
    "exchange/in_process": _MOVER,
    "exchange/shared_memory": _MOVER,
    "exchange/tcp": _MOVER,
    "exchange/nccl": {"base"},
    "exchange/gather": {"base", "exchange/wire", "exchange/link"},
    "exchange/layer": {"base", "kernels", "exchange", "exchange/wire"},
    "exchange/pool": {"base", "kernels", "exchange", "exchange/wire", "exchange/link", "exchange/layer"},
    "exchange/benchmarks": {"base", "exchange", "exchange/gather", "exchange/shared_memory", "exchange/tcp", *_MOVER},
    "coordinator": {"base", "network", "proto", "exchange", "exchange/wire", "exchange/link"},
    "worker": {"base", "network", "proto", "kernels", "model", *_LINKS},
    "router/text": {"base"},
    "router/metrics": {"base"},
    "router/attention": {"base", "kernels", "model", "exchange", "exchange/layer", "exchange/gather"},
    "router/schedule": {"base", "kernels", "model", "exchange", "exchange/layer", "router/attention", "router/text"},
    "router/cluster": {"base", "network", "proto", "coordinator", *_LINKS},
    "router/ranks": {"base", "network", "proto", "kernels", "model", "exchange", "exchange/link", "exchange/gather", "coordinator",
                     "router/attention", "router/cluster"},
    # What requests are and how they run; the faces over it (http is the protocol, openai and status speak it) know nothing of
    # each other.
    "router/api/request": {"base", "tracing", "kernels", "model", "router/text", "router/schedule"},
    "router/api/generation": {"router/api/request", "base", "tracing", "kernels", "model", "router/text", "router/schedule", "router/metrics"},
    "router/api/http": {*_API},
    "router/api/openai": {*_API, "router/api/http"},
    "router/api/status": {*_API, "router/api/http"},
    "router/api/grpc": {*_API, "proto"},
    # The page and what it shows; cli fills it in.
    "router/ui": {*_API, "router/api/http"},
    "router/api": {*_API, "router/api/http", *_FACES},
    "cli": {"base", "network", "proto", "tracing", "kernels", "model", *_LINKS, "exchange/in_process", "exchange/shared_memory", "exchange/tcp",
            "exchange/nccl", "coordinator", "worker", "router/text",
            "router/metrics", "router/attention", "router/schedule", "router/cluster", "router/ranks", "router/api",
            "router/api/request",
            "router/api/generation", "router/api/http", "router/ui", *_FACES},
}

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def folder_of(path: str) -> str | None:
    """The rule's folder for a repo-root path, or None for a path outside the rule (generated, third party)."""
    parts = PurePosixPath(path).parts
    for length in range(len(parts) - 1, 0, -1):
        folder = "/".join(parts[:length])
        if folder in ALLOWED:
            return folder
    return None


def check_file(path: str, text: str) -> list[str]:
    source = folder_of(path)
    if source is None:
        return []
    errors = []
    for included in _INCLUDE.findall(text):
        if included.startswith("."):
            errors.append(f"{path}: \"{included}\" is a relative include; name it from the repository root")
            continue
        target = folder_of(included)
        if target is None or target == source or target in ALLOWED[source]:
            continue
        errors.append(f"{path}: {source} may not include {target} (\"{included}\")")
    return errors
