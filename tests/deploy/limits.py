"""Control groups that hold a container to its manifest's CPU and memory, of whichever version this machine has.

    limits = Limits("sheaf-worker-0", {"cpu": "1", "memory": "1Gi"})
    limits.join_files         # what a process writes its number to, to be held to them; empty where none can be made
    limits.memory_peak()      # bytes
    limits.remove()           # when its processes are gone
"""
from __future__ import annotations

import contextlib
import re
import secrets
from pathlib import Path

PERIOD_MICROSECONDS = 100_000
_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def cpus(text: str) -> float:
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)


def byte_count(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMGT]i)?", text)
    assert match is not None, text
    return int(match[1]) * _UNITS[match[2] or ""]


class Limits:
    def __init__(self, name: str, limits: dict[str, str]) -> None:
        quota = int(cpus(limits["cpu"]) * PERIOD_MICROSECONDS)
        memory = byte_count(limits["memory"])
        self._folders: list[Path] = []
        self._memory_peak: Path | None = None
        leaf = f"sheaf-{secrets.token_hex(2)}-{name}"
        with contextlib.suppress(OSError):
            if Path("/sys/fs/cgroup/cgroup.controllers").exists():
                folder = self._make(Path("/sys/fs/cgroup") / _own("") / leaf)
                (folder / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
                (folder / "memory.max").write_text(str(memory))
                self._memory_peak = folder / "memory.peak"
            else:
                folder = self._make(Path("/sys/fs/cgroup/cpu") / _own("cpu") / leaf)
                (folder / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
                (folder / "cpu.cfs_quota_us").write_text(str(quota))
                folder = self._make(Path("/sys/fs/cgroup/memory") / _own("memory") / leaf)
                (folder / "memory.limit_in_bytes").write_text(str(memory))
                self._memory_peak = folder / "memory.max_usage_in_bytes"

    def _make(self, folder: Path) -> Path:
        folder.mkdir()
        self._folders.append(folder)
        return folder

    @property
    def join_files(self) -> list[str]:
        return [str(folder / "cgroup.procs") for folder in self._folders]

    def memory_peak(self) -> int:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return int(self._memory_peak.read_text())  # type: ignore[union-attr]
        return 0

    def remove(self) -> None:
        for folder in self._folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._folders = []


def _own(controller: str) -> str:
    """This process's group of a controller, without the leading slash."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.lstrip("/")
    return ""
