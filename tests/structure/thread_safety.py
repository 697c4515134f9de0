#!/usr/bin/env python3
"""Holds what ABSL_GUARDED_BY says against the code: clang -Wthread-safety over every source that has a lock.

    thread_safety.py --clang clang++ --build build/release [FILE.cc ...]

Only the analysis runs (-fsyntax-only), with the compile commands of a build whose protos have been generated. Sources with
coroutines need clang 17; an older one passes over them and names them. Exit status 1: a finding, or a source that clang cannot
read.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[2]
LOCK = re.compile(r"\babsl::Mutex\b|\bABSL_(GUARDED_BY|EXCLUSIVE_LOCKS_REQUIRED)\b")
COROUTINE = re.compile(r"\bco_await\b|\bawaitable<")
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
KEPT = ("-I", "-D", "-std", "-isystem")


def text_of(path):
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def texts(source):
    """The source and the project headers that it names."""
    own = text_of(source)
    return [own] + [text_of(SOURCE / name) for name in INCLUDE.findall(own)]


def has_lock(source):
    """It or its own header has one. Tests lock little, and clang 14 cannot read all of their C++20."""
    if source.is_relative_to(SOURCE / "tests"):
        return False
    return any(LOCK.search(text_of(path)) for path in (source, source.with_suffix(".h")))


def flags(command):
    words = shlex.split(command)
    kept, i = [], 1
    while i < len(words):
        if words[i] == "-isystem":
            kept += words[i:i + 2]
            i += 1
        elif words[i].startswith(KEPT):
            kept.append(words[i])
        i += 1
    return kept


def check(clang, entry):
    command = [clang, *flags(entry["command"]), "-fsyntax-only", "-Wno-everything", "-Wthread-safety", "-Werror", entry["file"]]
    done = subprocess.run(command, cwd=entry["directory"], capture_output=True, text=True, timeout=600)
    return entry["file"], done.returncode, done.stderr


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clang", default="clang++")
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    version = subprocess.run([options.clang, "-dumpversion"], capture_output=True, text=True, check=True).stdout
    coroutines = int(version.split(".")[0]) >= 17
    entries = {entry["file"]: entry for entry in json.loads((options.build / "compile_commands.json").read_text())}
    wanted = {str(path.resolve()) for path in options.files}
    chosen, passed_over = [], []
    for name in sorted(entries):
        path = pathlib.Path(name)
        if not path.is_relative_to(SOURCE) or path.is_relative_to(options.build.resolve()):
            continue
        if name not in wanted if wanted else not has_lock(path):
            continue
        if not coroutines and any(COROUTINE.search(text) for text in texts(path)):
            passed_over.append(path.relative_to(SOURCE))
        else:
            chosen.append(entries[name])
    if not chosen:
        print("no source with a lock: the compile commands are of another checkout")
        return 1
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, status, output in pool.map(lambda entry: check(options.clang, entry), chosen):
            if status != 0:
                failed += 1
                print(f"{name}:\n{output}")
    for path in passed_over:
        print(f"passed over, coroutines: {path}")
    print(f"{len(chosen)} sources with locks, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
