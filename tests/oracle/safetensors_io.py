"""Reads and writes safetensors files and sharded checkpoints; shares no code with the product.

A tensor is a `Tensor`: the dtype's name in the file ("BF16", "F16", "I32", ...) and a NumPy array
of the logical shape. NumPy has no bf16, so a BF16 array holds the bit patterns as uint16;
`Tensor.to_float64` gives the values. Reading maps the file: nothing is copied until it is used.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Iterable, Mapping, Sequence

import numpy as np

import float_formats

STORAGE = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"), "I64": np.dtype("<i8"), "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"), "I8": np.dtype("i1"), "U8": np.dtype("u1"), "BOOL": np.dtype("u1"),
    "F8_E4M3": np.dtype("u1"),  # the codes
}
INDEX_NAME = "model.safetensors.index.json"


@dataclass(frozen=True)
class Tensor:
    dtype: str
    array: np.ndarray

    def __post_init__(self) -> None:
        if self.array.dtype != STORAGE[self.dtype]:
            raise ValueError(f"{self.dtype} is stored as {STORAGE[self.dtype]}, "
                             f"got an array of {self.array.dtype}")

    @property
    def bytes(self) -> int:
        return self.array.nbytes

    def to_float64(self) -> np.ndarray:
        if self.dtype == "BF16":
            return float_formats.bf16_values(self.array).astype(np.float64)
        return self.array.astype(np.float64)


def float_tensor(dtype: str, values: np.ndarray) -> Tensor:
    """`values` rounded to BF16, F16 or F32."""
    if dtype == "BF16":
        return Tensor(dtype, float_formats.bf16_bits(values))
    return Tensor(dtype, np.ascontiguousarray(values, dtype=STORAGE[dtype]))


def int_tensor(dtype: str, values: np.ndarray) -> Tensor:
    return Tensor(dtype, np.ascontiguousarray(values, dtype=STORAGE[dtype]))


class StreamWriter:
    """Writes one file tensor by tensor: the header first, then each tensor's bytes in the order
    of `plan` (name, dtype, shape), so that memory is bounded by one tensor."""

    def __init__(self, path: Path, plan: Sequence[tuple[str, str, Sequence[int]]],
                 metadata: Mapping[str, str] | None = None) -> None:
        header: dict[str, object] = {}
        if metadata is not None:
            header["__metadata__"] = dict(metadata)
        self._expected: list[tuple[str, int]] = []
        begin = 0
        for name, dtype, shape in plan:
            size = STORAGE[dtype].itemsize * int(np.prod(shape, dtype=np.int64))
            header[name] = {"dtype": dtype, "shape": [int(n) for n in shape],
                            "data_offsets": [begin, begin + size]}
            self._expected.append((name, size))
            begin += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.data_bytes = begin
        self._next = 0
        self._file: BinaryIO = open(path, "wb")
        self._file.write(struct.pack("<Q", len(text)) + text)

    def write(self, name: str, array: np.ndarray) -> None:
        want_name, want_bytes = self._expected[self._next]
        if name != want_name or array.nbytes != want_bytes:
            raise ValueError(f"wanted {want_name} of {want_bytes} bytes next, "
                             f"got {name} of {array.nbytes}")
        self._file.write(np.ascontiguousarray(array).data)
        self._next += 1

    def close(self) -> None:
        self._file.close()
        if self._next != len(self._expected):
            raise ValueError(f"closed after {self._next} of {len(self._expected)} tensors")


def aligned_order(names: Iterable[str], tensors: Mapping[str, Tensor]) -> list[str]:
    """Wider elements first, so that every tensor is aligned to its element and to no more."""
    return sorted(names, key=lambda n: -tensors[n].array.dtype.itemsize)


def write_file(path: Path, tensors: Mapping[str, Tensor],
               metadata: Mapping[str, str] | None = None) -> None:
    order = aligned_order(tensors, tensors)
    writer = StreamWriter(path, [(n, tensors[n].dtype, tensors[n].array.shape) for n in order],
                          metadata)
    for name in order:
        writer.write(name, tensors[name].array)
    writer.close()


def shard_name(index: int, count: int) -> str:
    return f"model-{index + 1:05d}-of-{count:05d}.safetensors"


def assign_shards(tensors: Mapping[str, Tensor], count: int, split_linears: bool) -> dict[str, int]:
    """name -> shard number. Split: neighbouring tensors go to different shards, which separates
    the parts of one Linear. Otherwise by bytes, with all tensors of one module in one shard."""
    if split_linears:
        return {name: i % count for i, name in enumerate(tensors)}
    total = sum(t.bytes for t in tensors.values())
    shards: dict[str, int] = {}
    module_shard: dict[str, int] = {}
    done = 0
    for name, tensor in tensors.items():
        module = name.rsplit(".", 1)[0]
        shard = module_shard.setdefault(module, min(count - 1, done * count // max(total, 1)))
        shards[name] = shard
        done += tensor.bytes
    return shards


def write_checkpoint_tensors(folder: Path, tensors: Mapping[str, Tensor], shards: int = 1,
                             split_linears: bool = False,
                             metadata: Mapping[str, str] | None = None) -> None:
    """model.safetensors, or `shards` files with the index JSON."""
    if shards == 1:
        write_file(folder / "model.safetensors", tensors, metadata)
        return
    where = assign_shards(tensors, shards, split_linears)
    for shard in range(shards):
        part = {n: t for n, t in tensors.items() if where[n] == shard}
        write_file(folder / shard_name(shard, shards), part, metadata)
    write_index(folder, {n: shard_name(where[n], shards) for n in tensors},
                sum(t.bytes for t in tensors.values()))


def write_index(folder: Path, weight_map: Mapping[str, str], total_bytes: int) -> None:
    index = {"metadata": {"format": "pt", "total_size": total_bytes},
             "weight_map": dict(sorted(weight_map.items()))}
    (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")


def read_file(path: Path) -> dict[str, Tensor]:
    data = np.memmap(path, dtype=np.uint8, mode="r")
    if data.size < 8:
        raise ValueError(f"{path}: {data.size} bytes, too short for a safetensors header")
    header_bytes = struct.unpack("<Q", data[:8].tobytes())[0]
    if 8 + header_bytes > data.size:
        raise ValueError(f"{path}: header of {header_bytes} bytes in a file of {data.size}")
    header = json.loads(data[8:8 + header_bytes].tobytes())
    header.pop("__metadata__", None)
    body = data[8 + header_bytes:]
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        storage = STORAGE[entry["dtype"]]
        want = storage.itemsize * int(np.prod(entry["shape"], dtype=np.int64))
        if not 0 <= begin <= end <= body.size or end - begin != want:
            raise ValueError(f"{path}: {name}: offsets {begin}..{end}, wanted {want} bytes "
                             f"in a body of {body.size}")
        array = body[begin:end].view(storage).reshape(entry["shape"])
        tensors[name] = Tensor(entry["dtype"], array)
    return tensors


def read_checkpoint_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, sharded or not."""
    index_path = folder / INDEX_NAME
    if not index_path.exists():
        return read_file(folder / "model.safetensors")
    weight_map: dict[str, str] = json.loads(index_path.read_text())["weight_map"]
    files = {name: read_file(folder / name) for name in sorted(set(weight_map.values()))}
    return {name: files[file][name] for name, file in weight_map.items()}
