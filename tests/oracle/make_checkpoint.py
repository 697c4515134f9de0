#!/usr/bin/python3
"""Writes a tiny random GLM-4 MoE checkpoint in any of the file formats people use.

    make_checkpoint.py --out DIR --seed 7 --format gptq --experts 96 --shards 3

The folder has everything a real one has: weights (sharded or not), config.json,
generation_config.json, the quantizer's side file, tokenizer, chat template. Weights are scaled so
that attention, routing and logits all depend on the token; the same options and seed give the
same bytes. A checkpoint of 160 experts takes about two seconds.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import checkpoint_formats
import quantized_formats
import safetensors_io
import tiny_tokenizer
from safetensors_io import Tensor, float_tensor

CODE_STD = 2.6  # of the drawn 4-bit codes around their zero point


@dataclass
class Options:
    """What to generate. `overrides` sets any further key of config.json."""
    seed: int = 0
    format: str = "gptq"
    experts: int = 16
    layers: int = 3
    dense_layers: int = 1
    hidden: int = 256
    intermediate: int = 384
    moe_width: int = 128
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 64
    top_k: int = 8
    vocab: int = 600
    group: int = 128
    shards: int = 1
    split_linears: bool = False
    fused_experts: bool = False
    config_style: str = "v4"  # v4: torch_dtype, rope_theta; v5: dtype, rope_parameters
    overrides: dict[str, Any] = field(default_factory=dict)


DTYPE_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def config_json(options: Options, tokenizer: tiny_tokenizer.TinyTokenizer) -> dict[str, Any]:
    """config.json without its quantization_config, in the key spelling asked for."""
    spec = checkpoint_formats.base_format(options.format)
    dtype = DTYPE_NAMES[spec.plain_dtype]
    if spec.method == "auto-round-export":
        dtype = "float16"  # as this tool says of tensors that stay bf16
    config: dict[str, Any] = {
        "architectures": ["Glm4MoeForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
        "pad_token_id": tokenizer.added["<|endoftext|>"], "eos_token_id": tokenizer.eos_ids,
        "head_dim": options.head_dim, "hidden_act": "silu", "hidden_size": options.hidden,
        "partial_rotary_factor": 0.5, "initializer_range": 0.02,
        "intermediate_size": options.intermediate, "max_position_embeddings": 4096,
        "model_type": "glm4_moe", "moe_intermediate_size": options.moe_width,
        "norm_topk_prob": True, "num_attention_heads": options.heads, "n_group": 1,
        "topk_group": 1, "n_routed_experts": options.experts, "n_shared_experts": 1,
        "routed_scaling_factor": 2.5, "num_experts_per_tok": options.top_k,
        "first_k_dense_replace": options.dense_layers, "num_hidden_layers": options.layers,
        "num_key_value_heads": options.kv_heads, "rms_norm_eps": 1e-5, "rope_scaling": None,
        "rope_theta": 1000000, "num_nextn_predict_layers": 1, "tie_word_embeddings": False,
        "torch_dtype": dtype, "transformers_version": "4.54.0", "use_cache": True,
        "use_qk_norm": True, "vocab_size": options.vocab,
    }
    config.update(options.overrides)
    if options.config_style == "v5":
        config.pop("rope_scaling")
        config["rope_parameters"] = {
            "rope_theta": config.pop("rope_theta"), "rope_type": "default",
            "partial_rotary_factor": config.pop("partial_rotary_factor")}
        config["dtype"] = config.pop("torch_dtype")
        config["transformers_version"] = "5.2.0"
        config.update(bos_token_id=None, output_router_logits=False)
    elif options.config_style != "v4":
        raise ValueError(f"config style {options.config_style!r}: want v4 or v5")
    return config


def code_table() -> np.ndarray:
    """int8 [256]: a Gaussian's quantiles, rounded to -7..7. A uniform byte through this table is a
    weight code around its zero point; the table is symmetric, so that the mean is exactly 0 (a
    biased code would send every token to the same experts)."""
    normal = statistics.NormalDist(0.0, CODE_STD)
    return np.array([round(max(-7.0, min(7.0, normal.inv_cdf((b + 0.5) / 256))))
                     for b in range(256)], dtype=np.int8)


class WeightSource:
    """Draws the tensors of one checkpoint, in a fixed order, from one generator."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._rng = np.random.default_rng(options.seed)
        self._codes = code_table()
        self._code_std = float(self._codes.astype(np.float64).std())
        self._spec = checkpoint_formats.base_format(options.format)
        self.tensors: dict[str, Tensor] = {}
        self.plain_modules: list[str] = []

    def gaussian(self, name: str, shape: tuple[int, ...], std: float, mean: float = 0.0,
                 dtype: str | None = None) -> None:
        values = self._rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(std)
        values += np.float32(mean)
        self.tensors[name] = float_tensor(dtype or self._spec.plain_dtype, values)

    def linear(self, module: str, outputs: int, inputs: int, gain: float,
               bias_std: float | None = None) -> None:
        """A Linear whose outputs have about `gain` times the deviation of its inputs."""
        spec = checkpoint_formats.format_of_linear(self._options.format, module)
        std = gain / np.sqrt(inputs)
        if bias_std is not None:
            self.gaussian(f"{module}.bias", (outputs,), bias_std, dtype=spec.bias_dtype)
        if spec.layout is None:
            self.gaussian(f"{module}.weight", (outputs, inputs), std, dtype=spec.plain_dtype)
            self.plain_modules.append(module)
            return
        quantized = self._draw_quantized(module, outputs, inputs, std, spec)
        packed = quantized_formats.pack(quantized, spec.layout, spec.scale_dtype,
                                        store_g_idx=spec.g_idx != "none",
                                        store_zeros=not spec.symmetric)
        for suffix, tensor in packed.items():
            self.tensors[f"{module}.{suffix}"] = tensor

    def _draw_quantized(self, module: str, outputs: int, inputs: int, std: float,
                        spec: checkpoint_formats.Format) -> quantized_formats.QuantizedLinear:
        rng, group = self._rng, self._options.group
        if inputs % group:
            raise ValueError(f"{module}: {inputs} inputs do not divide into groups of {group}")
        groups = inputs // group
        drawn = np.frombuffer(rng.bytes(outputs * inputs), np.uint8).reshape(outputs, inputs)
        signed = self._codes[drawn]
        scales = np.exp(rng.normal(0.0, 0.15, (outputs, groups))) * (std / self._code_std)
        g_idx = None
        if spec.g_idx == "permuted":
            g_idx = rng.permutation(np.repeat(np.arange(groups, dtype=np.int32), group))
        if spec.symmetric:
            zeros = np.full((outputs, groups), quantized_formats.SYMMETRIC_ZERO, np.uint8)
        else:
            low = 1 if spec.layout == "gptq_v1" else 0
            rare = rng.random((outputs, groups)) < 0.02
            zeros = np.where(rare, rng.integers(low, 16, (outputs, groups)),
                             rng.integers(6, 11, (outputs, groups))).astype(np.uint8)
        of_input = g_idx if g_idx is not None else np.arange(inputs) // group
        if spec.negative_scales:
            # A full-range quantizer: the extreme weight is code -8, the scale has its sign.
            scales *= rng.choice([-1.0, 1.0], scales.shape)
            extreme = np.arange(groups) * group + rng.integers(0, group, (outputs, groups))
            signed[np.arange(outputs)[:, None], extreme] = -8
            codes = (signed + 8).astype(np.uint8)
        elif spec.symmetric:
            codes = (signed + 8).astype(np.uint8)
        else:
            codes = np.clip(zeros[:, of_input].astype(np.int8) + signed, 0, 15).astype(np.uint8)
        return quantized_formats.QuantizedLinear(codes, scales, zeros, g_idx)

    def fused_experts(self, prefix: str, config: dict[str, Any]) -> None:
        """gate and up of all experts in one tensor, down in another; plain dtypes only."""
        hidden, width = config["hidden_size"], config["moe_intermediate_size"]
        experts = config["n_routed_experts"]
        self.gaussian(f"{prefix}.gate_up_proj", (experts, 2 * width, hidden), hidden ** -0.5)
        self.gaussian(f"{prefix}.down_proj", (experts, hidden, width), 2.0 * width ** -0.5)


