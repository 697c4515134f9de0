#!/usr/bin/python3
"""Writes a published checkpoint's headers, at its full size, with no weights: sparse files.

    make_header_checkpoint.py --checkpoint a --out DIR

a  GLM-4.6 REAP 268B   GPTQ by GPTQModel, 120 experts
b  GLM-4.6 REAP 218B   AutoRound, 96 experts, dense and shared MLPs in bf16 where the listing has
                       119 GB
c  GLM-5.1 REAP 555B   AutoRound exported as GPTQ, 192 experts
d  GLM-4.6 AWQ recipe  compressed-tensors, 160 experts, layers 0..2 and shared experts in bf16

Names, dtypes, shapes, the shards' size and the index are those of the repositories, as far as
their cards and the tools that wrote them tell; each shard is cut between two tensors, wherever it
is full. Tensor data is a hole, which reads as zeros, but for some zero points (`written_zeros`)
that are what symmetric files have. The tokenizer has all ids of the real one, most of them of
invented tokens. 180 000 tensors take about three seconds and 50 MB of disk.
"""

from __future__ import annotations

import argparse
import itertools
import json
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

import architectures
import make_checkpoint
import tiny_tokenizer
from checkpoint_formats import linear_kind
from checkpoint_options import Options
from safetensors_io import STORAGE, shard_name, write_index

GIB = 1 << 30
GROUP = 128
SYMMETRIC_V1_ZEROS = 0x77777777

GLM_4_6 = dict(hidden=5120, intermediate=12288, moe_width=1536, heads=96, kv_heads=8, head_dim=128,
               layers=92, dense_layers=3, vocab=151552, group=GROUP,
               overrides={"max_position_embeddings": 202752})
GLM_5_1 = dict(arch="glm_moe_dsa", hidden=6144, intermediate=12288, moe_width=2048, heads=64,
               layers=78, dense_layers=3, vocab=154880, group=GROUP, q_lora=2048, kv_lora=512,
               nope_dim=192, rope_dim=64, v_dim=256, index_heads=32, index_dim=128,
               index_topk=2048, overrides={"max_position_embeddings": 202752})
# Ids of the first added token, after which the others follow in order.
FIRST_ADDED_ID = {"glm4_moe": 151329, "glm_moe_dsa": 154820}


@dataclass(frozen=True)
class Published:
    options: Options
    plain: Callable[[str, int], bool]  # (kind of Linear, layer): left in bf16
    g_idx: bool = False
    packed: bool = False  # compressed-tensors instead of GPTQ
    bias_dtype: str = "F16"
    shard_bytes: int = 5 * GIB


PUBLISHED = {
    "a": Published(Options(**GLM_4_6, format="gptq", experts=120), lambda kind, layer: False,
                   g_idx=True),
    "b": Published(Options(**GLM_4_6, format="autoround", experts=96),
                   lambda kind, layer: kind == "shared"),
    "c": Published(Options(**GLM_5_1, format="autoround_export", experts=192),
                   lambda kind, layer: kind in ("dense", "weights_proj"), g_idx=True),
    "d": Published(Options(**GLM_4_6, format="ct", experts=160),
                   lambda kind, layer: kind == "shared" or layer < 3, packed=True,
                   bias_dtype="BF16"),
}


@dataclass(frozen=True)
class Entry:
    """A tensor of a file, without its data."""
    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        size = STORAGE[self.dtype].itemsize
        for extent in self.shape:
            size *= extent
        return size


