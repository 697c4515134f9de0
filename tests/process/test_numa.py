"""`sheaf serve --numa`: what the log says went where, and that it is there. Most machines that run this have one node,
so two are told to hwloc (HWLOC_XMLFILE): cores are then really given, memory is not, and the log says that, too."""
from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from answers import generate
from pool_harness import free_port
from sheaf_server import BINARY, SheafServer, run_to_end, wait_for
from tls_harness import Process

PROMPT = [5, 6, 7, 8]
FLAGS = ["--workers", "2", "--kv-cache-memory-bytes", "16MiB"]


def allowed_cpus(pid: int, thread: int | None = None) -> set[int]:
    text = Path(f"/proc/{pid}/task/{thread or pid}/status").read_text()
    return numbers(re.search(r"Cpus_allowed_list:\t(.*)", text).group(1))


def numbers(ranges: str) -> set[int]:
    """{0, 1, 2, 7} of "0-2,7"."""
    ends = [part.split("-") for part in ranges.split(",")]
    return {number for end in ends for number in range(int(end[0]), int(end[-1]) + 1)}


def allocated_policies(pid: int) -> list[tuple[str, int, int]]:
    """(policy, node, pages) of the private mappings of a process without a file behind them."""
    found = []
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        words = line.split()
        if " anon=" in line and " file=" not in line:
            found += [(words[1], int(node), int(pages)) for node, pages in re.findall(r" N(\d+)=(\d+)", line)]
    return found


def can_bind(log: str) -> bool:
    return "memory from there alone" in log


