"""Faults that a checkpoint's files may have, each a function that spoils one folder in place.

REFUSED    no process may serve it: `sheaf inspect` and `sheaf serve` say why in the same words.
REMARKED   served all the same, with a remark that both of them show.
DEBATABLE  either, as long as both of them agree.

The folders are copies of a tiny GPTQ checkpoint of the architecture glm4_moe, in two shards where the name of the fault
starts with "index".
"""
from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any, Callable

Fault = Callable[[Path], None]

SIDE_FILES = ("config.json", "generation_config.json", "quantize_config.json", "tokenizer.json", "tokenizer_config.json",
              "chat_template.jinja", "model.safetensors.index.json")


def copy_checkpoint(source: Path, target: Path) -> Path:
    """A copy to spoil. Weights are links, so whoever changes one must write a new file: write_header does."""
    target.mkdir()
    for path in source.iterdir():
        if path.suffix == ".safetensors":
            os.link(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)
    return target


def read_header(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8:8 + length]), raw[8 + length:]


def replace(path: Path, content: bytes) -> None:
    """In a new file: the old one may have other names."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def write_header(path: Path, tensors: dict[str, Any], data: bytes) -> None:
    text = json.dumps(tensors).encode()
    replace(path, struct.pack("<Q", len(text)) + text + data)


def text(name: str, content: str | bytes) -> Fault:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return apply


def absent(name: str) -> Fault:
    return lambda folder: (folder / name).unlink()


def directory(name: str) -> Fault:
    def apply(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()
    return apply


def truncated(name: str, keep: float) -> Fault:
    def apply(folder: Path) -> None:
        content = (folder / name).read_bytes()
        replace(folder / name, content[:int(len(content) * keep)])
    return apply


DELETE = object()


def fields(name: str, *path: str | int, value: Any) -> Fault:
    """The JSON file's value at `path` becomes `value`, or vanishes (DELETE)."""
    def apply(folder: Path) -> None:
        root = json.loads((folder / name).read_text())
        at = root
        for step in path[:-1]:
            at = at[step]
        if value is DELETE:
            del at[path[-1]]
        else:
            at[path[-1]] = value
        (folder / name).write_text(json.dumps(root, ensure_ascii=False))
    return apply


def config(value: Any, *path: str | int) -> Fault:
    return fields("config.json", *path, value=value)


def tensor(suffix: str, change: Callable[[dict[str, Any], str], None]) -> Fault:
    """Changes the header entry of the first tensor with this suffix."""
    def apply(folder: Path) -> None:
        for path in sorted(folder.glob("*.safetensors")):
            tensors, data = read_header(path)
            for name in tensors:
                if name.endswith(suffix):
                    change(tensors, name)
                    return write_header(path, tensors, data)
        raise AssertionError(f"no tensor ends with {suffix}")
    return apply


def unnamed(suffix: str) -> Fault:
    """The bytes stay, owned by a tensor that nobody asks for."""
    return tensor(suffix, lambda tensors, name: tensors.__setitem__("unused." + name, tensors.pop(name)))


def entry(suffix: str, **values: Any) -> Fault:
    return tensor(suffix, lambda tensors, name: tensors[name].update(values))


def overlap(tensors: dict[str, Any], name: str) -> None:
    begin, end = tensors[name]["data_offsets"]
    tensors[name]["data_offsets"] = [begin - 4, end - 4] if begin >= 4 else [begin + 4, end + 4]


def header_bytes(change: Callable[[bytes], bytes]) -> Fault:
    return lambda folder: replace(folder / "model.safetensors", change((folder / "model.safetensors").read_bytes()))


def index_of_nothing(folder: Path) -> None:
    next(iter(sorted(folder.glob("model-*.safetensors")))).unlink()