def _mlp(source: WeightSource, prefix: str, hidden: int, width: int) -> None:
    source.linear(f"{prefix}.gate_proj", width, hidden, 1.0)
    source.linear(f"{prefix}.up_proj", width, hidden, 1.0)
    source.linear(f"{prefix}.down_proj", hidden, width, 2.0)


def _attention(source: WeightSource, prefix: str, config: dict[str, Any]) -> None:
    hidden, head_dim = config["hidden_size"], config["head_dim"]
    q_width = config["num_attention_heads"] * head_dim
    kv_width = config["num_key_value_heads"] * head_dim
    bias = 0.2 if config["attention_bias"] else None
    source.linear(f"{prefix}.q_proj", q_width, hidden, 1.0, bias)
    source.linear(f"{prefix}.k_proj", kv_width, hidden, 1.0, bias)
    source.linear(f"{prefix}.v_proj", kv_width, hidden, 1.0, bias)
    source.linear(f"{prefix}.o_proj", hidden, q_width, 2.0)
    if config["use_qk_norm"]:
        # Above 1, so that attention picks tokens instead of averaging them.
        source.gaussian(f"{prefix}.q_norm.weight", (head_dim,), 0.1, 1.15)
        source.gaussian(f"{prefix}.k_norm.weight", (head_dim,), 0.1, 1.15)