def bits(*set_ones: int) -> str:
    """A bitmap as hwloc writes it: words of 32 bits, the highest first."""
    words = [0] * (max(set_ones) // 32 + 1)
    for number in set_ones:
        words[-1 - number // 32] |= 1 << number % 32
    return ",".join(f"0x{word:08x}" for word in words)


def sets(cpus: str, nodes: str) -> str:
    return f'cpuset="{cpus}" complete_cpuset="{cpus}" nodeset="{nodes}" complete_nodeset="{nodes}"'


@pytest.fixture
def two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Two of this machine's CPUs as nodes 0 and 1, for every process that is started."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("one CPU: there are no two nodes to be made of it")
    first, second = cpus[0], cpus[1]
    packages = "".join(
        f'<object type="Package" os_index="{node}" {sets(bits(cpu), bits(node))} gp_index="{10 * node + 2}">'
        f'<object type="NUMANode" os_index="{node}" {sets(bits(cpu), bits(node))} gp_index="{10 * node + 3}" '
        f'local_memory="8589934592"/>'
        f'<object type="Core" os_index="{node}" {sets(bits(cpu), bits(node))} gp_index="{10 * node + 4}">'
        f'<object type="PU" os_index="{cpu}" {sets(bits(cpu), bits(node))} gp_index="{10 * node + 5}"/></object></object>'
        for node, cpu in enumerate((first, second)))
    machine = bits(first, second)
    xml = tmp_path / "two_nodes.xml"
    xml.write_text('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE topology SYSTEM "hwloc2.dtd">\n<topology version="2.0">\n'
                   f'<object type="Machine" os_index="0" {sets(machine, "0x00000003")} allowed_cpuset="{machine}" '
                   f'allowed_nodeset="0x00000003" gp_index="1">{packages}</object></topology>\n')
    monkeypatch.setenv("HWLOC_XMLFILE", str(xml))
    yield first, second


def test_one_node_serves_and_is_said(tiny: Path) -> None:
    with SheafServer(tiny, *FLAGS) as server:
        wanted = generate(server, PROMPT, 8)
    with SheafServer(tiny, *FLAGS, "--numa") as server:
        log = server.log()
        nodes = re.findall(r"--numa: (node \d+: .*)", log)
        assert len(nodes) == 1 and "router" in nodes[0] and "worker 1" in nodes[0], log
        if len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) == 1:
            assert "--numa: this machine has one NUMA node: all processes are on node 0" in log
        assert len(re.findall(r"on NUMA node \d+: \d+ of its \d+ cores?", log)) == 3, "each for itself"
        assert generate(server, PROMPT, 8) == wanted


def test_memory_is_bound_where_the_log_says(tiny: Path) -> None:
    """All that the processes have allocated: weights, KV cache, stacks of the threads that compute."""
    with SheafServer(tiny, *FLAGS, "--numa", "--tensor-parallel-size", "2") as server:
        generate(server, PROMPT, 8)
        if not can_bind(server.log()):
            pytest.skip("this system does not let a process bind its memory (set_mempolicy)")
        if not Path("/proc/self/numa_maps").exists():
            pytest.skip("this kernel has no /proc/PID/numa_maps")
        pids = [server.pid, *server.worker_pids(), *(rank["pid"] for rank in server.ready["attention_ranks"])]
        assert len(pids) == 4
        for pid in pids:
            line = re.search(rf"\[{pid}\] on NUMA node (\d+): .*, memory from there alone", server.log())
            assert line, pid
            maps = allocated_policies(pid)
            assert sum(pages for _, _, pages in maps) > 100
            assert {policy for policy, _, _ in maps} == {f"bind:{line.group(1)}"}, pid
            assert {node for _, node, _ in maps} == {int(line.group(1))}, pid


def test_without_the_flag_nothing_is_bound(tiny: Path) -> None:
    with SheafServer(tiny, *FLAGS) as server:
        assert "NUMA" not in server.log()
        if Path("/proc/self/numa_maps").exists():
            assert not any(policy.startswith("bind") for policy, _, _ in allocated_policies(server.pid))


def test_two_nodes(tiny: Path, two_nodes: tuple[int, int]) -> None:
    first, second = two_nodes
    with SheafServer(tiny, *FLAGS, "--numa", "--tensor-parallel-size", "2") as server:
        log = server.log()
        assert ("--numa: node 0: router (1 core, shared), worker 0 (1 core, shared); "
                "node 1: attention rank 1 (1 core, shared), worker 1 (1 core, shared)") in log
        assert "memory is not bound, since the environment (HWLOC_XMLFILE" in log, "what is not so is not claimed"
        worker_0, worker_1 = server.worker_pids()
        rank_1 = server.ready["attention_ranks"][0]["pid"]
        for pid, cpu in [(server.pid, first), (worker_0, first), (worker_1, second), (rank_1, second)]:
            for thread in os.listdir(f"/proc/{pid}/task"):
                assert allowed_cpus(pid, int(thread)) == {cpu}, "every thread"
        assert generate(server, PROMPT, 4)["ids"]
        os.kill(worker_1, 9)
        wait_for(lambda: len(server.worker_pids()) == 2 and worker_1 not in server.worker_pids(), 30, "another worker 1")
        assert allowed_cpus(server.worker_pids()[1]) == {second}, "it is put where the one before was"


def test_a_node_without_a_process_is_remarked(tiny: Path, two_nodes: tuple[int, int]) -> None:
    with SheafServer(tiny, "--workers", "0", "--numa") as server:
        assert "--numa: NUMA node 1 stays empty: 2 nodes could have as many workers" in server.log()
        assert allowed_cpus(server.pid) == {two_nodes[0]}


def test_a_node_that_the_mask_leaves_out(tiny: Path, two_nodes: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = two_nodes
    monkeypatch.setenv("HWLOC_THISSYSTEM", "1")  # else hwloc does not ask for the mask
    on_first = ["taskset", "--cpu-list", str(first)]
    server = SheafServer(tiny, *FLAGS, "--numa")
    server.prefix = on_first
    with server:
        assert "--numa: NUMA node 1 is left out: none of its 1 core is in this process's affinity mask" in server.log()
        assert "--numa: one NUMA node may be used: all processes are on node 0" in server.log()
        assert all(allowed_cpus(pid) == {first} for pid in (server.pid, *server.worker_pids()))
    refused = subprocess.run([*on_first, BINARY, "router", str(tiny), "--numa-node", "1"], capture_output=True, text=True,
                             timeout=60, check=False)
    assert refused.returncode == 1
    assert refused.stderr.strip() == ("sheaf: --numa-node: NUMA node 1 cannot be used: none of its 1 core is in this "
                                      "process's affinity mask")


def test_a_binding_that_the_system_refuses_is_one_line(tiny: Path, two_nodes: tuple[int, int],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has no node 1: worker 1 cannot be bound there, and the server ends instead of serving from elsewhere."""
    if Path("/sys/devices/system/node/node1").exists():
        pytest.skip("this machine has a node 1")
    monkeypatch.setenv("HWLOC_THISSYSTEM", "1")
    result = run_to_end("serve", str(tiny), *FLAGS, "--numa", "--port", "0", "--grpc-port", "0")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("sheaf: --numa-node: cannot bind memory to NUMA node 1: ")


def test_an_operators_own_processes(tiny: Path, tmp_path: Path) -> None:
    cluster = free_port()
    refused = run_to_end("worker", str(tiny), "--coordinator", "127.0.0.1:1", "--numa-node", "999")
    assert refused.returncode != 0
    assert re.fullmatch(r"sheaf: --numa-node: wanted one of this machine's NUMA nodes \([\d, ]+\), got 999",
                        refused.stderr.strip())
    node = min(numbers(Path("/sys/devices/system/node/online").read_text().strip()))
    processes = []
    try:
        processes.append(Process(tmp_path, "router", "router", str(tiny), "--workers", "1", "--port", "0", "--grpc-port",
                                 "0", "--cluster-port", str(cluster), "--numa-node", str(node)))
        processes.append(Process(tmp_path, "worker", "worker", str(tiny), "--coordinator", f"127.0.0.1:{cluster}",
                                 "--numa-node", str(node)))
        wait_for(lambda: re.search(r" ready$", processes[0].log(), re.MULTILINE), 60, "the router is ready")
        for process in processes:
            assert f"on NUMA node {node}: " in process.log()
    finally:
        for process in processes:
            process.stop()
