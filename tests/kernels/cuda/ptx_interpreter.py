"""Runs PTX that nvcc made, inline assembly included, in numpy: one block at a time, warp by warp, each until it waits for
the others at a barrier. Lanes that diverge run lowest program counter first. It does not look for races, but a barrier left out shows in
the values: the first warp is far ahead of the last. It knows what the kernels here are compiled to and stops at any
other instruction or rounding, at a misaligned access and at one outside the memory it was given.

Memory is named by the host's addresses; shared memory begins at 0, parameters lie at PARAMETERS.
"""
import re

import numpy as np

PARAMETERS = 1 << 20
TYPES = {"u": {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}, "s": {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}}
INEXACT = {"ftz", "approx", "full", "rz", "rm", "rp", "sat", "hi", "relu"}
MMA = "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32"


class PtxError(Exception):
    pass


def dtype(name):
    if name == "pred":
        return np.bool_
    if name[0] == "f":
        return {16: np.float16, 32: np.float32, 64: np.float64}[int(name[1:])]
    return TYPES["s" if name[0] == "s" else "u"][int(name[1:])]


class Kernel:
    def __init__(self, parameters, body):
        self.symbols, at = {}, PARAMETERS
        for align, kind, name, count in re.findall(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(\w+)(?:\[(\d+)\])?", parameters):
            size = int(re.sub(r"\D", "", kind)) // 8 * int(count or 1)
            align = int(align or size)
            at = -(-at // align) * align
            self.symbols[name] = at
            at += size
        self.parameter_bytes = at - PARAMETERS
        self.code, self.labels = [], {}
        for line in body.split("\n"):
            line = line.strip()
            label = re.match(r"^([$\w]+):$", line)
            if label:
                self.labels[label.group(1)] = len(self.code)
                continue
            if line.startswith("{") and line.endswith("}"):
                line = line[1:-1]
            for statement in line.split(";"):
                self._add(statement.strip())

    def _add(self, text):
        if not text or text[0] in ".{}":
            return
        guard = re.match(r"^@(!?)(%\w+)\s+(.*)$", text)
        if guard:
            text = guard.group(3)
        operation, _, rest = text.replace("\t", " ").partition(" ")
        operands = [word.strip() for word in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*", rest)]
        self.code.append((operation, operation.split("."), operands, (guard.group(2), guard.group(1) == "!") if guard else None))


def parse(text):
    """{mangled name: Kernel}."""
    text = re.sub(r"//[^\n]*", "", text)
    kernels = {}
    for name, parameters, body in re.findall(r"\.entry\s+(\w+)\s*\((.*?)\)(?:.*?)\n\{(.*?)\n\}", text, re.S):
        kernels[name] = Kernel(parameters, body)
    return kernels


class Memory:
    """Segments of bytes at host addresses."""

    def __init__(self, segments):  # [(address, bytes)]
        segments = sorted(segments)
        self.bases = np.array([base for base, _ in segments], np.int64)
        self.sizes = np.array([len(data) for _, data in segments], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])[:-1]
        self.data = np.frombuffer(b"".join(data for _, data in segments), np.uint8).copy()

    def index(self, addresses, size):
        which = np.searchsorted(self.bases, addresses, "right") - 1
        offset = addresses - self.bases[np.maximum(which, 0)]
        if (addresses % size).any():
            raise PtxError(f"misaligned access of {size} bytes")
        if (which < 0).any() or (offset + size > self.sizes[which]).any():
            raise PtxError("access outside every buffer")
        return self.starts[which] + offset

    def bytes_at(self, address):
        i = int(np.searchsorted(self.bases, address))
        return self.data[self.starts[i]:self.starts[i] + self.sizes[i]].tobytes()


BANKS, BANK_BYTES, PASS_BYTES = 32, 4, 128  # of shared memory; what a pass brings at most


class BankPasses:
    """Passes over shared memory's banks that accesses take, and those that they would take without conflicts, by instruction.

    A warp's access of 4 bytes a thread or less is one request, of 8 two of half a warp, of 16 four of a quarter. A request takes as many passes as
    the bank has different words of which it asks the most; threads that ask for the same word share it."""

    def __init__(self):
        self.taken, self.least = {}, {}

    def count(self, instruction, threads, addresses, size):
        lanes_a_request = PASS_BYTES // max(size, BANK_BYTES)
        request = threads // lanes_a_request
        words = max(1, size // BANK_BYTES)
        word = (addresses[:, None] // BANK_BYTES + np.arange(words)).ravel()
        asked = np.unique(np.repeat(request, words) * (1 << 32) + word)  # request and word, each once
        of_bank = np.unique((asked >> 32) * BANKS + asked % BANKS, return_counts=True)
        taken = np.zeros(int(request.max()) + 1, np.int64)
        np.maximum.at(taken, of_bank[0] // BANKS, of_bank[1])
        self.taken[instruction] = self.taken.get(instruction, 0) + int(taken.sum())
        self.least[instruction] = self.least.get(instruction, 0) + len(np.unique(request))


class Block:
    def __init__(self, kernel, block, blocks, threads, shared_bytes, memory, counts, passes):
        self.kernel, self.memory, self.counts, self.threads = kernel, memory, counts, threads
        self.passes = passes
        self.shared = np.full(shared_bytes, 0xff, np.uint8)
        self.ids = np.arange(threads)
        self.registers = {"%tid.x": self.ids.astype(np.uint64)}
        for name, value in (("%ctaid.x", block), ("%nctaid.x", blocks), ("%ntid.x", threads)):
            self.registers[name] = np.full(threads, value, np.uint64)
        self.copies = [[] for _ in range(threads // 32)]  # of each warp: "commit" or (to, from, bytes)

    # Operands.
    def value(self, operand, kind):
        if operand in self.registers:
            raw = self.registers[operand]
        elif operand.startswith("0f"):
            raw = np.full(self.threads, int(operand[2:], 16), np.uint64)
        elif operand in self.kernel.symbols:
            raw = np.full(self.threads, self.kernel.symbols[operand], np.uint64)
        elif re.match(r"^-?(0x[0-9a-fA-F]+|\d+)$", operand):
            raw = np.full(self.threads, int(operand, 0) & (2**64 - 1), np.uint64)
        elif operand.endswith("shared_memoryE"):
            raw = np.zeros(self.threads, np.uint64)
        else:
            raise PtxError(f"operand {operand}")
        if kind == np.bool_:
            return raw.astype(bool)
        return raw.astype(TYPES["u"][8 * np.dtype(kind).itemsize]).view(kind)

    def put(self, register, value, mask):
        if register == "_":
            return
        value = np.ascontiguousarray(value)
        if value.dtype != np.bool_:
            value = value.view(TYPES["u"][8 * value.dtype.itemsize])
        value = value.astype(np.uint64)
        old = self.registers.get(register)
        self.registers[register] = value if old is None else np.where(mask, value, old)

    def address(self, operand):
        base, offset = re.match(r"\[([^+\]]+)(?:\+(-?\w+))?\]", operand).groups()
        return self.value(base, np.uint64).astype(np.int64) + int(offset or "0", 0)

    def place(self, addresses, size, shared):
        if not shared:
            return self.memory.data, self.memory.index(addresses, size)
        if (addresses % size).any() or (addresses < 0).any() or (addresses + size > len(self.shared)).any():
            raise PtxError("access outside shared memory or misaligned")
        return self.shared, addresses

    # Instructions; mask: the threads that run it.
    def load_store(self, parts, operands, mask):
        kind = dtype(parts[-1])
        size = np.dtype(kind).itemsize
        is_load = parts[0] == "ld"
        names = [name.strip() for name in operands[0 if is_load else 1].strip("{}").split(",")]
        where = self.address(operands[1 if is_load else 0])[mask]
        data, at = self.place(where, size * len(names), "shared" in parts)
        if "shared" in parts:
            self.passes.count(".".join(parts), self.ids[mask], where, size * len(names))
        for i, name in enumerate(names):
            columns = at[:, None] + i * size + np.arange(size)
            if is_load:
                wide = np.zeros(self.threads, np.int64 if parts[-1][0] == "s" else TYPES["u"][8 * size])
                wide[mask] = np.ascontiguousarray(data[columns]).view(kind if parts[-1][0] == "s" else TYPES["u"][8 * size])[:, 0]
                self.put(name, wide, mask)
            else:
                data[columns] = np.ascontiguousarray(self.value(name, TYPES["u"][8 * size])[mask]).view(np.uint8).reshape(-1, size)

    def copy_async(self, parts, operands, mask):
        copies = self.copies[int(np.flatnonzero(mask)[0]) // 32]
        if parts[2] in ("commit_group", "wait_group"):
            self.whole_warps(mask, ".".join(parts))
        if parts[2] == "commit_group":
            copies.append("commit")
        elif parts[2] == "wait_group":
            leave, kept, commits = int(operands[0]), [], 0
            for entry in reversed(copies):
                if entry == "commit":
                    commits += 1
                if commits <= leave or commits == 0:
                    kept.append(entry)
                elif entry != "commit":
                    to, source, size = entry
                    lanes = np.arange(size)
                    self.shared[to[:, None] + lanes] = self.memory.data[self.memory.index(source, size)[:, None] + lanes]
            copies[:] = kept[::-1]
        else:
            size = int(operands[2])
            to, source = self.address(operands[0])[mask], self.address(operands[1])[mask]
            self.place(to, size, True)
            self.passes.count("cp.async", self.ids[mask], to, size)
            self.memory.index(source, size)
            self.shared[to[:, None] + np.arange(size)] = 0xff
            copies.append((to, source, size))

    def whole_warps(self, mask, what):
        warps = mask.reshape(-1, 32)
        if (warps.any(1) != warps.all(1)).any():
            raise PtxError(f"{what}: part of a warp")
        return np.flatnonzero(warps.all(1))

    def multiply_tile(self, operands, mask):
        d, a, b, c = [[name.strip() for name in group.strip("{}").split(",")] for group in operands]
        warps = self.whole_warps(mask, "mma")
        lane = np.arange(32)
        g, t = lane // 4, lane % 4
        big_a, big_b = np.zeros((len(warps), 16, 32)), np.zeros((len(warps), 32, 8))
        four = np.arange(4)
        for i, name in enumerate(a):
            data = self.value(name, np.uint32).reshape(-1, 32)[warps].copy().view(np.uint8).reshape(len(warps), 32, 4)
            big_a[:, (g + i % 2 * 8)[:, None], (4 * t + i // 2 * 16)[:, None] + four] = data
        for i, name in enumerate(b):
            data = self.value(name, np.uint32).reshape(-1, 32)[warps].copy().view(np.int8).reshape(len(warps), 32, 4)
            big_b[:, (4 * t + i * 16)[:, None] + four, g[:, None]] = data
        product = (big_a @ big_b).astype(np.int64)
        for i in range(4):
            out = np.zeros(self.threads, np.uint32)
            sums = product[:, g + i // 2 * 8, 2 * t + i % 2]
            old = self.value(c[i], np.int32).reshape(-1, 32)[warps].astype(np.int64)
            out.reshape(-1, 32)[warps] = (sums + old).astype(np.uint64).astype(np.uint32)
            self.put(d[i], out, mask)

    def compare(self, parts, operands, mask):
        kind = dtype(parts[2])
        x, y = self.value(operands[1], kind), self.value(operands[2], kind)
        name = parts[1]
        if name in ("nan", "num"):
            result = np.isnan(x) | np.isnan(y)
            result = result if name == "nan" else ~result
        else:
            unordered = np.isnan(x) | np.isnan(y) if name.endswith("u") else np.zeros(self.threads, bool)
            result = {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
                      "ne": np.not_equal}[name.removesuffix("u")](x, y) | unordered
        self.put(operands[0], result, mask)

    def arithmetic(self, parts, operands, mask):
        name, kind = parts[0], dtype(parts[-1])
        x = self.value(operands[1], kind)
        y = self.value(operands[2], np.uint32 if name in ("shl", "shr") else kind) if len(operands) > 2 else None
        bits = 8 * np.dtype(kind).itemsize
        if name in ("shl", "shr"):
            far = y >= bits
            by = np.minimum(y, bits - 1).astype(kind)
            result = x << by if name == "shl" else x >> by
            empty = x >> kind(bits - 1) if name == "shr" and kind in TYPES["s"].values() else kind(0)
            result = np.where(far, empty, result)
        elif name in ("mul", "mad") and "wide" in parts:
            wide = TYPES["s" if parts[-1][0] == "s" else "u"][2 * bits]
            result = x.astype(wide) * y.astype(wide)
            if name == "mad":
                result = result + self.value(operands[3], wide)
        elif name == "mad":
            result = x * y + self.value(operands[3], kind)
        elif name == "fma":
            result = (x.astype(np.longdouble) * y + self.value(operands[3], kind)).astype(kind)
        elif name == "div" and kind != np.float32:
            result = (np.sign(x) * np.sign(y) * (np.abs(x) // np.maximum(np.abs(y), 1))).astype(kind)
        else:
            result = {"add": lambda: x + y, "sub": lambda: x - y, "mul": lambda: x * y, "div": lambda: x / y, "and": lambda: x & y,
                      "or": lambda: x | y, "xor": lambda: x ^ y, "not": lambda: ~x, "neg": lambda: -x, "min": lambda: np.minimum(x, y),
                      "max": lambda: np.maximum(x, y)}[name]()
        self.put(operands[0], result, mask)

    def convert(self, parts, operands, mask):
        to, source = dtype(parts[-2]), dtype(parts[-1])
        x = self.value(operands[1], source)
        if "rni" in parts:
            x = np.rint(x)
        elif source == np.float32 and to != np.float32:
            raise PtxError(".".join(parts))
        self.put(operands[0], x.astype(to), mask)

    def permute(self, operands, mask):
        low, high, selector = (self.value(name, np.uint32).astype(np.uint64) for name in operands[1:4])
        both, result = low | high << np.uint64(32), np.zeros(self.threads, np.uint64)
        for i in range(4):
            nibble = selector >> np.uint64(4 * i) & np.uint64(15)
            byte = both >> (nibble & np.uint64(7)) * np.uint64(8) & np.uint64(255)
            byte = np.where(nibble & np.uint64(8), np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0)), byte)
            result |= byte << np.uint64(8 * i)
        self.put(operands[0], result.astype(np.uint32), mask)

    def run(self):
        counter, live = np.zeros(self.threads, np.int64), np.ones(self.threads, bool)
        waiting = np.zeros(self.threads, bool)  # at the barrier
        while live.any():
            ready = live & ~waiting
            if not ready.any():
                if len(set(counter[live])) != 1:
                    raise PtxError("bar.sync: not all threads are at the same one")
                waiting[:] = False
                continue
            ready &= self.ids // 32 == int(np.flatnonzero(ready)[0]) // 32
            at = int(counter[ready].min())
            here = ready & (counter == at)
            operation, parts, operands, guard = self.kernel.code[at]
            if INEXACT & set(parts):
                raise PtxError(f"unknown instruction {operation}")
            self.counts[operation] = self.counts.get(operation, 0) + int(here.sum())
            mask = here
            if guard:
                mask = here & (self.registers[guard[0]].astype(bool) ^ guard[1])
            counter[here] = at + 1
            name = parts[0]
            if not mask.any():
                continue
            if name == "bra":
                counter[mask] = self.kernel.labels[operands[0]]
            elif name == "ret":
                live[mask] = False
            elif name == "bar":
                self.whole_warps(mask, operation)
                if parts[1] == "sync":
                    waiting |= mask
            elif name in ("ld", "st"):
                self.load_store(parts, operands, mask)
            elif name == "cp":
                self.copy_async(parts, operands, mask)
            elif operation == MMA:
                self.multiply_tile(operands, mask)
            elif operation == "shfl.sync.bfly.b32":
                self.whole_warps(mask, operation)
                lanes = self.value(operands[2], np.uint32).astype(np.int64)
                self.put(operands[0].split("|")[0], self.value(operands[1], np.uint32)[self.ids ^ lanes], mask)
            elif name in ("mov", "cvta"):
                self.put(operands[0], self.value(operands[1], dtype(parts[-1])), mask)
            elif name == "selp":
                kind = dtype(parts[1])
                self.put(operands[0], np.where(self.value(operands[3], np.bool_), self.value(operands[1], kind), self.value(operands[2], kind)),
                         mask)
            elif name == "setp":
                self.compare(parts, operands, mask)
            elif name == "cvt":
                self.convert(parts, operands, mask)
            elif name == "prmt":
                self.permute(operands, mask)
            elif name in ("shl", "shr", "mul", "mad", "fma", "div", "add", "sub", "and", "or", "xor", "not", "neg", "min", "max"):
                self.arithmetic(parts, operands, mask)
            else:
                raise PtxError(f"unknown instruction {operation}")


def run(kernel, blocks, threads, shared_bytes, arguments, memory_segments):
    """Returns the Memory after the launch, {instruction: threads that ran it} and the BankPasses of shared memory."""
    image = b""
    for argument, at in zip(arguments, kernel.symbols.values()):
        image = image.ljust(at - PARAMETERS, b"\0") + argument
    memory, counts, passes = Memory([*memory_segments, (PARAMETERS, image.ljust(kernel.parameter_bytes, b"\0"))]), {}, BankPasses()
    with np.errstate(all="ignore"):
        for block in range(blocks):
            Block(kernel, block, blocks, threads, shared_bytes, memory, counts, passes).run()
    return memory, counts, passes