def draw_weights(options: Options, config: dict[str, Any]) -> WeightSource:
    """All tensors of the model that config.json describes. `config` is in the v4 spelling."""
    source = WeightSource(options)
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    width, experts = config["moe_intermediate_size"], config["n_routed_experts"]
    source.gaussian("model.embed_tokens.weight", (vocab, hidden), 1.0)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        source.gaussian(f"{prefix}.input_layernorm.weight", (hidden,), 0.1, 1.0)
        _attention(source, f"{prefix}.self_attn", config)
        source.gaussian(f"{prefix}.post_attention_layernorm.weight", (hidden,), 0.1, 1.0)
        if layer < config["first_k_dense_replace"]:
            _mlp(source, f"{prefix}.mlp", hidden, config["intermediate_size"])
            continue
        source.gaussian(f"{prefix}.mlp.gate.weight", (experts, hidden), hidden ** -0.5)
        source.gaussian(f"{prefix}.mlp.gate.e_score_correction_bias", (experts,), 0.03,
                        dtype="F32")
        source.plain_modules.append(f"{prefix}.mlp.gate")
        if options.fused_experts:
            source.fused_experts(f"{prefix}.mlp.experts", config)
        else:
            for expert in range(experts):
                _mlp(source, f"{prefix}.mlp.experts.{expert}", hidden, width)
        if config["n_shared_experts"]:
            _mlp(source, f"{prefix}.mlp.shared_experts", hidden,
                 width * config["n_shared_experts"])
    source.gaussian("model.norm.weight", (hidden,), 0.1, 1.0)
    if not config["tie_word_embeddings"]:
        source.gaussian("lm_head.weight", (vocab, hidden), 2.5 * hidden ** -0.5)
    source.plain_modules.append("lm_head")
    return source


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_side_files(out: Path, options: Options, tokenizer: tiny_tokenizer.TinyTokenizer,
                     plain_modules: list[str]) -> None:
    """Everything but the weights: config, generation config, quantizer's file, tokenizer."""
    config = config_json(options, tokenizer)
    gates = [m for m in plain_modules if m.endswith(".mlp.gate")]
    quantization = checkpoint_formats.quantization_config(options.format, options.group,
                                                          plain_modules, gates)
    if quantization is not None:
        config["quantization_config"] = quantization
        side_file = checkpoint_formats.quantization_file_name(options.format)
        if side_file is not None:
            write_json(out / side_file, quantization)
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json", {
        "_from_model_config": True, "eos_token_id": tokenizer.eos_ids,
        "pad_token_id": config["pad_token_id"],
        "transformers_version": config["transformers_version"]})
    tiny_tokenizer.write_files(tokenizer, out, config["max_position_embeddings"],
                               merges_as_pairs=options.config_style == "v5")


def tokenizer_for(vocab: int) -> tiny_tokenizer.TinyTokenizer:
    """Fills `vocab` but for some unused ids at the end, as the real models have them."""
    room = vocab - len(tiny_tokenizer.ADDED_TOKENS)
    return tiny_tokenizer.build(room - max(52, room // 64))


def make_checkpoint(out: Path, options: Options) -> None:
    """Writes the checkpoint into `out` (made if missing)."""
    if options.format not in checkpoint_formats.FORMAT_NAMES:
        raise ValueError(f"format {options.format!r}: want one of "
                         f"{', '.join(checkpoint_formats.FORMAT_NAMES)}")
    if options.fused_experts and checkpoint_formats.base_format(options.format).layout:
        raise ValueError("fused experts exist in plain dtypes only (bf16, f16, f32)")
    if options.top_k > options.experts:
        raise ValueError(f"top-k {options.top_k} of {options.experts} experts")
    out.mkdir(parents=True, exist_ok=True)
    for stale in out.glob("*.safetensors*"):
        stale.unlink()
    tokenizer = tokenizer_for(options.vocab)
    v4 = Options(**{**vars(options), "config_style": "v4"})
    source = draw_weights(options, config_json(v4, tokenizer))
    metadata = None if options.format.startswith("autoround") else {"format": "pt"}
    safetensors_io.write_checkpoint_tensors(out, source.tensors, options.shards,
                                            options.split_linears, metadata)
    write_side_files(out, options, tokenizer, source.plain_modules)


def parse_override(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r}: want KEY=JSON")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, help="default: a fresh one, printed")
    parser.add_argument("--format", choices=checkpoint_formats.FORMAT_NAMES, default="gptq")
    defaults = Options()
    for name in ("experts", "layers", "dense-layers", "hidden", "intermediate", "moe-width",
                 "heads", "kv-heads", "head-dim", "top-k", "vocab", "group", "shards"):
        key = name.replace("-", "_")
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, key))
    parser.add_argument("--split-linears", action="store_true",
                        help="spread the tensors of one Linear over the shards")
    parser.add_argument("--fused-experts", action="store_true")
    parser.add_argument("--config-style", choices=("v4", "v5"), default="v4")
    parser.add_argument("--set", type=parse_override, action="append", default=[],
                        metavar="KEY=JSON", help="a further key of config.json, v4 spelling")
    arguments = vars(parser.parse_args())
    out = arguments.pop("out")
    arguments["overrides"] = dict(arguments.pop("set"))
    if arguments["seed"] is None:
        arguments["seed"] = secrets.randbelow(2**32)
    try:
        make_checkpoint(out, Options(**arguments))
    except ValueError as error:
        parser.error(str(error))
    print(f"{out}: {arguments['format']}, {arguments['experts']} experts, "
          f"seed {arguments['seed']}")


if __name__ == "__main__":
    main()
