#!/usr/bin/env python3
"""Becomes a container: a mount namespace of its own with a read-only root, volumes, no privileges; then the command.

    nsenter --net=... pod_start.py SPEC.json

SPEC: root (directory; its mount points are there), mounts ([source, target within the root, read_only]), user, group,
environment, command (its first word is looked for in PATH within the root), groups (cgroup.procs files to join). Needs
root; what it starts has nothing of it.
"""
from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys

_libc = ctypes.CDLL(None, use_errno=True)
_NEWNS, _BIND, _REC, _PRIVATE, _REMOUNT, _RDONLY, _NOSUID = 0x20000, 0x1000, 0x4000, 0x40000, 0x20, 0x1, 0x2
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_SET_PDEATHSIG = 38, 24, 1


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _mount(source: str, target: str, flags: int) -> None:
    _check(_libc.mount(source.encode(), target.encode(), None, ctypes.c_ulong(flags), None), f"mount {source} at {target}")


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    for group in spec["groups"]:
        with open(group, "w", encoding="utf-8") as file:
            file.write(str(os.getpid()))
    root = spec["root"]
    _check(_libc.unshare(_NEWNS), "unshare")
    _mount("none", "/", _REC | _PRIVATE)
    _mount(root, root, _BIND | _REC)
    for source, target, read_only in spec["mounts"]:
        _mount(source, root + target, _BIND | _REC)
        if read_only:
            _mount("none", root + target, _BIND | _REMOUNT | _RDONLY | _NOSUID)
    _mount("none", root, _BIND | _REMOUNT | _RDONLY)
    os.chroot(root)
    os.chdir("/")
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
    os.setgroups([spec["group"]])
    os.setgid(spec["group"])
    os.setuid(spec["user"])
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    environment = spec["environment"]
    program = shutil.which(spec["command"][0], path=environment["PATH"])
    if program is None:
        raise FileNotFoundError(f"{spec['command'][0]}: not in {environment['PATH']}")
    os.execve(program, spec["command"], environment)


if __name__ == "__main__":
    main()