class Plan:
    """All tensors of a published checkpoint, in the order of the model's modules."""

    def __init__(self, published: Published) -> None:
        self._published = published
        self._options = published.options
        self.entries: list[Entry] = []
        self.plain_modules: list[str] = []
        self.quantized_modules: list[str] = []
        self._add_all()

    def _tensor(self, name: str, *shape: int, dtype: str = "BF16") -> None:
        self.entries.append(Entry(name, dtype, shape))

    def _linear(self, module: str, outputs: int, inputs: int, bias: bool = False) -> None:
        parts = module.split(".")
        published, groups = self._published, inputs // GROUP
        plain = published.plain(linear_kind(module), int(parts[2]))
        if plain:
            self.plain_modules.append(module)
            self._tensor(f"{module}.weight", outputs, inputs)
        else:
            self.quantized_modules.append(module)
            if published.packed:
                self._tensor(f"{module}.weight_packed", outputs, inputs // 8, dtype="I32")
                self._tensor(f"{module}.weight_scale", outputs, groups)
                self._tensor(f"{module}.weight_shape", 2, dtype="I64")
            else:
                self._tensor(f"{module}.qweight", inputs // 8, outputs, dtype="I32")
                self._tensor(f"{module}.qzeros", groups, outputs // 8, dtype="I32")
                self._tensor(f"{module}.scales", groups, outputs, dtype="F16")
                if published.g_idx:
                    self._tensor(f"{module}.g_idx", inputs, dtype="I32")
        if bias:
            self._tensor(f"{module}.bias", outputs, dtype="BF16" if plain else published.bias_dtype)

    def _mlp(self, prefix: str, width: int) -> None:
        hidden = self._options.hidden
        self._linear(f"{prefix}.gate_proj", width, hidden)
        self._linear(f"{prefix}.up_proj", width, hidden)
        self._linear(f"{prefix}.down_proj", hidden, width)

    def _grouped_query(self, prefix: str) -> None:
        options = self._options
        width, kv_width = options.heads * options.head_dim, options.kv_heads * options.head_dim
        self._linear(f"{prefix}.q_proj", width, options.hidden, bias=True)
        self._linear(f"{prefix}.k_proj", kv_width, options.hidden, bias=True)
        self._linear(f"{prefix}.v_proj", kv_width, options.hidden, bias=True)
        self._linear(f"{prefix}.o_proj", options.hidden, width)
        self._tensor(f"{prefix}.q_norm.weight", options.head_dim)
        self._tensor(f"{prefix}.k_norm.weight", options.head_dim)

    def _latent(self, prefix: str) -> None:
        o = self._options
        self._linear(f"{prefix}.q_a_proj", o.q_lora, o.hidden)
        self._tensor(f"{prefix}.q_a_layernorm.weight", o.q_lora)
        self._linear(f"{prefix}.q_b_proj", o.heads * (o.nope_dim + o.rope_dim), o.q_lora)
        self._linear(f"{prefix}.kv_a_proj_with_mqa", o.kv_lora + o.rope_dim, o.hidden)
        self._tensor(f"{prefix}.kv_a_layernorm.weight", o.kv_lora)
        self._linear(f"{prefix}.kv_b_proj", o.heads * (o.nope_dim + o.v_dim), o.kv_lora)
        self._linear(f"{prefix}.o_proj", o.hidden, o.heads * o.v_dim)
        self._linear(f"{prefix}.indexer.wq_b", o.index_heads * o.index_dim, o.q_lora)
        self._linear(f"{prefix}.indexer.wk", o.index_dim, o.hidden)
        self._tensor(f"{prefix}.indexer.k_norm.weight", o.index_dim)
        self._tensor(f"{prefix}.indexer.k_norm.bias", o.index_dim)
        self._linear(f"{prefix}.indexer.weights_proj", o.index_heads, o.hidden)

    def _add_all(self) -> None:
        options = self._options
        attention = self._grouped_query if options.arch == "glm4_moe" else self._latent
        self._tensor("model.embed_tokens.weight", options.vocab, options.hidden)
        for layer in range(options.layers):
            prefix = f"model.layers.{layer}"
            attention(f"{prefix}.self_attn")
            if layer < options.dense_layers:
                self._mlp(f"{prefix}.mlp", options.intermediate)
            else:
                self._tensor(f"{prefix}.mlp.gate.weight", options.experts, options.hidden)
                self._tensor(f"{prefix}.mlp.gate.e_score_correction_bias", options.experts,
                             dtype="F32")
                self.plain_modules.append(f"{prefix}.mlp.gate")
                for expert in range(options.experts):
                    self._mlp(f"{prefix}.mlp.experts.{expert}", options.moe_width)
                self._mlp(f"{prefix}.mlp.shared_experts", options.moe_width)
            self._tensor(f"{prefix}.input_layernorm.weight", options.hidden)
            self._tensor(f"{prefix}.post_attention_layernorm.weight", options.hidden)
        self._tensor("model.norm.weight", options.hidden)
        self._tensor("lm_head.weight", options.vocab, options.hidden)
        self.plain_modules.append("lm_head")


def cut_into_shards(entries: list[Entry], shard_bytes: int) -> Iterator[list[Entry]]:
    """Each as full as it can be: a Linear's tensors may come apart."""
    shard: list[Entry] = []
    room = shard_bytes
    for entry in entries:
        if entry.bytes > room and shard:
            yield shard
            shard, room = [], shard_bytes
        shard.append(entry)
        room -= entry.bytes
    yield shard


def written_zeros(name: str) -> bool:
    """Whether these zero points are in the file: those of the first layer of each kind, of its
    experts the first one's."""
    return (name.endswith(".qzeros") and name.startswith(("model.layers.0.", "model.layers.3."))
            and (".mlp.experts." not in name or ".mlp.experts.0." in name))


def write_sparse_file(path: Path, shard: list[Entry]) -> None:
    """Wider elements first, then by name, as the library that writes such files has it."""
    items: list[str] = []
    zeros: list[tuple[int, int]] = []
    begin = 0
    for entry in sorted(shard, key=lambda e: (-STORAGE[e.dtype].itemsize, e.name)):
        end = begin + entry.bytes
        shape = ",".join(map(str, entry.shape))
        items.append(f'"{entry.name}":{{"dtype":"{entry.dtype}","shape":[{shape}],'
                     f'"data_offsets":[{begin},{end}]}}')
        if written_zeros(entry.name):
            zeros.append((begin, entry.bytes))
        begin = end
    header = ('{"__metadata__":{"format":"pt"},' + ",".join(items) + "}").encode()
    header += b" " * (-len(header) % 8)
    word = struct.pack("<I", SYMMETRIC_V1_ZEROS)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + begin)
        for place, size in zeros:
            file.seek(8 + len(header) + place)
            file.write(word * (size // 4))


def full_size_tokenizer(first_added: int) -> tiny_tokenizer.TinyTokenizer:
    """Its added tokens have the real ids; below them, invented tokens that no merge makes."""
    small = tiny_tokenizer.build(600)
    unused = (f"~{number}" for number in itertools.count())
    vocab = dict(small.vocab)
    while len(vocab) < first_added:
        vocab[next(unused)] = len(vocab)
    return tiny_tokenizer.TinyTokenizer(vocab, small.merges)


def make_header_checkpoint(out: Path, published: Published) -> int:
    """Writes the checkpoint into `out` (made if missing). Returns its bytes of tensors."""
    out.mkdir(parents=True, exist_ok=True)
    for stale in out.glob("*.safetensors*"):
        stale.unlink()
    plan = Plan(published)
    shards = list(cut_into_shards(plan.entries, published.shard_bytes))
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards):
        name = shard_name(number, len(shards))
        write_sparse_file(out / name, shard)
        weight_map |= dict.fromkeys((entry.name for entry in shard), name)
    total = sum(entry.bytes for entry in plan.entries)
    write_index(out, weight_map, total)
    options = published.options
    tokenizer = full_size_tokenizer(FIRST_ADDED_ID[options.arch])
    make_checkpoint.write_side_files(out, options, tokenizer, plan.plain_modules,
                                     plan.quantized_modules)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", choices=sorted(PUBLISHED), required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    begin = time.monotonic()
    total = make_header_checkpoint(arguments.out, PUBLISHED[arguments.checkpoint])
    print(f"{arguments.out}: {total / 1e9:.2f} GB of tensors in {time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    main()