def index_elsewhere(folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    first = next(iter(index["weight_map"]))
    index["weight_map"][first] = "../" + index["weight_map"][first]
    path.write_text(json.dumps(index))


def without_quantization_config(then: Fault) -> Fault:
    def apply(folder: Path) -> None:
        config(DELETE, "quantization_config")(folder)
        then(folder)
    return apply


REFUSED: dict[str, Fault] = {
    "config_absent": absent("config.json"),
    "config_empty": text("config.json", ""),
    "config_not_json": text("config.json", "{\"model_type\": "),
    "config_list": text("config.json", "[1, 2]"),
    "config_directory": directory("config.json"),
    "config_not_utf8": text("config.json", b"{\"model_type\": \"glm4_moe\xff\"}"),
    "config_other_model": config("llama", "model_type"),
    "config_no_model": config(DELETE, "model_type"),
    "config_model_with_newline": config("a\nb", "model_type"),
    "config_word_for_number": config("many", "hidden_size"),
    "config_zero_width": config(0, "hidden_size"),
    "config_negative_layers": config(-1, "num_hidden_layers"),
    "config_million_layers": config(10**6, "num_hidden_layers"),
    "config_millions_of_experts": lambda folder: (config(4096, "num_hidden_layers")(folder),
                                                  config(4096, "n_routed_experts")(folder)),
    "config_nested_deep": text("config.json", '{"model_type": "glm4_moe", "hidden_size": ' + "[" * 100000 + "]" * 100000 + "}"),
    "config_one_more_layer": config(4, "num_hidden_layers"),
    "config_heads_do_not_divide": config(3, "num_key_value_heads"),
    "config_more_experts": config(5, "n_routed_experts"),
    "config_fewer_experts": config(3, "n_routed_experts"),
    "config_choice_beyond_experts": config(9, "num_experts_per_tok"),
    "config_bias_promised": lambda folder: (config(True, "attention_bias")(folder), unnamed("k_proj.bias")(folder)),
    "config_head_dim": config(32, "head_dim"),
    "config_vocabulary_below_embedding": config(599, "vocab_size"),
    "config_eos_beyond_vocabulary": config([600], "eos_token_id"),
    "config_quantization_word": config("gptq", "quantization_config"),
    "generation_not_json": text("generation_config.json", "{"),
    "generation_eos_beyond_vocabulary": fields("generation_config.json", "eos_token_id", value=10**6),
    "generation_wrong_type": fields("generation_config.json", "temperature", value="hot"),
    "side_file_not_json": without_quantization_config(text("quantize_config.json", "{")),
    "header_truncated_file": truncated("model.safetensors", 0.9),
    "header_empty_file": truncated("model.safetensors", 0.0),
    "header_huge": header_bytes(lambda raw: struct.pack("<Q", 1 << 60) + raw[8:]),
    "header_not_json": header_bytes(lambda raw: raw[:8] + b"}}}}" + raw[12:]),
    "header_overlap": tensor("layers.0.input_layernorm.weight", overlap),
    "header_unknown_dtype": entry("model.norm.weight", dtype="F3"),
    "header_other_dtype": entry("model.norm.weight", dtype="I16"),
    "header_other_shape": entry("experts.1.up_proj.qweight", shape=[32, 64]),
    "header_no_qweight": unnamed("experts.1.down_proj.qweight"),
    "header_no_scales": unnamed("experts.1.down_proj.scales"),
    "header_no_norm": unnamed("model.norm.weight"),
    "header_no_head": unnamed("lm_head.weight"),
    "header_name_with_newline": tensor("model.norm.weight",
                                       lambda tensors, name: tensors.__setitem__("model.layers.1.mlp.experts.7.\n",
                                                                                 tensors.pop(name))),
    "index_shard_absent": index_of_nothing,
    "index_elsewhere": index_elsewhere,
    "index_not_json": text("model.safetensors.index.json", "[]"),
    "index_empty_map": text("model.safetensors.index.json", '{"weight_map": {}}'),
    "tokenizer_absent": absent("tokenizer.json"),
    "tokenizer_directory": directory("tokenizer.json"),
    "tokenizer_truncated": truncated("tokenizer.json", 0.5),
    "tokenizer_without_model": fields("tokenizer.json", "model", value=DELETE),
    "tokenizer_of_words": fields("tokenizer.json", "model", value={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}),
    "tokenizer_merge_of_nothing": fields("tokenizer.json", "model", "merges", 0, value="qqqq zzzz"),
    "tokenizer_config_not_json": text("tokenizer_config.json", "{]"),
    "tokenizer_config_list": text("tokenizer_config.json", "[]"),
}

DEBATABLE: dict[str, Fault] = {
    "config_marked_utf8": lambda folder: replace(folder / "config.json",
                                                 b"\xef\xbb\xbf" + (folder / "config.json").read_bytes()),
    "config_rope_of_another_kind": config({"rope_type": "linear", "factor": 2.0}, "rope_scaling"),
    "config_one_position": config(1, "max_position_embeddings"),
    "config_head_tied": config(True, "tie_word_embeddings"),
    "config_no_eos": config([], "eos_token_id"),
    "config_pad_negative": config(-1, "pad_token_id"),
    "config_bits_in_words": config("four", "quantization_config", "bits"),
    "tokenizer_id_beyond_vocabulary": fields("tokenizer.json", "added_tokens", 0, "id", value=700),
    "tokenizer_dropout": fields("tokenizer.json", "model", "dropout", value=0.5),
    "index_names_an_absent_tensor": fields("model.safetensors.index.json", "weight_map", "model.layers.9.enorm.weight",
                                           value="model-00001-of-00002.safetensors"),
    "template_syntax": text("chat_template.jinja", "{% for %}"),
    "template_unknown_tag": text("chat_template.jinja", "{% generation %}a{% endgeneration %}"),
    "template_raises": text("chat_template.jinja", "{{ raise_exception('no') }}"),
    "template_not_utf8": text("chat_template.jinja", b"{{ '\xff' }}"),
    "template_crlf": text("chat_template.jinja", "{% for m in messages %}\r\n{{ m.content }}\r\n{% endfor %}\r\n"),
    "template_directory": directory("chat_template.jinja"),
    "template_number": lambda folder: (absent("chat_template.jinja")(folder),
                                       fields("tokenizer_config.json", "chat_template", value=5)(folder)),
    "template_without_default": lambda folder: (
        absent("chat_template.jinja")(folder),
        fields("tokenizer_config.json", "chat_template", value=[{"name": "x", "template": "y"}])(folder)),
}

REMARKED: dict[str, Fault] = {
    "bits_3": config(3, "quantization_config", "bits"),
    "unknown_method": config("squeezed", "quantization_config", "quant_method"),
    "method_with_newline": config("squee\nzed", "quantization_config", "quant_method"),
    "no_quantization_config": without_quantization_config(absent("quantize_config.json")),
    "group_size": config(64, "quantization_config", "group_size"),
    "other_method": config("compressed-tensors", "quantization_config", "quant_method"),
    "dtype": config("float16", "torch_dtype"),
    "mtp_claimed": config(1, "num_nextn_predict_layers"),
    "unused_tensor": lambda folder: config(False, "use_qk_norm")(folder) or unnamed("self_attn.q_norm.weight")(folder),
}
