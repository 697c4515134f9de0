"""Workers on GPUs beside workers on CPUs: the same bytes, and either kind may die. The GPUs are fake.

The program is sheaf_with_fake_gpu: the real one, linked to tests/cuda's fake CUDA runtime, with the CUDA kernels in their
emulator or, where these would take too long, with the CPU's. So this shows everything of a GPU worker but the GPU.
"""
from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import sheaf_server
from sheaf_server import SheafServer, wait_for

Question = dict[str, Any]
FAKE = Path(sheaf_server.BINARY).parent / "tests" / "sheaf_with_fake_gpu"
MIXED = ("--workers", "3", "--expert-replicas", "2", "--worker-device", "cpu,cuda:0,cuda:1", "--worker-threads", "1")

needs_fake = pytest.mark.skipif(not FAKE.exists(), reason=f"{FAKE} is not built")


def ask_all(server: SheafServer, questions: list[Question]) -> dict[str, str]:
    def ask(question: Question) -> str:
        body = server.completion(prompt=question["prompt"], add_special_tokens=False, max_tokens=question["max_tokens"],
                                 temperature=0, skip_special_tokens=False)
        return body["choices"][0]["text"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return dict(zip((question["name"] for question in questions), pool.map(ask, questions)))


def wait_whole(server: SheafServer) -> None:
    wait_for(lambda: server.healthy() and server.metric("sheaf_expert_coverage", holders="0") == 0
             and server.metric("sheaf_expert_coverage", holders="1") == 0, 60, "every expert has two holders")


def run_worker(binary: Path | str, nano: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(binary), "worker", str(nano), "--coordinator", "127.0.0.1:1", *flags], capture_output=True,
                          text=True, timeout=60, check=False, env={**os.environ, **environment})


def last_line(process: subprocess.CompletedProcess[str]) -> str:
    return process.stderr.strip().splitlines()[-1]


@needs_fake
def test_a_mixed_pool_gives_the_fixed_answers_and_either_kind_may_die(
        nano: Path, nano_questions: list[Question], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheaf_server, "BINARY", str(FAKE))
    monkeypatch.setenv("SHEAF_FAKE_CUDA_KERNELS", "emulated")
    right = {question["name"]: question["answer"] for question in nano_questions}
    with SheafServer(nano, *MIXED, "--verify-share", "0.3") as server:
        assert server.log().count("cuda:0 (fake GPU): ") == 1
        assert server.log().count("cuda:1 (fake GPU): ") == 1
        wait_whole(server)
        assert ask_all(server, nano_questions) == right
        assert server.metric("sheaf_verified_pairs_total", result="same") > 0
        assert server.metric("sheaf_verified_pairs_total", result="different") == 0
        for worker in (1, 0):  # a GPU's, then the CPU's
            pid = server.worker_pids()[worker]
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                answers = pool.submit(ask_all, server, nano_questions)
                os.kill(pid, signal.SIGKILL)
                assert answers.result(timeout=120) == right, f"worker {worker}"
            wait_for(lambda: server.worker_pids()[worker] != pid, 60, "it is started again")
            wait_whole(server)


@needs_fake
def test_a_lost_gpu_is_a_lost_worker(nano: Path, nano_questions: list[Question], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheaf_server, "BINARY", str(FAKE))
    monkeypatch.setenv("SHEAF_FAKE_CUDA_LOSE_AT", "7000")  # some hundred dispatches after everything is loaded
    right = {question["name"]: question["answer"] for question in nano_questions}
    flags = [flag if flag != MIXED[5] else "cpu,cuda:0,cpu" for flag in MIXED]
    with SheafServer(nano, *flags) as server:
        wait_whole(server)
        pids = server.worker_pids()
        wait_for(lambda: ask_all(server, nano_questions) == right and server.worker_pids() != pids, 120,
                 "a GPU is lost, and the answers stay right")
        assert "uncorrectable ECC error encountered (214); the device is lost" in server.log()


@needs_fake
def test_what_a_gpu_needs_is_said_in_one_line(nano: Path) -> None:
    process = run_worker(FAKE, nano, "--device", "cuda:0", SHEAF_FAKE_CUDA_DRIVER="0")
    assert process.returncode == 3, "not worth another try"
    assert last_line(process) == "sheaf: cuda:0: there is no CUDA driver on this machine"
    process = run_worker(FAKE, nano, "--device", "cuda:0", SHEAF_FAKE_CUDA_DRIVER="12040")
    assert last_line(process) == ("sheaf: cuda:0: the driver is too old: wanted one for CUDA 13, got one for "
                                  "CUDA 12.4")
    process = run_worker(FAKE, nano, "--device", "cuda:7")
    assert last_line(process) == "sheaf: cuda:7: wanted one of this machine's 2 CUDA devices, cuda:0 to cuda:1"
    process = run_worker(FAKE, nano, "--device", "cuda:1", "--memory-bytes", "1GiB")
    assert process.returncode == 1, "memory may be free later"
    assert last_line(process) == ("sheaf: cuda:1 (fake GPU): --memory-bytes: wanted 1024.0 MiB, got 60.0 MiB free of "
                                  "64.0 MiB")


@needs_fake
def test_devices_are_told_with_their_nccl() -> None:
    done = subprocess.run([str(FAKE), "devices", "--nccl-library", str(FAKE.parent / "libfake_nccl.so")], capture_output=True,
                          text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(":")[0].split(" (")[0] for line in done.stdout.splitlines()] == [
        "CUDA", "  cuda", "  cuda", "NCCL 2.30.3", "  a unique id", "  a communicator of one rank"]
    done = sheaf_server.run_to_end("devices", "--nccl-library", "/nowhere/libnccl.so.2")
    assert done.returncode == 1
    assert "NCCL\n  not usable: /nowhere/libnccl.so.2: cannot open shared object file" in done.stdout
    assert last_line(done) == "sheaf: this build of sheaf has no CUDA: wanted --device cpu"


def test_a_build_without_cuda_says_so(nano: Path) -> None:
    process = run_worker(sheaf_server.BINARY, nano, "--device", "cuda:0")
    assert process.returncode == 3
    assert last_line(process) == "sheaf: this build of sheaf has no CUDA: wanted --device cpu"


@pytest.mark.parametrize("flags, line", [
    (["worker", "X", "--coordinator", "h:1", "--device", "gpu"], 'sheaf: --device: wanted cpu or cuda:N, got "gpu"'),
    (["worker", "X", "--coordinator", "h:1", "--device", "cuda:01"], 'sheaf: --device: wanted cpu or cuda:N, got "cuda:01"'),
    (["serve", "X", "--workers", "2", "--worker-device", "cpu,cuda"],
     'sheaf: --worker-device: wanted cpu or cuda:N, got "cuda"'),
    (["serve", "X", "--worker-device", "cuda:0", "--workers", "0"],
     "sheaf: --worker-device: wanted workers that are processes, since a GPU belongs to one, got "
     '"cuda:0" with --workers 0'),
])
def test_a_device_that_is_none(flags: list[str], line: str) -> None:
    process = sheaf_server.run_to_end(*flags)
    assert process.returncode == 1
    assert last_line(process) == line
