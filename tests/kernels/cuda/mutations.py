#!/usr/bin/env python3
"""Seeds one mistake at a time into the CUDA kernels and says which build of the emulated tests notices it. Run by hand:

    tests/kernels/cuda/mutations.py --build build/release [--only TEXT] [--builds plain,races,address]
    tests/kernels/cuda/mutations.py --build build/release --nvcc NVCC      of kernels/cuda/device_nvcc.h, which only ptx_test.py runs

plain: values; races: ThreadSanitizer on CUDA threads; address: AddressSanitizer and UndefinedBehaviorSanitizer. Needs the targets
cuda_kernels_test and cuda_races_test (with --nvcc: record_launches) built. Prints a Markdown table; docs/cuda_kernels.md has one.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
PRODUCT = "kernels/linear/w4a16_cuda.cuh"
ROWS = "kernels/linear/quantized_rows_cuda.cuh"
EXPERTS = "kernels/experts/expert_ffn_cuda.cuh"
TILES = "kernels/linear/packed_w4_cuda.cuh"
EXP = "kernels/vector/exp_cuda.cuh"
WORDS = "kernels/linear/packed_w4_cuda.h"
LOOP_BARRIER = "    SyncBlock();  // the group has landed for all, and all have left the stage that is copied to\n"
LOOP_COPY = "    if (group + ring.stages - 1 < groups) copy_group(free_at);\n"

# (what, file, text, mistake); the text must occur exactly once (#SECOND#: its second occurrence).
MUTATIONS = [
    ("nothing", PRODUCT, "", ""),
    ("ring: no barrier in the loop", PRODUCT, LOOP_BARRIER, ""),
    ("ring: copy before the barrier", PRODUCT, LOOP_BARRIER + LOOP_COPY, LOOP_COPY + LOOP_BARRIER),
    ("ring: wait for one group less", PRODUCT, "WaitForCopies(ring.stages - 2);", "WaitForCopies(ring.stages - 1);"),
    ("ring: first free stage is 0", PRODUCT, "free_at = (ring.stages - 1) * stage_bytes;", "free_at = 0;"),
    ("ring: a stage one part short", PRODUCT, "tokens_at = 2 * kProductWarps * ring.part_bytes", "tokens_at = (2 * kProductWarps - 1) * ring.part_bytes"),
    ("ring: no barrier after the last group", PRODUCT, "  WaitForCopies(0);\n  SyncBlock();\n", "  WaitForCopies(0);\n"),
    ("ring: no last wait", PRODUCT, "  WaitForCopies(0);\n  SyncBlock();\n", "  SyncBlock();\n"),
    ("copy: zeros not copied", PRODUCT, "at < scale_bytes + zero_bytes", "at < scale_bytes + zero_bytes - 16"),
    ("copy: zeros step as scales", PRODUCT, "rest_stride = zero_bytes;", "rest_stride = scale_bytes;"),
    ("copy: one row past the tile", PRODUCT, "at >= x.count || lane > 17", "at > x.count || lane > 17"),
    ("copy: sums step as planes", PRODUCT, "lane == 16 ? 16 : 4", "lane == 16 ? 256 : 4"),
    ("product: scale where the sums are", PRODUCT, "of + ScaleAt(2 * t)", "of + SumsAt(2 * t)"),
    ("product: sums of rows 0 to 3 for 4 to 7", PRODUCT, "of + SumsAt(2 * t)", "of + SumsAt(0)"),
    ("product: planes swapped", PRODUCT, "MultiplyFirstTile(high[m], a, b_high.x[0], b_high.x[1]);", "MultiplyFirstTile(high[m], a, b_low.x[0], b_low.x[1]);"),
    ("product: b registers swapped", PRODUCT, "MultiplyTile(low[m], a, b_low.x[0], b_low.x[1]);", "MultiplyTile(low[m], a, b_low.x[1], b_low.x[0]);"),
    ("product: every step the first", PRODUCT, "if (i == 0) {", "if (i < 2) {"),
    ("product: rows of a swapped", PRODUCT, "w0 = words[m][2 * step], w1 = words[m][2 * step + 1]", "w1 = words[m][2 * step], w0 = words[m][2 * step + 1]"),
    ("product: zero of the other row", PRODUCT, "zero[m][i / 2] * sum[i % 2]", "zero[m][i % 2] * sum[i % 2]"),
    ("product: sums of the other half", PRODUCT, "segment == 0 ? sums.x[0] + sums.x[1]", "segment == 1 ? sums.x[0] + sums.x[1]"),
    ("product: high plane times 255", PRODUCT, "256u * static_cast", "255u * static_cast"),
    ("product: last partial tile left out", PRODUCT, "tile * kTokens >= count", "tile * kTokens + 7 >= count"),
    ("product: 9 rows as 8", PRODUCT, "if (x.count <= kTokens)", "if (x.count <= kTokens + 1)"),
    ("product: what is absent added", PRODUCT, "views[m].present ? next : acc[m][tile][i]", "next"),
    ("product: multiply, then add", PRODUCT, "FusedMultiplyAdd(IntToFloat(static_cast<int32_t>(total)), scale, acc[m][tile][i])",
     "Add(Multiply(IntToFloat(static_cast<int32_t>(total)), scale), acc[m][tile][i])"),
    ("rows: maximum of half a warp", ROWS, "lanes < kWarpLanes; lanes *= 2", "lanes < kWarpLanes / 2; lanes *= 2"),
    ("rows: sum of half a granule", ROWS, "lanes < 8; lanes *= 2", "lanes < 4; lanes *= 2"),
    ("rows: low byte out of range", ROWS, "(q + 128) >> 8", "q >> 8"),
    ("rows: NaN taken for a number", ROWS, "if (finite && maximum", "if (maximum"),
    ("rows: reordered from the wrong row", ROWS, "from_row * from.groups", "to_row * from.groups"),
    ("inner: no barrier before quantizing", EXPERTS, "    SyncBlock();\n    for (int token = warp;", "    for (int token = warp;"),
    ("inner: no barrier before the next tile", EXPERTS, "    SyncBlock();  // the next tile's copies overwrite the values\n", ""),
    ("inner: rows past the matrix not zero", EXPERTS, "output < gate.n ? SiluMul", "output < gate.n + 128 ? SiluMul"),
    ("inner: up by gate's order", EXPERTS, "pass == 0 ? job.gate_first : job.up_first", "job.gate_first"),
    ("inner: gate and up always together", EXPERTS, "job.gate_first == job.up_first && gate.segment == up.segment", "gate.segment == up.segment"),
    ("output: columns past the matrix stored", EXPERTS, "if (output >= down.n) continue;", "if (output >= down.n + 8) continue;"),
    ("output: rows past the tile stored", EXPERTS, "if (token >= x.count) continue;\n      float* out", "if (token > x.count) continue;\n      float* out"),
    ("output: NaN of any kind", EXPERTS, "value == value ? value : BitsToFloat(kNanBits)", "value == value ? value : BitsToFloat(kNanBits | 1)"),
    ("grid: blocks do each other's tiles too", EXPERTS, "#SECOND#index += GridBlocks()) {", "++index) {"),
    ("retile: no warp barrier", TILES, "    SyncWarp();  // every lane has read what the others overwrite\n", ""),
    ("retile: halves swapped", WORDS, "step / 8 * 128", "(1 - step / 8) * 128"),
    ("exp: one coefficient rounded", EXP, "FusedMultiplyAdd(q, r, c::kC3)", "FusedMultiplyAdd(q, r, 0.1666667f)"),
]

NVCC = "kernels/cuda/device_nvcc.h"
SHAPES = "kernels/linear/w4a16_cuda.h"
PTX_MUTATIONS = [
    ("nothing", NVCC, "", ""),
    ("mma: b registers swapped", NVCC, '"r"(a[3]), "r"(b0), "r"(b1));\n}\n\nSHEAF_DEVICE void MultiplyFirst', '"r"(a[3]), "r"(b1), "r"(b0));\n}\n\nSHEAF_DEVICE void MultiplyFirst'),
    ("mma: a registers swapped", NVCC, '"r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(0)', '"r"(a[0]), "r"(a[2]), "r"(a[1]), "r"(a[3]), "r"(b0), "r"(b1), "r"(0)'),
    ("mma: first begins with 1", NVCC, '"r"(b1), "r"(0));', '"r"(b1), "r"(1));'),
    ("mma: sums not carried on", NVCC, '{%8,%9}, {%0,%1,%2,%3};"', '{%8,%9}, {%0,%1,%2,%2};"'),
    ("copy: 8 bytes of 16", NVCC, "[%0], [%1], 16;", "[%0], [%1], 8;"),
    ("copy: no commit", NVCC, '"cp.async.commit_group;"', '"// cp.async.commit_group;"'),
    ("copy: one group more left", NVCC, '::"n"(kLeave)', '::"n"(kLeave + 1)'),
    ("warp barrier for a block's", NVCC, "__syncthreads();", "__syncwarp();"),
    ("shuffle down for xor", NVCC, "__shfl_xor_sync(0xffffffffu, value, lanes)", "__shfl_down_sync(0xffffffffu, value, lanes)"),
    ("product rounded down", NVCC, "return __fmul_rn(a, b);", "return __fmul_rd(a, b);"),
    ("division approximate", NVCC, "__fdiv_rn(a, b)", "__fdividef(a, b)"),
    ("banks: inner values without gaps", SHAPES, "input / 32 * 2", "input / 32 * 0"),
    ("banks: tokens 144 floats apart", SHAPES, "kActivationGroup + 20", "kActivationGroup + 16"),
    ("integer truncated", NVCC, "__float2int_rn(value)", "__float2int_rz(value)"),
]

VALUES = "ExpertFfnCudaTest.*-*Widths*:*OneTo512Rows:*AsManyExperts*"
RACES = "ExpertFfnCudaTest.OneRow:*FewAndMany*:*Permutations*:*GateUp*:*ABatchSmaller*:*SumsAre*"
BUILDS = {
    "plain": ("cuda_kernels_test", ["-O1"], VALUES, {}),
    "races": ("cuda_races_test", ["-O1", "-g1", "-fsanitize=thread"], RACES, {"TSAN_OPTIONS": "halt_on_error=1 exitcode=66"}),
    "address": ("cuda_kernels_test", ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"], RACES,
                {"ASAN_OPTIONS": "detect_leaks=0"}),
}


def mutated(text, old, new, what):
    if not old:
        return text
    if old.startswith("#SECOND#"):
        first, second, rest = text.split(old[8:], 2)
        return first + old[8:] + second + new + rest
    if text.count(old) != 1:
        sys.exit(f"mutation \"{what}\": its text occurs {text.count(old)} times")
    return text.replace(old, new)


def link_line(build, target):
    """The command that ninja links the test with, as arguments."""
    commands = subprocess.run(["ninja", "-C", build, "-t", "commands", f"tests/{target}"], capture_output=True, text=True, check=True)
    line = commands.stdout.strip().splitlines()[-1]
    return re.sub(r"^: && | && :$", "", line).split()


def verdict(process):
    output = process.stdout + process.stderr
    for text, name in (("data race", "race"), ("AddressSanitizer", "address"), ("runtime error", "undefined"), ("emulated kernel", "emulator")):
        if text in output:
            return name
    found = re.search(r"(deadlock|meets the one|unfinished copies|outside shared|past the end|misaligned|more copies)", output)
    if found:
        return found.group(1)
    failed = re.search(r"(\d+) FAILED TEST", output)
    if failed:
        return f"values ({failed.group(1)})"
    return "-" if process.returncode == 0 else f"exit {process.returncode}"


def ptx_main(options, folder):
    """The table of PTX_MUTATIONS."""
    overlay, launches = pathlib.Path(folder), pathlib.Path(folder) / "launches.bin"
    subprocess.run([options.build.resolve() / "tests/record_launches", launches], check=True, env={**os.environ, "SHEAF_TEST_SEED": "18"})
    print("| mistake | PTX |\n|---|---|")
    for what, name, old, new in PTX_MUTATIONS:
        if options.only not in what:
            continue
        target = overlay / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(mutated((ROOT / name).read_text(), old, new, what))
        made = subprocess.run([options.nvcc, "-std=c++20", "-O3", "-fmad=false", "--expt-relaxed-constexpr", f"-I{overlay}", f"-I{ROOT}",
                               "-arch=compute_80", "-ptx", "-o", overlay / "experts.ptx", ROOT / "kernels/experts/expert_ffn_cuda.cu"])
        ran = subprocess.run(["/usr/bin/python3", ROOT / "tests/kernels/cuda/ptx_test.py", "--ptx", overlay / "experts.ptx", "--launches", launches],
                             capture_output=True, text=True)
        found = re.search(r"unknown instruction [\w.:]+|access outside[\w ]*|bar.sync[:\w ]*|[\d.]+ passes over shared memory", ran.stdout + ran.stderr)
        failures = re.search(r"(\d+) failures", ran.stdout)
        row = "not compiled" if made.returncode else found.group(0) if found else f"bytes ({failures.group(1)})" if failures and ran.returncode else \
            f"exit {ran.returncode}" if ran.returncode else "-"
        print(f"| {what} | {row} |", flush=True)
        target.unlink()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--only", default="")
    parser.add_argument("--builds", default="plain,races,address")
    parser.add_argument("--nvcc")
    options = parser.parse_args()
    if options.nvcc:
        with tempfile.TemporaryDirectory() as folder:
            ptx_main(options, folder)
        return
    build = options.build.resolve()
    names = options.builds.split(",")
    print("| mistake | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    with tempfile.TemporaryDirectory() as folder:
        overlay = pathlib.Path(folder)
        emulator = ["emulator", "fiber", "launch_emulated", "warp_operations"]
        for what, name, old, new in MUTATIONS:
            if options.only not in what:
                continue
            target = overlay / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(mutated((ROOT / name).read_text(), old, new, what))
            row = []
            for kind in names:
                test, flags, tests, environment = BUILDS[kind]
                flags = [*flags, "-std=c++20", "-w", "-ffp-contract=off", f"-I{overlay}", f"-I{ROOT}"]
                sources = [ROOT / "kernels/experts/expert_ffn_emulated.cc"]
                if kind == "address":
                    sources += [ROOT / f"kernels/cuda/emulation/{part}.cc" for part in emulator]
                objects = []
                for source in sources:
                    made = overlay / f"{kind}_{source.stem}.o"
                    if source.stem == "expert_ffn_emulated" or not made.exists():
                        subprocess.run(["g++", *flags, "-c", source, "-o", made], check=True)
                    objects.append(str(made))
                words = [word for word in link_line(build, test) if "expert_ffn_emulated" not in word]
                words[words.index("-o") + 1] = str(overlay / test)
                words = words[:1] + flags[:3] + objects + words[1:]
                subprocess.run(words, cwd=build, check=True)
                environment = {**os.environ, **environment, "GTEST_FILTER": tests, "SHEAF_TEST_SEED": "18"}
                try:
                    row.append(verdict(subprocess.run([overlay / test], capture_output=True, text=True, timeout=300, env=environment)))
                except subprocess.TimeoutExpired:
                    row.append("timeout")
            target.unlink()
            print(f"| {what} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
