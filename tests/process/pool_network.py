"""Network namespaces of a test's own, and faults between them: black hole, loss in one direction, link down.

    with Namespaces(3) as network, network.entered():
        network.addresses[0]      # 10.x.y.11, where the first outpost's processes live
        network.black_hole(0)     # its packets vanish, both ways
        network.heal(0)

One bridge in a hub namespace, where routers and coordinators live, and one namespace for each outpost. Nothing outside
of them is touched; there is no way out of them either. Needs root, iproute2 and nftables: why_not() says what is
missing.
"""
from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Iterator

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str:
    """Empty where namespaces can be made; else one line that says what is missing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "nft", "nsenter"):
        if shutil.which(program) is None:
            return f"network namespaces need the program {program}"
    name = f"sheaf-probe-{os.getpid()}"
    probe = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        return f"network namespaces are not permitted here: {probe.stderr.strip()}"
    try:
        rules = subprocess.run(["nsenter", f"--net=/run/netns/{name}", "nft", "add", "table", "inet", "probe"],
                               capture_output=True, text=True, check=False)
        return f"nftables does not work here: {rules.stderr.strip()}" if rules.returncode else ""
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


def _set_namespace(path: str) -> None:
    """Of this thread; threads and processes that it starts inherit it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {path}")
    finally:
        os.close(descriptor)


class Namespaces:
    """`count` outposts around a hub. Each link has a rate where bits_per_second is given."""

    def __init__(self, count: int, bits_per_second: str | None = None) -> None:
        self._tag = secrets.token_hex(2)
        self.hub = f"sheaf{self._tag}-hub"
        self.outposts = [f"sheaf{self._tag}-{i}" for i in range(count)]
        self.hub_address = "10.203.0.1"
        self.addresses = [f"10.203.0.{11 + i}" for i in range(count)]
        self._rate = bits_per_second

    def __enter__(self) -> Namespaces:
        try:
            self._make()
        except Exception:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in (*self.outposts, self.hub):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def _make(self) -> None:
        for name in (self.hub, *self.outposts):
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        _run("ip", "-n", self.hub, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", self.hub, "addr", "add", f"{self.hub_address}/24", "dev", "bridge")
        _run("ip", "-n", self.hub, "link", "set", "bridge", "up")
        for i, name in enumerate(self.outposts):
            _run("ip", "-n", self.hub, "link", "add", f"to{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "-n", self.hub, "link", "set", f"to{i}", "master", "bridge", "up")
            _run("ip", "-n", name, "addr", "add", f"{self.addresses[i]}/24", "dev", "eth0")
            _run("ip", "-n", name, "link", "set", "eth0", "up")
            if self._rate:
                for where, device in ((self.hub, f"to{i}"), (name, "eth0")):
                    _run("tc", "-n", where, "qdisc", "add", "dev", device, "root", "tbf", "rate",
                         self._rate, "burst", "1mb", "latency", "50ms")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it starts meanwhile, is in the hub."""
        before = f"/proc/self/task/{_libc.gettid()}/ns/net"
        home = os.open(before, os.O_RDONLY | os.O_CLOEXEC)
        _set_namespace(f"/run/netns/{self.hub}")
        try:
            yield
        finally:
            _libc.setns(home, _CLONE_NEWNET)
            os.close(home)

    def within(self, outpost: int) -> list[str]:
        """What a command line begins with to run there. Mounts stay as they are, unlike with `ip netns exec`."""
        return ["nsenter", f"--net=/run/netns/{self.outposts[outpost]}"]

    # Faults. Each replaces the one before it at that outpost.

    def black_hole(self, outpost: int) -> None:
        self._drop(outpost, ("input", "output"))

    def deaf(self, outpost: int) -> None:
        """What is sent to it vanishes; what it sends arrives."""
        self._drop(outpost, ("input",))

    def mute(self, outpost: int) -> None:
        """What it sends vanishes; what is sent to it arrives."""
        self._drop(outpost, ("output",))

    def link_down(self, outpost: int) -> None:
        _run("ip", "-n", self.hub, "link", "set", f"to{outpost}", "down")

    def heal(self, outpost: int) -> None:
        subprocess.run([*self.within(outpost), "nft", "delete", "table", "inet", "faults"], capture_output=True,
                       check=False)
        _run("ip", "-n", self.hub, "link", "set", f"to{outpost}", "up")

    def _drop(self, outpost: int, hooks: tuple[str, ...]) -> None:
        chains = "\n".join(f"chain {hook} {{ type filter hook {hook} priority 0; oifname != \"lo\" drop; }}"
                           if hook == "output" else
                           f"chain {hook} {{ type filter hook {hook} priority 0; iifname != \"lo\" drop; }}"
                           for hook in hooks)
        rules = f"table inet faults\ndelete table inet faults\ntable inet faults {{\n{chains}\n}}\n"
        subprocess.run([*self.within(outpost), "nft", "-f", "-"], input=rules, text=True, check=True,
                       capture_output=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def listening_ports(pid: int) -> list[tuple[str, int]]:
    """(address, port) of a process's listening TCP sockets over IPv4, in its own namespace."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(entry)
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in sockets:
            address, port = fields[1].split(":")
            octets = bytes.fromhex(address)[::-1]
            found.append((".".join(map(str, octets)), int(port, 16)))
    return found
