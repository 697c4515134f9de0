"""Faults on one process: a cgroup that slows it, bits that flip in its weights; and what a process costs."""
from __future__ import annotations

import contextlib
import os
import random
import re
import time
from pathlib import Path
from typing import Iterator

import numpy as np

_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
_PAGE = 4096


def why_no_quota() -> str:
    """Empty where cpu quotas can be set, in cgroup v1 or v2; else one line that says what is missing."""
    try:
        with slowed(os.getpid(), share=1.0):
            return ""
    except OSError as error:
        return f"cpu quotas are not permitted here: {error}"


@contextlib.contextmanager
def slowed(pid: int, share: float = 0.1, period_us: int = 10000) -> Iterator[Path]:
    """The process gets this share of one core meanwhile, in slices of a short period. Its children too."""
    quota = max(1000, int(share * period_us))  # 1 ms is the least that Linux takes
    name = f"sheaf-slow-{os.getpid()}-{pid}"
    if (_V1 / "cpu.cfs_quota_us").exists():
        group, home = _V1 / name, _V1 / _v1_group(pid).lstrip("/") / "cgroup.procs"
        group.mkdir()
        settings = {"cpu.cfs_period_us": f"{period_us}", "cpu.cfs_quota_us": f"{quota}"}
    else:
        if "cpu" not in (_V2 / "cgroup.subtree_control").read_text().split():
            (_V2 / "cgroup.subtree_control").write_text("+cpu")
        group, home = _V2 / name, _V2 / _v2_group(pid).lstrip("/") / "cgroup.procs"
        group.mkdir()
        settings = {"cpu.max": f"{quota} {period_us}"}
    try:
        for file, value in settings.items():
            (group / file).write_text(value)
        (group / "cgroup.procs").write_text(str(pid))
        yield group
    finally:
        for line in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                home.write_text(line)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                group.rmdir()
                break
            except OSError:  # a process that has just ended is still being counted out
                time.sleep(0.01)


def throttled(group: Path) -> tuple[int, int]:
    """(periods, periods in which it had to wait)."""
    values = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(values["nr_periods"]), int(values["nr_throttled"])


def _v1_group(pid: int) -> str:
    return next((line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
                 if "cpu" in line.split(":")[1].split(",")), "/")


def _v2_group(pid: int) -> str:
    return next((line[3:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line[:3] == "0::"), "/")


class Weights:
    """The pages of a process that look like packed weights: private, full of bytes of every value, and constant.

    Pointers, counters and text do not look like that, so flipping a bit there changes answers and nothing else.
    """

    def __init__(self, pid: int, settle_seconds: float = 0.3) -> None:
        self._memory = Path(f"/proc/{pid}/mem")
        self._flipped: dict[int, int] = {}
        candidates = {}
        for start, end in self._mappings(pid):
            content = self._read(start, end)
            for at in range(0, len(content), _PAGE):
                if _dense(content[at:at + _PAGE]):
                    candidates[start + at] = content[at:at + _PAGE]
        time.sleep(settle_seconds)  # under load: what is no weight changes meanwhile
        self.pages = [address for address, content in candidates.items()
                      if self._read(address, address + _PAGE) == content]

    def flip(self, rng: random.Random, bits: int) -> list[int]:
        """Flips that many bits of weights; where."""
        done = []
        with open(self._memory, "r+b", buffering=0) as memory:
            for address in rng.choices(self.pages, k=bits):
                at, mask = address + rng.randrange(_PAGE), 1 << rng.choice((3, 7))  # a nibble's highest bit
                memory.seek(at)
                byte = memory.read(1)[0]
                memory.seek(at)
                memory.write(bytes([byte ^ mask]))
                self._flipped[at] = byte ^ mask
                done.append(at)
        return done

    def holds(self, address: int) -> bool:
        """Whether a byte is as flip() left it."""
        now = self._read(address, address + 1)
        return bool(now) and now[0] == self._flipped[address]

    @staticmethod
    def _mappings(pid: int) -> Iterator[tuple[int, int]]:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            fields = line.split(None, 5)
            if fields[1].startswith("rw-p") and (len(fields) < 6 or fields[5] == "[heap]"
                                                 or fields[5].startswith("[anon")):
                start, end = fields[0].split("-")
                yield int(start, 16), int(end, 16)

    def _read(self, start: int, end: int) -> bytes:
        """As far as it can be read."""
        content = b""
        try:
            with open(self._memory, "rb", buffering=0) as memory:
                memory.seek(start)
                while len(content) < end - start and (more := memory.read(end - start - len(content))):
                    content += more
        except OSError:
            pass
        return content


def _dense(page: bytes) -> bool:
    if len(page) < _PAGE or page.count(0) > _PAGE // 16:
        return False
    counts = np.bincount(np.frombuffer(page, np.uint8), minlength=256)
    return int(np.count_nonzero(counts)) > 180 and int(counts.max()) < _PAGE // 16


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    return int(re.search(r"^Threads:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE).group(1))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
