#!/usr/bin/python3
"""Writes one small matrix in every quantized file format: vectors for readers of such files.

    format_vectors.py --out tests/model/format_vectors

Each file holds one matrix of 16 outputs and 256 inputs, as integers times `unit`, and the tensors
of each format that stands for it, element by element in hexadecimal, with the quantization_config
that goes with them. Everything here is plain integers, one element at a time, from the formats'
definitions: no code is shared with quantized_formats.py, nor with any reader. The seed is fixed;
scales are small integers times `unit`, so that every product can be checked by hand.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
from pathlib import Path
from typing import Any

INPUTS, OUTPUTS, GROUP = 256, 16, 128
GROUPS = INPUTS // GROUP
SCALE_UNIT = 2.0 ** -10
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the column of its eight that nibble j of a word holds

Json = dict[str, Any]
Rows = list[list[int]]


def tensor(dtype: str, rows: list[Any]) -> Json:
    """Bit patterns; each row one string of hexadecimal numbers, as many digits as the dtype has."""
    digits = {"I64": 16, "I32": 8, "F32": 8, "F16": 4, "BF16": 4, "I8": 2, "F8_E4M3": 2}[dtype]
    mask = (1 << 4 * digits) - 1

    def text(values: list[int]) -> str:
        return "".join(f"{value & mask:0{digits}x}" for value in values)

    if rows and isinstance(rows[0], list):
        return {"dtype": dtype, "shape": [len(rows), len(rows[0])],
                "rows": [text(row) for row in rows]}
    return {"dtype": dtype, "shape": [len(rows)], "rows": [text(rows)]}


def float_bits(dtype: str, value: float) -> int:
    """Of a value that the dtype holds exactly."""
    if dtype == "F16":
        bits = int.from_bytes(struct.pack("<e", value), "little")
        assert struct.unpack("<e", struct.pack("<e", value))[0] == value
        return bits
    bits = int.from_bytes(struct.pack("<f", value), "little")
    if dtype == "BF16":
        assert bits & 0xFFFF == 0
        return bits >> 16
    return bits


def transposed(rows: Rows) -> Rows:
    return [list(column) for column in zip(*rows)]


def packed(values: list[int], bits: int) -> list[int]:
    """Words of 32 bits, the first value lowest."""
    each = 32 // bits
    return [sum(value << bits * j for j, value in enumerate(values[start:start + each]))
            for start in range(0, len(values), each)]


def e4m3_units(code: int) -> int:
    """The value of an FP8 e4m3 code in units of 2^-9; codes 0x7f and 0xff are no numbers."""
    sign = -1 if code & 0x80 else 1
    exponent, mantissa = code >> 3 & 15, code & 7
    return sign * (mantissa if exponent == 0 else (8 + mantissa) << (exponent - 1))


class Integers:
    """W[n][k] = scale[n][g] * (code[n][k] - zero[n][g]), g = group[k]; scales in SCALE_UNIT."""

    def __init__(self, rng: random.Random, bits: int, symmetric: bool, permuted: bool = False,
                 groups: int = GROUPS) -> None:
        self.bits, self.top, self.middle = bits, 2 ** bits - 1, 2 ** (bits - 1)
        self.codes = [[rng.randint(0, self.top) for _ in range(INPUTS)] for _ in range(OUTPUTS)]
        self.scales = [[rng.choice((-1, 1)) * rng.randint(1, 15) for _ in range(groups)]
                       for _ in range(OUTPUTS)]
        # 0 cannot be stored less 1.
        self.zeros = [[self.middle if symmetric else rng.randint(1, self.top)
                       for _ in range(groups)] for _ in range(OUTPUTS)]
        self.group = [k * groups // INPUTS for k in range(INPUTS)]
        if permuted:
            rng.shuffle(self.group)
        # The ends of what a format can hold.
        self.codes[0][0], self.codes[0][1] = 0, self.top
        if not symmetric:
            self.zeros[0] = [self.top, 1]

    def weights(self) -> Rows:
        return [[self.scales[n][g] * (self.codes[n][k] - self.zeros[n][g])
                 for k, g in enumerate(self.group)] for n in range(OUTPUTS)]

    def scale_tensor(self, dtype: str, rows: Rows) -> Json:
        return tensor(dtype, [[float_bits(dtype, s * SCALE_UNIT) for s in row] for row in rows])

    def gptq(self, stored_less: int, g_idx: bool = False) -> Json:
        zeros = [[zero - stored_less for zero in row] for row in self.zeros]
        tensors = {
            "qweight": tensor("I32", transposed([packed(row, self.bits) for row in self.codes])),
            "qzeros": tensor("I32", [packed(row, self.bits) for row in transposed(zeros)]),
            "scales": self.scale_tensor("F16", transposed(self.scales)),
        }
        if g_idx:
            tensors["g_idx"] = tensor("I32", self.group)
        return tensors

    def awq(self) -> Json:
        def words(row: list[int]) -> list[int]:
            return packed([row[start + column] for start in range(0, OUTPUTS, 8)
                           for column in AWQ_ORDER], 4)

        return {"qweight": tensor("I32", [words(row) for row in transposed(self.codes)]),
                "qzeros": tensor("I32", [words(row) for row in transposed(self.zeros)]),
                "scales": self.scale_tensor("F16", transposed(self.scales))}

    def compressed(self, zeros: str = "none", g_idx: bool = False) -> Json:
        """zeros: none | packed (along the outputs) | bytes (signed, one each)."""
        tensors = {"weight_packed": tensor("I32", [packed(row, self.bits) for row in self.codes]),
                   "weight_scale": self.scale_tensor("BF16", self.scales),
                   "weight_shape": tensor("I64", [OUTPUTS, INPUTS])}
        if zeros == "packed":
            tensors["weight_zero_point"] = tensor("I32", transposed(
                [packed(column, self.bits) for column in transposed(self.zeros)]))
        elif zeros == "bytes":
            tensors["weight_zero_point"] = tensor("I8", [[zero - self.middle for zero in row]
                                                         for row in self.zeros])
        if g_idx:
            tensors["weight_g_idx"] = tensor("I32", self.group)
        return tensors

    def signed_bytes(self, zeros: bool = False) -> Json:
        """int-quantized: of 8 bits alone."""
        tensors = {"weight": tensor("I8", [[code - self.middle for code in row]
                                           for row in self.codes]),
                   "weight_scale": self.scale_tensor("BF16", self.scales)}
        if zeros:
            tensors["weight_zero_point"] = tensor("I8", [[zero - self.middle for zero in row]
                                                         for row in self.zeros])
        return tensors


def gptq_config(bits: int, symmetric: bool = True, version: str = "gptq",
                desc_act: bool = False) -> Json:
    return {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "sym": symmetric,
            "desc_act": desc_act, "checkpoint_format": version}


def auto_round_config(bits: int, packing: str, symmetric: bool = True) -> Json:
    return {"quant_method": "auto-round", "bits": bits, "group_size": GROUP, "sym": symmetric,
            "data_type": "int", "packing_format": packing}


def compressed_config(weights: Json, form: str = "pack-quantized") -> Json:
    return {"quant_method": "compressed-tensors", "format": form,
            "quantization_status": "compressed", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}


def integer_config(bits: int, symmetric: bool = True, actorder: str | None = None,
                   form: str = "pack-quantized", strategy: str = "group") -> Json:
    return compressed_config({"num_bits": bits, "type": "int", "symmetric": symmetric,
                              "strategy": strategy, "dynamic": False, "actorder": actorder,
                              "group_size": GROUP if strategy == "group" else None}, form)


def float_config(strategy: str, block: list[int] | None = None) -> Json:
    return compressed_config({"num_bits": 8, "type": "float", "symmetric": True,
                              "strategy": strategy, "block_structure": block, "dynamic": False},
                             "float-quantized")


def entry(config: Json, tensors: Json) -> Json:
    return {"quantization_config": config, "tensors": tensors}


def symmetric_vectors(rng: random.Random, bits: int) -> Json:
    m = Integers(rng, bits, symmetric=True)
    formats = {
        "gptq": entry(gptq_config(bits), m.gptq(1, g_idx=True)),
        "gptq_v2": entry(gptq_config(bits, version="gptq_v2"), m.gptq(0, g_idx=True)),
        "auto_round": entry(auto_round_config(bits, "auto_round:auto_gptq"), m.gptq(1)),
        "auto_round_gptqmodel": entry(auto_round_config(bits, "auto_round:gptqmodel"),
                                      m.gptq(0, g_idx=True)),
        "compressed_tensors": entry(integer_config(bits), m.compressed()),
    }
    if bits == 4:
        formats["auto_round_awq"] = entry(auto_round_config(4, "auto_round:auto_awq"), m.awq())
    else:
        formats["int_quantized"] = entry(integer_config(8, form="int-quantized"), m.signed_bytes())
    return {"unit": SCALE_UNIT, "weights": m.weights(), "formats": formats}


def zero_point_vectors(rng: random.Random, bits: int) -> Json:
    m = Integers(rng, bits, symmetric=False)
    formats = {
        "gptq": entry(gptq_config(bits, False), m.gptq(1, g_idx=True)),
        "gptq_v2": entry(gptq_config(bits, False, "gptq_v2"), m.gptq(0, g_idx=True)),
        "auto_round": entry(auto_round_config(bits, "auto_round:auto_gptq", False), m.gptq(1)),
        "compressed_tensors": entry(integer_config(bits, False), m.compressed("packed")),
    }
    if bits == 4:
        formats["awq"] = entry({"quant_method": "awq", "bits": 4, "group_size": GROUP,
                                "zero_point": True, "version": "gemm"}, m.awq())
    else:
        formats["int_quantized"] = entry(integer_config(8, False, form="int-quantized"),
                                         m.signed_bytes(zeros=True))
    return {"unit": SCALE_UNIT, "weights": m.weights(), "formats": formats}


def order_vectors(rng: random.Random, bits: int) -> Json:
    m = Integers(rng, bits, symmetric=True, permuted=True)
    return {"unit": SCALE_UNIT, "weights": m.weights(), "formats": {
        "gptq": entry(gptq_config(bits, desc_act=True), m.gptq(1, g_idx=True)),
        "compressed_tensors": entry(integer_config(bits, actorder="group"),
                                    m.compressed(g_idx=True))}}


def zero_byte_vectors(rng: random.Random, bits: int) -> Json:
    """Zero points as signed bytes, which no writer should leave unpacked, and some do."""
    m = Integers(rng, bits, symmetric=False)
    return {"unit": SCALE_UNIT, "weights": m.weights(), "formats": {
        "compressed_tensors": entry(integer_config(bits, False), m.compressed("bytes"))}}


def row_vectors(rng: random.Random, bits: int) -> Json:
    """One scale a row."""
    m = Integers(rng, bits, symmetric=True, groups=1)

    def config(form: str) -> Json:
        return integer_config(bits, form=form, strategy="channel")

    formats = {"compressed_tensors": entry(config("pack-quantized"), m.compressed())}
    if bits == 8:
        formats["int_quantized"] = entry(config("int-quantized"), m.signed_bytes())
    return {"unit": SCALE_UNIT, "weights": m.weights(), "formats": formats}


def fp8_vectors(rng: random.Random, strategy: str) -> Json:
    """strategy: tensor (one scale), channel (one a row), block (one for 128 x 128 weights)."""
    numbers = [code for code in range(256) if code & 0x7F != 0x7F]
    codes = [rng.sample(numbers, len(numbers)) + rng.sample(numbers, INPUTS - len(numbers))
             for _ in range(OUTPUTS)]
    rows, columns = {"tensor": (1, 1), "channel": (OUTPUTS, 1), "block": (1, GROUPS)}[strategy]
    scales = [[rng.randint(1, 15) for _ in range(columns)] for _ in range(rows)]
    weights = [[scales[n * rows // OUTPUTS][k * columns // INPUTS] * e4m3_units(codes[n][k])
                for k in range(INPUTS)] for n in range(OUTPUTS)]

    def tensors(name: str, dtype: str) -> Json:
        bits = [[float_bits(dtype, s * SCALE_UNIT) for s in row] for row in scales]
        return {"weight": tensor("F8_E4M3", codes),
                name: tensor(dtype, bits[0] if strategy == "tensor" else bits)}

    block = [128, 128] if strategy == "block" else None
    formats = {"compressed_tensors": entry(float_config(strategy, block),
                                           tensors("weight_scale", "BF16"))}
    if strategy == "block":
        config = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                  "weight_block_size": block}
        formats["fp8"] = entry(config, tensors("weight_scale_inv", "F32"))
    return {"unit": SCALE_UNIT * 2.0 ** -9, "weights": weights, "formats": formats}


def all_vectors(seed: int = 1) -> dict[str, Json]:
    """By file name. Each file has a generator of its own: a new one changes no other."""
    def rng(name: str) -> random.Random:
        return random.Random(f"{seed} {name}")

    vectors = {}
    for bits, word in ((4, "four_bit"), (8, "eight_bit")):
        vectors[word] = symmetric_vectors(rng(word), bits)
        vectors[f"{word}_zeros"] = zero_point_vectors(rng(f"{word}_zeros"), bits)
        vectors[f"{word}_zero_bytes"] = zero_byte_vectors(rng(f"{word}_zero_bytes"), bits)
        vectors[f"{word}_rows"] = row_vectors(rng(f"{word}_rows"), bits)
        vectors[f"{word}_order"] = order_vectors(rng(f"{word}_order"), bits)
    for strategy in ("tensor", "channel", "block"):
        vectors[f"fp8_{strategy}"] = fp8_vectors(rng(f"fp8_{strategy}"), strategy)
    return vectors


def file_text(vectors: Json) -> str:
    """A row of weights, and a row of a tensor, a line."""
    text = [f'{{\n "unit": {vectors["unit"]!r},\n "weights": [']
    text.append(",\n".join(f"  {json.dumps(row, separators=(',', ':'))}"
                           for row in vectors["weights"]))
    formats = json.dumps(vectors["formats"], indent=1).replace("\n", "\n ")
    text.append(f' ],\n "formats": {formats}\n}}\n')
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, vectors in all_vectors().items():
        (out / f"{name}.json").write_text(file_text(vectors))


if __name__ == "__main__":
    main()
