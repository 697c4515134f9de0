"""The image's root file system: assembled without a container engine, and it serves where little is allowed.

Takes minutes and fetches Debian's packages, so only with SHEAF_ASSEMBLE_IMAGE=1; SHEAF_IMAGE_ROOT names one that is there.
"""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Iterator

import pytest

import policy
from charts import REPOSITORY
from limits import Limits

sys.path.insert(0, str(REPOSITORY / "tests/process"))

from controllers import USER  # noqa: E402
from pods import START, Root  # noqa: E402
from pool_harness import free_port  # noqa: E402  (found through the path above)
from sheaf_server import SheafServer, wait_for  # noqa: E402

NANO = REPOSITORY / "checkpoints/sheaf-nano-120"
SHARED_MEMORY_BYTES = 64 << 20
CPUS = 1.5

pytestmark = [
    pytest.mark.skipif(not Path(policy.binary()).exists(), reason=f"no program at {policy.binary()}"),
    pytest.mark.skipif(not {"SHEAF_ASSEMBLE_IMAGE", "SHEAF_IMAGE_ROOT"} & os.environ.keys(),
                       reason="takes minutes: SHEAF_ASSEMBLE_IMAGE=1 has it run"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if there := os.environ.get("SHEAF_IMAGE_ROOT"):
        return Path(there)
    root = tmp_path_factory.mktemp("image") / "root"
    done = subprocess.run([str(REPOSITORY / "deploy/container/assemble_root.sh"), policy.binary(), str(root)], capture_output=True,
                          text=True, timeout=800, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return root


def test_the_program_finds_its_libraries(image: Path) -> None:
    said = subprocess.run(["chroot", f"--userspec={USER}:{USER}", str(image), "/usr/bin/sheaf", "--version"], capture_output=True,
                          text=True, check=False)
    assert said.returncode == 0 and said.stdout.startswith("sheaf "), said.stderr


def test_it_is_small(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [path for path in image.rglob("*") if path.is_file() and not path.is_symlink()]
    megabytes = sum(path.lstat().st_size for path in files) / 1e6
    with capsys.disabled():
        print(f"\nimage root: {megabytes:.0f} MB")
    assert megabytes < 200
    assert not list((image / "var/lib/apt/lists").glob("*")) and (image / "usr/share/doc/libssl3/copyright").exists()


@pytest.fixture(name="shared_memory")
def _shared_memory(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "shm"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SHARED_MEMORY_BYTES},mode=1777", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


class Confined:
    """`sheaf serve` within the image: read-only root, user 65532, no capabilities, 64 MB of /dev/shm, 1.5 CPUs, 1 GiB."""

    def __init__(self, image: Path, folder: Path, shared_memory: Path, *flags: str) -> None:
        root = Root(folder, policy.binary(), image)
        self.limits = Limits("image", {"cpu": str(CPUS), "memory": "1Gi"})
        self.http, self._log = f"127.0.0.1:{free_port()}", folder / "log"
        mounts = [*root.mounts, (str(NANO), "/checkpoints/nano", True), (str(shared_memory), "/dev/shm", False)]
        for _, target, _ in mounts[-2:]:
            root.mount_point(target)
        command = ["sheaf", "serve", "/checkpoints/nano", "--port", self.http.rpartition(":")[2], "--grpc-port", "0",
                   "--cluster-port", "0", *flags]
        spec = folder / "spec.json"
        spec.write_text(json.dumps({"root": str(image), "mounts": mounts, "user": USER, "group": USER, "command": command,
                                    "environment": {"PATH": "/usr/bin:/bin"}, "groups": self.limits.join_files}))
        began = time.monotonic()
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen([sys.executable, str(START), str(spec)], stdout=log, stderr=log)
        wait_for(lambda: self.process.poll() is not None or self.ready(), 60, "it is ready")
        self.start_seconds = time.monotonic() - began

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.http}/ready", timeout=5) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def ask(self, question: dict[str, Any]) -> str:
        request = urllib.request.Request(f"http://{self.http}/v1/completions", json.dumps(question).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["choices"][0]["text"]

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def end(self) -> int:
        self.process.terminate()
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.limits.remove()
        return status


def test_it_serves_confined(image: Path, shared_memory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = {"prompt": "What is an expert worker?", "max_tokens": 40, "temperature": 0}
    with SheafServer(NANO, "--workers", "0", "--threads", "1") as reference:
        wanted = reference.completion(**question)["choices"][0]["text"]
    confined = Confined(image, tmp_path, shared_memory, "--workers", "2", "--kv-cache-memory-bytes", "auto")
    try:
        assert confined.process.poll() is None, confined.log()
        assert confined.ask(question) == wanted
        status = Path(f"/proc/{confined.process.pid}/status").read_text()
        assert re.search(rf"^Uid:\s+{USER}\s", status, re.MULTILINE) and re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
        used = sum(path.stat().st_size for path in shared_memory.rglob("*") if path.is_file())
        assert used == 0  # nothing is written but where a flag says so
        with capsys.disabled():
            held = "held to 1.5 CPUs and 1 GiB" if confined.limits.join_files else "no control groups here: no limits"
            print(f"\nready after {confined.start_seconds:.1f} s, {held}, {confined.limits.memory_peak() >> 20} MiB at most; "
                  f"bytes in /dev/shm: {used}; load of the machine {os.getloadavg()[0]:.1f}\n"
                  + "\n".join(line for line in confined.log().splitlines() if "thread" in line or "cpu" in line.lower()))
    finally:
        ended = confined.end()
    assert ended == 0, confined.log()


def test_it_says_what_it_needs(image: Path, shared_memory: Path, tmp_path: Path) -> None:
    """More KV cache than the limit of memory leaves is no crash under load, but a line at start."""
    confined = Confined(image, tmp_path, shared_memory, "--kv-cache-memory-bytes", "2GiB")
    try:
        if not confined.limits.join_files:
            pytest.skip("no control groups here")
        assert confined.process.wait(30) == 1
        assert re.search(r"--kv-cache-memory-bytes: wanted 2048 MiB, but the limit in /sys/fs/cgroup/\S+ is 1024 MiB", confined.log())
    finally:
        confined.end()
