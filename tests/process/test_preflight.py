"""`sheaf inspect` and `sheaf serve` say the same of every checkpoint: exit status, sentence and remarks."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from checkpoint_faults import DEBATABLE, REFUSED, REMARKED, copy_checkpoint, read_header, write_header
from preflight_verdicts import inspect_verdict, serve_verdict
from sheaf_server import SheafServer, run_to_end

SMALL = dict(format="gptq", experts=4, layers=3, hidden=128, intermediate=128, moe_width=128, heads=4, kv_heads=2, top_k=2)


@pytest.fixture(scope="session")
def spoilt(make: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], Path]:
    def build(name: str, fault: Any) -> Path:
        source = make(**SMALL, shards=2 if name.startswith("index") else 1)
        folder = copy_checkpoint(source, tmp_path_factory.mktemp("spoilt") / "tiny")
        fault(folder)
        return folder
    return build


@pytest.mark.parametrize("name", REFUSED)
def test_what_inspect_refuses_serve_refuses_in_the_same_words(spoilt: Callable[[str, Any], Path], name: str) -> None:
    folder = spoilt(name, REFUSED[name])
    inspected = inspect_verdict(folder)
    assert inspected.status == 1 and inspected.refusal
    assert serve_verdict(folder) == inspected


@pytest.mark.parametrize("name", DEBATABLE)
def test_serve_does_what_inspect_says(spoilt: Callable[[str, Any], Path], name: str) -> None:
    folder = spoilt(name, DEBATABLE[name])
    assert serve_verdict(folder) == inspect_verdict(folder)


@pytest.mark.parametrize("name", REMARKED)
def test_remarks_of_inspect_are_warnings_of_serve(spoilt: Callable[[str, Any], Path], name: str) -> None:
    folder = spoilt(name, REMARKED[name])
    inspected = inspect_verdict(folder)
    assert inspected.status == 0 and inspected.remarks
    assert serve_verdict(folder) == inspected
    text = run_to_end("inspect", str(folder)).stdout.splitlines()
    for remark in inspected.remarks:
        assert "  " + remark in text


def test_bits_and_methods_that_the_tensors_deny_are_named(spoilt: Callable[[str, Any], Path]) -> None:
    remarks = "\n".join(inspect_verdict(spoilt("bits_3", REMARKED["bits_3"])).remarks)
    assert "3 bits" in remarks and "4-bit" in remarks
    assert any("squeezed" in remark
               for remark in inspect_verdict(spoilt("unknown_method", REMARKED["unknown_method"])).remarks)


@pytest.mark.parametrize("flags, words", [
    (["--max-model-len", "1000000"], "--max-model-len"),
    (["--kv-cache-memory-bytes", "64KiB", "--max-model-len", "1024"], "--kv-cache-memory-bytes"),
    (["--kv-cache-memory-bytes", "10"], "KV cache memory"),
    (["--kv-cache-memory-bytes", "200TiB"], "MiB are left"),
    (["--served-model-name", ""], "--served-model-name"),
], ids=["beyond_the_model", "beyond_the_cache", "no_block", "beyond_the_machine", "no_name"])
def test_flags_that_the_model_denies_are_refused_before_loading(make: Callable[..., Path], flags: list[str],
                                                               words: str) -> None:
    result = run_to_end("serve", str(make(**SMALL)), "--workers", "0", "--port", "0", "--grpc-port", "0", *flags)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("sheaf: ") and words in result.stderr.splitlines()[-1]
    assert "loading" not in result.stderr


def test_the_cache_may_take_what_memory_is_left(make: Callable[..., Path]) -> None:
    with SheafServer(make(**SMALL), "--workers", "0", "--kv-cache-memory-bytes", "auto") as server:
        # More than the default would give, on any machine that runs this.
        assert server.metric("sheaf_kv_blocks_capacity") * 16 > 1 << 16
        assert server.completion(prompt=[1, 2, 3], max_tokens=4)["usage"]["completion_tokens"] >= 1


def test_a_cache_format_that_the_attention_lacks_is_refused_before_loading(make: Callable[..., Path]) -> None:
    result = run_to_end("serve", str(make(arch="glm_moe_dsa", format="gptq", experts=12)), "--workers", "0", "--port", "0",
                        "--grpc-port", "0", "--kv-cache-dtype", "fp8_e5m2")
    assert result.returncode == 1 and "fp8_e5m2" in result.stderr.splitlines()[-1]
    assert "loading" not in result.stderr


def test_a_parser_that_the_template_denies_is_a_warning(make: Callable[..., Path]) -> None:
    with SheafServer(make(**SMALL), "--workers", "0", "--tool-call-parser", "glm47") as server:
        assert any(" W " in line and "--tool-call-parser glm47" in line for line in server.log().splitlines())


def test_a_worker_checks_its_part_before_it_joins(make: Callable[..., Path], spoilt: Callable[[str, Any], Path]) -> None:
    # 3: no second start would go better. A file that is too short may be a copy under way.
    for name, status in (("header_no_scales", 3), ("config_other_model", 3), ("header_truncated_file", 1)):
        folder = spoilt(name, REFUSED[name])
        result = run_to_end("worker", str(folder), "--coordinator", "127.0.0.1:1")
        assert result.returncode == status
        assert result.stderr.splitlines()[-1] == "sheaf: " + inspect_verdict(folder).refusal


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_last_line_of_serve_names_a_bad_value_deep_in_a_slice(make: Callable[..., Path], tmp_path: Path,
                                                                 workers: str) -> None:
    folder = copy_checkpoint(make(**SMALL), tmp_path / "bad")
    path = folder / "model.safetensors"
    tensors, data = read_header(path)
    name = next(n for n in tensors if n.endswith("layers.2.mlp.experts.3.up_proj.scales"))
    begin, _ = tensors[name]["data_offsets"]
    changed = bytearray(data)
    changed[begin:begin + 2] = b"\x00\x7e"
    write_header(path, tensors, bytes(changed))
    result = run_to_end("serve", str(folder), "--workers", workers, "--port", "0", "--grpc-port", "0")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("sheaf: ") and name in last and "NaN" in last
    assert len([line for line in result.stderr.splitlines() if line.startswith("sheaf: ")]) == 1


def test_json_carries_remarks_and_refusal(spoilt: Callable[[str, Any], Path]) -> None:
    refused = run_to_end("inspect", str(spoilt("tokenizer_absent", REFUSED["tokenizer_absent"])), "--json")
    report = json.loads(refused.stdout)
    assert report["servable"] is False and "tokenizer.json" in report["refusal"] and report["remarks"] is not None
    served = json.loads(run_to_end("inspect", str(spoilt("bits_3", REMARKED["bits_3"])), "--json").stdout)
    assert served["servable"] is True and served["refusal"] is None and any("3 bits" in r for r in served["remarks"])
