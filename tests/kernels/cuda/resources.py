#!/usr/bin/env python3
"""Holds the CUDA kernels to a budget of registers and spills, as ptxas reports them, on every architecture given.

    resources.py --nvcc NVCC [--architectures 80 90a] [--sass CUOBJDUMP]

Prints a line a kernel and architecture; exit status 1 where one is over its budget. With --sass also what stands in the loops over groups
of 128 inputs: instructions (a static count, so what runs is at most that) for each 512 bytes of weights, and the share of a GPU's
memory bandwidth that issuing them all would allow. Such a bound rejects a kernel; it promises nothing.
"""
import argparse
import collections
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
SOURCE = ROOT / "kernels/experts/expert_ffn_cuda.cu"
FLAGS = ["-std=c++20", "-O3", "-fmad=false", "--expt-relaxed-constexpr", f"-I{ROOT}"]
# Kernel -> registers (two blocks of 256 threads a processor: 128; one: 255), bytes of spills. The few kernels keep some
# addresses of the loops' surroundings in local memory; no more than that.
BUDGETS = {
    "RunInnerTiles<2>": (128, 256), "RunOutputTiles<2>": (128, 160), "RunInnerTiles<8>": (255, 0), "RunOutputTiles<8>": (255, 0),
    "RetileW4": (64, 0), "ReorderRows": (64, 0), "SumRows": (64, 0),
}
# Processors, GHz (boost), GB/s: data sheets.
GPUS = {
    "80": {"A100 80 GB": (108, 1.41, 2039)}, "86": {"RTX 3090": (82, 1.70, 936)}, "89": {"RTX 4090": (128, 2.52, 1008)},
    "90a": {"H100": (132, 1.83, 3350), "H200": (132, 1.83, 4800)}, "100a": {"B200": (148, 1.85, 8000)}, "120a": {"RTX 5090": (170, 2.41, 1792)},
}


def name_of(symbol):
    found = re.search(r"cuda\d+([A-Z][A-Za-z0-9]*?)(?:ILi(\d+)EEE|E)", symbol)
    return f"{found.group(1)}<{found.group(2)}>" if found.group(2) else found.group(1)


def resources(log):
    """{kernel: (registers, spilled bytes, stored and loaded)} of ptxas -v."""
    found = {}
    for symbol, rest in re.findall(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", log, re.S):
        stores, loads = map(int, re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", rest).groups())
        found[name_of(symbol)] = (int(re.search(r"Used (\d+) registers", rest).group(1)), stores + loads)
    return found


def group_loops(sass):
    """Yields (kernel, instructions, mix) of the loops that multiply groups: those with tensor-core products, innermost first."""
    for chunk in re.split(r"\n\s*Function : ", sass)[1:]:
        kernel = name_of(chunk.split()[0])
        code = [(int(at, 16), op.strip()) for at, op in re.findall(r"/\*([0-9a-f]{4,})\*/\s+([^;]+);", chunk)]
        loops = []
        for at, op in code:
            back = re.search(r"\bBRA(?:\.\S+)?\s+(?:\S+,\s*)?`?\(?(?:0x)?([0-9a-f]+)\)?", op)
            if back and int(back.group(1), 16) < at:
                loops.append((int(back.group(1), 16), at))
        for low, high in loops:
            if any(low <= other and end <= high and (low, high) != (other, end) and
                   any("IMMA" in op for at, op in code if other <= at <= end) for other, end in loops):
                continue
            body = [op for at, op in code if low <= at <= high]
            mix = collections.Counter(re.sub(r"^@!?U?P\w+\s+", "", op).split()[0].split(".")[0] for op in body)
            if mix["IMMA"]:
                yield kernel, len(body), mix


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nvcc", required=True)
    parser.add_argument("--architectures", nargs="+", default=["80", "90a"])
    parser.add_argument("--sass", help="cuobjdump, which finds nvdisasm in PATH")
    options = parser.parse_args()
    over = 0
    with tempfile.TemporaryDirectory() as folder:
        cubin = pathlib.Path(folder) / "experts.cubin"
        for architecture in options.architectures:
            done = subprocess.run([options.nvcc, *FLAGS, f"-arch=sm_{architecture}", "-Xptxas", "-v", "-cubin", "-o", cubin, SOURCE],
                                  capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(done.stdout + done.stderr)
            found = resources(done.stdout + done.stderr)
            if set(found) != set(BUDGETS):
                sys.exit(f"kernels {sorted(found)}, budgets for {sorted(BUDGETS)}")
            for kernel, (registers, spilled) in sorted(found.items()):
                most, most_spilled = BUDGETS[kernel]
                bad = registers > most or spilled > most_spilled
                over += bad
                print(f"sm_{architecture} {kernel}: {registers} registers of {most}, {spilled} bytes of spills of {most_spilled}"
                      + (" OVER" if bad else ""))
            if options.sass:
                sass = subprocess.run([options.sass, "-sass", cubin], capture_output=True, text=True, check=True).stdout
                for kernel, count, mix in group_loops(sass):
                    each = count / 4  # two parts of 1024 bytes a warp
                    bounds = ", ".join(f"{gpu} {processors * 4 * ghz * 512 / each / bandwidth:.0%}"
                                       for gpu, (processors, ghz, bandwidth) in GPUS[architecture].items())
                    print(f"sm_{architecture} {kernel}: {count} instructions a group, {each:.0f} for 512 bytes, by issue <= {bounds}; "
                          f"{dict(mix.most_common(10))}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
