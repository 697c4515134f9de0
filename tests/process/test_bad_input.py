"""Bad checkpoints and bad requests: one clear line or error object, and nothing lost."""
from __future__ import annotations

import http.client
import json
import shutil
import struct
from pathlib import Path
from typing import Any, Callable

import pytest

from answers import generate
from sheaf_server import HttpError, SheafServer, run_to_end


def spoil(checkpoint: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "bad"
    shutil.copytree(checkpoint, copy)
    return copy


def header(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8:8 + length]), raw[8 + length:]


def write(path: Path, tensors: dict[str, Any], data: bytes) -> None:
    text = json.dumps(tensors).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def truncate(folder: Path) -> str:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return "model.safetensors"


def huge_header(folder: Path) -> str:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + path.read_bytes()[8:])
    return "model.safetensors"


def not_json(folder: Path) -> str:
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[8:12] = b"}}}}"
    path.write_bytes(bytes(raw))
    return "model.safetensors"


def overlap(folder: Path) -> str:
    path = folder / "model.safetensors"
    tensors, data = header(path)
    name = next(n for n in tensors if n.endswith("input_layernorm.weight"))
    begin, end = tensors[name]["data_offsets"]
    tensors[name]["data_offsets"] = [begin - 4, end - 4] if begin >= 4 else [begin + 4, end + 4]
    write(path, tensors, data)
    return "overlap"


def drop(suffix: str) -> Callable[[Path], str]:
    def apply(folder: Path) -> str:
        path = folder / "model.safetensors"
        tensors, data = header(path)
        name = next(n for n in tensors if n.endswith(suffix))
        # The bytes stay, owned by a tensor that nobody asks for.
        tensors["unused." + name] = tensors.pop(name)
        write(path, tensors, data)
        return name.rsplit(".", 1)[0]
    return apply


def nan_scale(folder: Path) -> str:
    path = folder / "model.safetensors"
    tensors, data = header(path)
    name = next(n for n in tensors if n.endswith("experts.3.up_proj.scales"))
    begin, _ = tensors[name]["data_offsets"]
    changed = bytearray(data)
    changed[begin:begin + 2] = b"\x00\x7e"
    write(path, tensors, bytes(changed))
    return name


def config(**changes: Any) -> Callable[[Path], str]:
    def apply(folder: Path) -> str:
        path = folder / "config.json"
        values = json.loads(path.read_text())
        values.update(changes)
        path.write_text(json.dumps(values))
        return "mlp" if "n_routed_experts" in changes else next(iter(changes))
    return apply


@pytest.mark.parametrize("change", [
    truncate, huge_header, not_json, overlap, drop("experts.5.down_proj.qweight"), drop("experts.5.down_proj.scales"),
    drop("model.norm.weight"), nan_scale, config(n_routed_experts=20), config(n_routed_experts=22),
    config(hidden_size="many"), config(model_type="llama"),
], ids=["truncated", "huge_header", "not_json", "overlap", "no_qweight", "no_scales", "no_norm", "nan_scale",
        "fewer_experts", "more_experts", "wrong_type", "other_model"])
def test_a_bad_checkpoint_is_one_line_and_status_1(tiny: Path, tmp_path: Path,
                                                  change: Callable[[Path], str]) -> None:
    folder = spoil(tiny, tmp_path)
    named = change(folder)
    for workers in ("0", "2"):
        result = run_to_end("serve", str(folder), "--workers", workers, "--port", "0", "--grpc-port", "0",
                            "--log-level", "error")
        assert result.returncode == 1, result.stderr
        errors = [line for line in result.stderr.splitlines() if line.startswith("sheaf: ")]
        assert len(errors) == 1, result.stderr
        assert named in errors[0]


@pytest.mark.parametrize("change", [
    drop("layers.1.self_attn.indexer.wk.qweight"), drop("layers.1.self_attn.indexer.k_norm.bias"),
    drop("layers.0.self_attn.kv_b_proj.scales"), config(kv_lora_rank=256), config(index_topk=0),
    config(layer_types=["linear_attention"] * 3), config(indexer_types=["full"] * 2),
], ids=["no_wk", "no_norm_bias", "no_kv_b_scales", "other_latent_width", "no_choice",
        "other_attention", "a_layer_without_type"])
