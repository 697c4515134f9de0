"""The committed vectors are what the definitions say, and the oracle's own reader agrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import checkpoint_formats
import format_vectors
import quantized_formats
from safetensors_io import STORAGE, Tensor

VECTORS = Path(__file__).resolve().parents[1] / "model" / "format_vectors"
ALL = format_vectors.all_vectors()


@pytest.mark.parametrize("name", ALL)
def test_a_file_is_what_the_generator_writes(name: str) -> None:
    assert (VECTORS / f"{name}.json").read_text() == format_vectors.file_text(ALL[name])
    assert {path.stem for path in VECTORS.iterdir()} == set(ALL)


def as_tensor(item: format_vectors.Json) -> Tensor:
    storage = STORAGE[item["dtype"]]
    digits = 2 * storage.itemsize
    words = [int(row[start:start + digits], 16) for row in item["rows"]
             for start in range(0, len(row), digits)]
    unsigned = np.array(words, dtype=f"<u{storage.itemsize}")
    return Tensor(item["dtype"], unsigned.view(storage).reshape(item["shape"]))


@pytest.mark.parametrize("name, form", [(name, form) for name in ALL
                                        if name.startswith("four_bit") and "bytes" not in name
                                        for form in ALL[name]["formats"]])
def test_the_oracle_reads_every_format_to_the_same_matrix(name: str, form: str) -> None:
    vectors, item = ALL[name], ALL[name]["formats"][form]
    layout, symmetric = checkpoint_formats.layout_from_config(item["quantization_config"])
    if "weight_packed" in item["tensors"]:
        layout, symmetric = "pack_quantized", False
    linear = quantized_formats.unpack({n: as_tensor(t) for n, t in item["tensors"].items()}, layout,
                                      symmetric=symmetric)
    assert np.array_equal(linear.dequantize(), vectors["unit"] * np.array(vectors["weights"]))


def test_a_handful_of_codes_by_hand() -> None:
    assert format_vectors.packed([1, 2, 3, 4, 5, 6, 7, 8], 4) == [0x87654321]
    assert format_vectors.packed([1, 2, 3, 255], 8) == [0xFF030201]
    # 448 is the largest number, 2^-9 the smallest; 1.0 is 0x38.
    assert [format_vectors.e4m3_units(c) for c in (0x7E, 0x01, 0x38, 0xB8, 0x80)] == [
        448 * 512, 1, 512, -512, 0]
    assert format_vectors.float_bits("BF16", 1.5) == 0x3FC0
    assert format_vectors.float_bits("F16", -2.0) == 0xC000
