#!/usr/bin/env python3
"""The PTX that nvcc makes of the CUDA kernels against the launches that the emulator recorded: all of the device's memory must be the same
after each.

    ptx_test.py --ptx experts.ptx --launches FILE [--ptx-of NVCC]
"""
import argparse
import collections
import pathlib
import subprocess
import sys

import numpy as np

import ptx_interpreter

# Passes over shared memory's banks for each that would be enough without conflicts, of a kernel.
BANK_BUDGET = 1.0
ROOT = pathlib.Path(__file__).resolve().parents[3]


def read_launches(path):
    """Yields (kernel, blocks, threads, shared bytes, arguments, [(address, before, after)])."""
    with open(path, "rb") as file:
        for line in file:
            word, kernel, *numbers = line.split()
            assert word == b"launch", line
            blocks, threads, shared, num_arguments, num_segments = map(int, numbers)
            arguments = [file.read(int(file.readline().split()[1])) for _ in range(num_arguments)]
            segments = []
            for _ in range(num_segments):
                _, address, size = file.readline().split()
                segments.append((int(address), file.read(int(size)), file.read(int(size))))
            yield kernel.decode(), blocks, threads, shared, arguments, segments


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ptx", required=True, type=pathlib.Path)
    parser.add_argument("--ptx-of", metavar="NVCC", help="make the file with this compiler first")
    parser.add_argument("--launches", required=True)
    options = parser.parse_args()
    if options.ptx_of:
        subprocess.run([options.ptx_of, "-std=c++20", "-O3", "-fmad=false", "--expt-relaxed-constexpr", f"-I{ROOT}", "-arch=compute_80", "-ptx",
                        "-o", options.ptx, ROOT / "kernels/experts/expert_ffn_cuda.cu"], check=True)
    kernels = ptx_interpreter.parse(options.ptx.read_text())
    table, failed = collections.defaultdict(lambda: [0, 0, 0, 0]), 0
    banks = collections.defaultdict(lambda: np.zeros(2, np.int64))  # (kernel, instruction): passes taken, without conflicts
    for name, blocks, threads, shared, arguments, segments in read_launches(options.launches):
        mangled = [full for full in kernels if name in full]
        if len(mangled) != 1:
            sys.exit(f"{name}: {len(mangled)} kernels of this name in the PTX")
        row = table[name]
        row[0] += 1
        try:
            memory, counts, passes = ptx_interpreter.run(kernels[mangled[0]], blocks, threads, shared, arguments,
                                                 [(address, before) for address, before, _ in segments if before])
        except ptx_interpreter.PtxError as error:
            print(f"{name}: {error}")
            failed += 1
            continue
        row[2] += sum(counts.values())
        row[3] += counts.get(ptx_interpreter.MMA, 0)
        for instruction, least in passes.least.items():
            banks[name, instruction] += (passes.taken[instruction], least)
        for address, before, after in segments:
            if not before:
                continue
            got = memory.bytes_at(address)
            row[1] += sum(a != b for a, b in zip(before, after))
            if got != after:
                wrong = sum(a != b for a, b in zip(got, after))
                print(f"{name}: {wrong} of {len(after)} bytes of a buffer differ")
                failed += 1
    print("kernel launches bytes-written thread-instructions of-them-mma")
    for name, row in sorted(table.items()):
        print(name, *row)
    print("kernel access passes-over-shared-memory without-conflicts")
    for (name, instruction), (taken, least) in sorted(banks.items()):
        print(name, instruction, taken, least)
    for name in sorted(table):
        taken, least = sum((count for (kernel, _), count in banks.items() if kernel == name), np.zeros(2, np.int64))
        if taken > BANK_BUDGET * least:
            print(f"{name}: {taken / least:.2f} passes over shared memory for each that it needs, of {BANK_BUDGET}")
            failed += 1
    print(f"{sum(row[0] for row in table.values())} launches, {failed} failures")
    return 1 if failed or not table else 0


if __name__ == "__main__":
    sys.exit(main())
