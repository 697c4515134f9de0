#!/usr/bin/python3
"""Writes a checkpoint with the layer dimensions of GLM-4.6 or GLM-5.1 and few layers, for speed tests.

    make_large_checkpoint.py --out DIR [--seed N] [--experts 96] [--layers 3] [--shards 4]
    make_large_checkpoint.py --out DIR --arch glm_moe_dsa

GPTQ (v1, group 128, fp16 scales and biases) for every Linear, but the indexer's weights_proj of
GLM-5.1; bf16 embeddings, norms, gates and lm_head. The default is 1 dense and 2 MoE layers of 96
experts: 2.9 GB; of GLM-5.1 1 dense and 1 MoE layer of 192 experts: 4.2 GB. Written tensor by tensor
in bounded memory. Codes are drawn with mean 8 and scales so that activations keep their size, so
that tokens spread over the experts as in a trained model.
"""

from __future__ import annotations

import argparse
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Iterator

import numpy as np

import architectures
import make_checkpoint
import safetensors_io
from float_formats import bf16_bits
from make_checkpoint import Options

# Of the codes that `random_code_words` draws.
CODE_STD = 17.5 ** 0.5
SYMMETRIC_V1_ZEROS = 0x77777777
CHUNK_WORDS = 1 << 18


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor that is drawn when it is written."""
    name: str
    dtype: str
    shape: tuple[int, ...]
    draw: Callable[[np.random.Generator], np.ndarray]

    @property
    def bytes(self) -> int:
        return safetensors_io.STORAGE[self.dtype].itemsize * int(np.prod(self.shape))


def random_code_words(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """int32 words of eight codes, each 1..15 and symmetric about 8: random bits, with nibble 0
    made 8 (a mean of 7.5 would give all tokens a common direction and the same experts)."""
    words = int(np.prod(shape))
    out = np.empty((words + 1) // 2, np.uint64)
    ones = np.uint64(0x1111111111111111)
    for begin in range(0, len(out), CHUNK_WORDS):
        size = min(CHUNK_WORDS, len(out) - begin)
        bits = rng.integers(0, 2**64, size, dtype=np.uint64)
        any_bit = bits | (bits >> np.uint64(1))
        any_bit |= any_bit >> np.uint64(2)
        out[begin:begin + size] = bits | ((~any_bit & ones) << np.uint64(3))
    return out.view(np.int32)[:words].reshape(shape)


def gaussian_tensor(name: str, shape: tuple[int, ...], std: float, mean: float = 0.0,
                    dtype: str = "BF16") -> PlannedTensor:
    def draw(rng: np.random.Generator) -> np.ndarray:
        values = rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(std)
        values += np.float32(mean)
        return bf16_bits(values) if dtype == "BF16" else values.astype(
            safetensors_io.STORAGE[dtype])

    return PlannedTensor(name, dtype, shape, draw)


def gptq_linear(module: str, outputs: int, inputs: int, gain: float, group: int,
                bias: bool = False) -> Iterator[PlannedTensor]:
    groups = inputs // group
    scale = gain * inputs ** -0.5 / CODE_STD

    def draw_scales(rng: np.random.Generator) -> np.ndarray:
        spread = np.exp(0.15 * rng.standard_normal((groups, outputs), dtype=np.float32))
        return (spread * np.float32(scale)).astype(np.float16)

    words, zeros = (inputs // 8, outputs), (groups, outputs // 8)
    yield PlannedTensor(f"{module}.qweight", "I32", words, lambda rng: random_code_words(rng, words))
    yield PlannedTensor(f"{module}.qzeros", "I32", zeros,
                        lambda rng: np.full(zeros, SYMMETRIC_V1_ZEROS, np.int32))
    yield PlannedTensor(f"{module}.scales", "F16", (groups, outputs), draw_scales)
    yield PlannedTensor(f"{module}.g_idx", "I32", (inputs,),
                        lambda rng: np.arange(inputs, dtype=np.int32) // group)
    if bias:
        yield gaussian_tensor(f"{module}.bias", (outputs,), 0.2, dtype="F16")


def mlp(prefix: str, hidden: int, width: int, group: int) -> Iterator[PlannedTensor]:
    yield from gptq_linear(f"{prefix}.gate_proj", width, hidden, 1.0, group)
    yield from gptq_linear(f"{prefix}.up_proj", width, hidden, 1.0, group)
    yield from gptq_linear(f"{prefix}.down_proj", hidden, width, 2.0, group)


def grouped_query(prefix: str, options: Options) -> Iterator[PlannedTensor]:
    hidden, group, dim = options.hidden, options.group, options.head_dim
    yield from gptq_linear(f"{prefix}.q_proj", options.heads * dim, hidden, 1.0, group, True)
    for projection in ("k_proj", "v_proj"):
        yield from gptq_linear(f"{prefix}.{projection}", options.kv_heads * dim, hidden, 1.0,
                               group, True)
    yield from gptq_linear(f"{prefix}.o_proj", hidden, options.heads * dim, 2.0, group)
    yield gaussian_tensor(f"{prefix}.q_norm.weight", (dim,), 0.1, 1.15)
    yield gaussian_tensor(f"{prefix}.k_norm.weight", (dim,), 0.1, 1.15)


def latent(prefix: str, options: Options) -> Iterator[PlannedTensor]:
    hidden, group, heads = options.hidden, options.group, options.heads
    q_rank, kv_rank = options.q_lora, options.kv_lora
    qk_dim, indexer = options.nope_dim + options.rope_dim, f"{prefix}.indexer"
    yield from gptq_linear(f"{prefix}.q_a_proj", q_rank, hidden, 1.0, group)
    yield gaussian_tensor(f"{prefix}.q_a_layernorm.weight", (q_rank,), 0.1, 1.0)
    yield from gptq_linear(f"{prefix}.q_b_proj", heads * qk_dim, q_rank, 1.3, group)
    yield from gptq_linear(f"{prefix}.kv_a_proj_with_mqa", kv_rank + options.rope_dim, hidden, 1.0,
                           group)
    yield gaussian_tensor(f"{prefix}.kv_a_layernorm.weight", (kv_rank,), 0.1, 1.0)
    yield from gptq_linear(f"{prefix}.kv_b_proj", heads * (options.nope_dim + options.v_dim),
                           kv_rank, 1.0, group)
    yield from gptq_linear(f"{prefix}.o_proj", hidden, heads * options.v_dim, 2.0, group)
    yield from gptq_linear(f"{indexer}.wq_b", options.index_heads * options.index_dim, q_rank, 1.0,
                           group)
    yield from gptq_linear(f"{indexer}.wk", options.index_dim, hidden, 1.0, group)
    yield gaussian_tensor(f"{indexer}.k_norm.weight", (options.index_dim,), 0.1, 1.0)
    yield gaussian_tensor(f"{indexer}.k_norm.bias", (options.index_dim,), 0.1)
    yield gaussian_tensor(f"{indexer}.weights_proj.weight", (options.index_heads, hidden),
                          hidden ** -0.5)


def plan_tensors(options: Options) -> Iterator[PlannedTensor]:
    hidden, group = options.hidden, options.group
    attention = grouped_query if options.arch == "glm4_moe" else latent
    yield gaussian_tensor("model.embed_tokens.weight", (options.vocab, hidden), 1.0)
    for layer in range(options.layers):
        prefix = f"model.layers.{layer}"
        yield gaussian_tensor(f"{prefix}.input_layernorm.weight", (hidden,), 0.1, 1.0)
        yield from attention(f"{prefix}.self_attn", options)
        yield gaussian_tensor(f"{prefix}.post_attention_layernorm.weight", (hidden,), 0.1, 1.0)
        if layer < options.dense_layers:
            yield from mlp(f"{prefix}.mlp", hidden, options.intermediate, group)
            continue
        gate = f"{prefix}.mlp.gate"
        yield gaussian_tensor(f"{gate}.weight", (options.experts, hidden), hidden ** -0.5)
        yield gaussian_tensor(f"{gate}.e_score_correction_bias", (options.experts,), 0.03,
                              dtype="F32")
        for expert in range(options.experts):
            yield from mlp(f"{prefix}.mlp.experts.{expert}", hidden, options.moe_width, group)
        yield from mlp(f"{prefix}.mlp.shared_experts", hidden, options.moe_width, group)
    yield gaussian_tensor("model.norm.weight", (hidden,), 0.1, 1.0)
    yield gaussian_tensor("lm_head.weight", (options.vocab, hidden), 2.5 * hidden ** -0.5)


def write_tensors(out: Path, plan: list[PlannedTensor], shards: int, seed: int) -> int:
    """Shards of about equal size, cut between any two tensors. Returns the bytes written."""
    total = sum(t.bytes for t in plan)
    shard_of: list[int] = []
    done = 0
    for tensor in plan:
        shard_of.append(min(shards - 1, done * shards // total))
        done += tensor.bytes
    rng = np.random.default_rng(seed)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        part = [t for t, s in zip(plan, shard_of) if s == shard]
        name = safetensors_io.shard_name(shard, shards)
        writer = safetensors_io.StreamWriter(out / name, [(t.name, t.dtype, t.shape)
                                                          for t in part], {"format": "pt"})
        for tensor in part:
            writer.write(tensor.name, tensor.draw(rng))
            weight_map[tensor.name] = name
        writer.close()
    safetensors_io.write_index(out, weight_map, total)
    return total


def make_large_checkpoint(out: Path, options: Options) -> int:
    """Writes the checkpoint into `out` (made if missing). Returns its bytes of tensors."""
    for name in ("hidden", "intermediate", "moe_width"):
        if getattr(options, name) % options.group:
            raise ValueError(f"{name} {getattr(options, name)} is no multiple of the group "
                             f"{options.group}")
    out.mkdir(parents=True, exist_ok=True)
    for stale in out.glob("*.safetensors*"):
        stale.unlink()
    total = write_tensors(out, list(plan_tensors(options)), options.shards, options.seed)
    plain = [f"model.layers.{n}.mlp.gate" for n in range(options.dense_layers, options.layers)]
    if options.arch == "glm_moe_dsa":
        plain += [f"model.layers.{n}.self_attn.indexer.weights_proj" for n in range(options.layers)]
    make_checkpoint.write_side_files(out, options, make_checkpoint.tokenizer_for(options.vocab),
                                     [*plain, "lm_head"], [])
    return total


LARGE = Options(experts=96, layers=3, dense_layers=1, hidden=5120, intermediate=12288,
                moe_width=1536, heads=96, kv_heads=8, head_dim=128, vocab=8192, group=128,
                shards=4, overrides={"max_position_embeddings": 202752})
LARGE_SPARSE = Options(arch="glm_moe_dsa", experts=192, layers=2, dense_layers=1, hidden=6144,
                       intermediate=12288, moe_width=2048, heads=64, vocab=8192, group=128,
                       q_lora=2048, kv_lora=512, nope_dim=192, rope_dim=64, v_dim=256,
                       index_heads=32, index_dim=128, index_topk=2048, shards=4,
                       overrides={"max_position_embeddings": 202752})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, help="default: a fresh one, printed")
    parser.add_argument("--arch", choices=architectures.NAMES, default=LARGE.arch)
    for name in ("experts", "layers", "dense-layers", "hidden", "intermediate", "moe-width",
                 "heads", "kv-heads", "head-dim", "top-k", "vocab", "group", "shards"):
        parser.add_argument(f"--{name}", type=int, help="default: the architecture's own")
    arguments = vars(parser.parse_args())
    out, arch = arguments.pop("out"), arguments.pop("arch")
    if arguments["seed"] is None:
        arguments["seed"] = secrets.randbelow(2**32)
    given = {name: value for name, value in arguments.items() if value is not None}
    options = replace(LARGE if arch == LARGE.arch else LARGE_SPARSE, **given)
    begin = time.monotonic()
    try:
        total = make_large_checkpoint(out, options)
    except ValueError as error:
        parser.error(str(error))
    print(f"{out}: {total / 1e9:.2f} GB in {time.monotonic() - begin:.1f} s, "
          f"seed {arguments['seed']}")


if __name__ == "__main__":
    main()