def test_a_bad_sparse_checkpoint_is_one_line_and_status_1(make: Callable[..., Path], tmp_path: Path,
                                                         change: Callable[[Path], str]) -> None:
    folder = spoil(make(arch="glm_moe_dsa", format="gptq", experts=21), tmp_path)
    named = change(folder)
    result = run_to_end("serve", str(folder), "--workers", "0", "--port", "0", "--grpc-port", "0",
                        "--log-level", "error")
    assert result.returncode == 1, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("sheaf: ")]
    assert len(errors) == 1, result.stderr
    assert {"kv_lora_rank": "self_attn."}.get(named, named) in errors[0]


def test_a_missing_shard_and_an_empty_folder(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = spoil(make(format="gptq", experts=21, shards=3), tmp_path)
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    result = run_to_end("serve", str(folder), "--workers", "0")
    assert result.returncode == 1 and shard.name in result.stderr
    result = run_to_end("serve", str(tmp_path / "nothing"))
    assert result.returncode == 1 and "nothing" in result.stderr


@pytest.fixture(scope="module")
def server(tiny: Path) -> Any:
    with SheafServer(tiny, "--workers", "1", "--max-model-len", "128", "--served-model-name", "tiny") as running:
        yield running


OK = {"model": "tiny", "prompt": [1, 2, 3], "max_tokens": 2}


@pytest.mark.parametrize("status, changes, word", [
    (404, {"model": "another"}, "another"),
    (400, {"prompt": ""}, "prompt"),
    (400, {"prompt": []}, "prompt"),
    (400, {"prompt": 5}, "prompt"),
    (400, {"prompt": [1, -1]}, "-1"),
    (400, {"prompt": [1, 999999]}, "999999"),
    (400, {"prompt": [1] * 500}, "128"),
    (400, {"max_tokens": 127}, "128"),
    (400, {"max_tokens": 0}, "max_tokens"),
    (400, {"max_tokens": "two"}, "max_tokens"),
    (400, {"max_tokens": 10**12}, "1000000000000"),
    (400, {"temperature": -1}, "temperature"),
    (400, {"top_p": 0}, "top_p"),
    (400, {"top_p": 1.5}, "top_p"),
    (400, {"top_k": -5}, "top_k"),
    (400, {"min_p": 2}, "min_p"),
    (400, {"repetition_penalty": 0}, "repetition_penalty"),
    (400, {"n": 100000}, "n"),
    (400, {"logprobs": 21}, "logprobs"),
    (400, {"stream": "maybe"}, "stream"),
    (400, {"stop": 7}, "stop"),
])
def test_a_bad_request_is_refused_before_any_work(server: SheafServer, status: int, changes: dict[str, Any],
                                                 word: str) -> None:
    steps = server.metric("sheaf_steps_total")
    with pytest.raises(HttpError) as caught:
        server.completion(**{**OK, **changes})
    assert caught.value.status == status
    error = caught.value.body["error"]
    assert word in error["message"] and error["type"]
    assert server.metric("sheaf_steps_total") == steps


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"model": "tiny", "prompt": [1], "temperature": NaN}',
                                  b"[" * 100000])
def test_what_is_not_json_is_a_400(server: SheafServer, body: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        server.request("POST", "/v1/completions", body)
    assert caught.value.status == 400


def test_tools_that_cannot_be_told_apart_are_refused_clearly(server: SheafServer) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    with pytest.raises(HttpError) as caught:
        server.chat(model="tiny", messages=[{"role": "user", "content": "hi"}], tools=[tool, tool])
    assert caught.value.status == 400 and caught.value.body["error"]["param"] == "tools[1].function.name"


def test_a_body_of_100_mb_is_a_413(server: SheafServer) -> None:
    host, port = server.ready["http"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.putrequest("POST", "/v1/completions")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(100 << 20))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert server.healthy()


def test_a_full_queue_says_when_to_come_back(tiny: Path) -> None:
    import concurrent.futures
    with SheafServer(tiny, "--workers", "0", "--max-num-seqs", "1", "--max-num-queued-reqs", "2") as busy:
        def ask(_: int) -> Any:
            try:
                return generate(busy, [1, 2, 3], 400)
            except HttpError as error:
                return error
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(ask, range(12)))
        refused = [answer for answer in answers if isinstance(answer, HttpError)]
        assert refused and len(refused) < 12
        for error in refused:
            assert error.status == 503
            assert int({k.lower(): v for k, v in error.headers.items()}["retry-after"]) >= 1
