"""The safetensors reader and writer: the bytes of a file, sharding, refusals."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

import safetensors_io
from safetensors_io import Tensor, float_tensor, int_tensor


def sample() -> dict[str, Tensor]:
    return {
        "a.qweight": int_tensor("I32", np.array([[-1, 2], [3, 4]])),
        "a.scales": float_tensor("F16", np.array([0.5, -0.25, 3.0])),
        "a.g_idx": int_tensor("I32", np.arange(3)),
        "b.weight": float_tensor("BF16", np.array([1.0, -2.0, 3.140625])),
        "b.shape": int_tensor("I64", np.array([2**40, 5])),
        "c.bias": float_tensor("F32", np.array([1e-3])),
        "c.empty": float_tensor("F32", np.zeros((0, 4))),
    }


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert set(got) == set(want)
    for name, tensor in want.items():
        assert got[name].dtype == tensor.dtype, name
        np.testing.assert_array_equal(got[name].array, tensor.array, err_msg=name)


@pytest.mark.parametrize("name", ["t", "tt", "ttt"])
def test_file_bytes(tmp_path: Path, name: str) -> None:
    """Checked against the format's definition, not against our own reader."""
    path = tmp_path / "x.safetensors"
    safetensors_io.write_file(path, {name: float_tensor("BF16", np.array([[1.0, -2.0]]))},
                              {"format": "pt"})
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    assert size % 8 == 0
    assert json.loads(data[8:8 + size]) == {
        "__metadata__": {"format": "pt"},
        name: {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}}
    assert data[8 + size:] == bytes.fromhex("803f" "00c0")


def test_round_trip_keeps_types_and_values(tmp_path: Path) -> None:
    safetensors_io.write_file(tmp_path / "x.safetensors", sample())
    got = safetensors_io.read_file(tmp_path / "x.safetensors")
    assert_same(got, sample())
    np.testing.assert_array_equal(got["b.weight"].to_float64(), [1.0, -2.0, 3.140625])


def test_tensors_are_aligned_to_their_element(tmp_path: Path) -> None:
    tensors = {"odd": float_tensor("F16", np.zeros(3)), **sample()}
    safetensors_io.write_file(tmp_path / "x.safetensors", tensors)
    data = (tmp_path / "x.safetensors").read_bytes()
    header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
    for name, entry in header.items():
        assert entry["data_offsets"][0] % tensors[name].array.dtype.itemsize == 0, name


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("shards", [1, 2, 3])
def test_sharded_round_trip(tmp_path: Path, shards: int, split: bool) -> None:
    safetensors_io.write_checkpoint_tensors(tmp_path, sample(), shards, split)
    assert len(list(tmp_path.glob("*.safetensors"))) == shards
    assert_same(safetensors_io.read_checkpoint_tensors(tmp_path), sample())


def test_split_separates_the_parts_of_a_linear() -> None:
    whole = safetensors_io.assign_shards(sample(), 2, split_linears=False)
    assert len({whole[n] for n in whole if n.startswith("a.")}) == 1
    assert set(whole.values()) == {0, 1}
    split = safetensors_io.assign_shards(sample(), 2, split_linears=True)
    assert split["a.qweight"] != split["a.scales"]


def test_index_names_every_tensor(tmp_path: Path) -> None:
    safetensors_io.write_checkpoint_tensors(tmp_path, sample(), 2)
    index = json.loads((tmp_path / safetensors_io.INDEX_NAME).read_text())
    assert set(index["weight_map"]) == set(sample())
    assert index["metadata"]["total_size"] == sum(t.bytes for t in sample().values())
    assert set(index["weight_map"].values()) == {"model-00001-of-00002.safetensors",
                                                 "model-00002-of-00002.safetensors"}


def test_stream_writer_refuses_another_order_or_size(tmp_path: Path) -> None:
    plan = [("a", "F32", (2,)), ("b", "F32", (2,))]
    writer = safetensors_io.StreamWriter(tmp_path / "x", plan)
    with pytest.raises(ValueError, match="wanted a of 8 bytes"):
        writer.write("b", np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="got a of 12"):
        writer.write("a", np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="0 of 2 tensors"):
        writer.close()


@pytest.mark.parametrize("header, message", [
    ({"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 12]}}, "wanted 8 bytes"),
    ({"t": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}}, "body of 16"),
])
def test_reader_refuses_bad_offsets(tmp_path: Path, header: dict, message: str) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    with pytest.raises(ValueError, match=message):
        safetensors_io.read_file(tmp_path / "x")


def test_reader_refuses_a_header_past_the_end(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    with pytest.raises(ValueError, match="header of"):
        safetensors_io.read_file(tmp_path / "x")


def test_wrong_storage_is_refused() -> None:
    with pytest.raises(ValueError, match="BF16"):
        Tensor("BF16", np.zeros(2, np.float32))
