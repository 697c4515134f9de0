#!/usr/bin/python3
"""Writes a tiny random checkpoint of either architecture in any of the file formats people use.

    make_checkpoint.py --out DIR --seed 7 --format gptq --experts 96 --shards 3
    make_checkpoint.py --out DIR --arch glm_moe_dsa --format autoround_export --experts 192 \
                       --layers 4 --index-topk 8 --indexer-types FFSF

The folder has everything a real one has: weights (sharded or not), config.json,
generation_config.json, the quantizer's side file, tokenizer, chat template. Weights are scaled so
that attention, routing, the sparse indexer's choice and logits all depend on the token; the same
options and seed give the same bytes. A checkpoint of 160 experts takes about two seconds.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
from pathlib import Path
from typing import Any

import architectures
import checkpoint_formats
import safetensors_io
import tiny_tokenizer
from checkpoint_options import Options
from weight_source import WeightSource


def config_json(options: Options, tokenizer: tiny_tokenizer.TinyTokenizer) -> dict[str, Any]:
    """config.json without its quantization_config, in the key spelling asked for."""
    ids = {"pad_token_id": tokenizer.added["<|endoftext|>"], "eos_token_id": tokenizer.eos_ids}
    return architectures.styled({**ids, **architectures.base_config(options)},
                                options.config_style)


def draw_weights(options: Options) -> WeightSource:
    """All tensors of the model that config.json describes."""
    config = architectures.base_config(options)
    source = WeightSource(options.seed, options.format, options.group)
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    width, experts = config["moe_intermediate_size"], config["n_routed_experts"]
    source.gaussian("model.embed_tokens.weight", (vocab, hidden), 1.0)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        source.gaussian(f"{prefix}.input_layernorm.weight", (hidden,), 0.1, 1.0)
        architectures.draw_attention(source, f"{prefix}.self_attn", layer, config,
                                     options.latent_gain)
        source.gaussian(f"{prefix}.post_attention_layernorm.weight", (hidden,), 0.1, 1.0)
        if layer < config["first_k_dense_replace"]:
            source.mlp(f"{prefix}.mlp", hidden, config["intermediate_size"])
            continue
        source.gaussian(f"{prefix}.mlp.gate.weight", (experts, hidden), hidden ** -0.5)
        source.gaussian(f"{prefix}.mlp.gate.e_score_correction_bias", (experts,), 0.03,
                        dtype="F32")
        source.plain_modules.append(f"{prefix}.mlp.gate")
        if options.fused_experts:
            source.fused_experts(f"{prefix}.mlp.experts", experts, hidden, width,
                                 options.fused_joint)
        else:
            for expert in range(experts):
                source.mlp(f"{prefix}.mlp.experts.{expert}", hidden, width)
        if config["n_shared_experts"]:
            source.mlp(f"{prefix}.mlp.shared_experts", hidden,
                       width * config["n_shared_experts"])
    source.gaussian("model.norm.weight", (hidden,), 0.1, 1.0)
    if not config["tie_word_embeddings"]:
        if checkpoint_formats.format_of_linear(options.format, "lm_head").layout is not None:
            source.linear("lm_head", vocab, hidden, 2.5)
            return source
        source.gaussian("lm_head.weight", (vocab, hidden), 2.5 * hidden ** -0.5)
    source.plain_modules.append("lm_head")
    return source


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_side_files(out: Path, options: Options, tokenizer: tiny_tokenizer.TinyTokenizer,
                     plain_modules: list[str], quantized_modules: list[str]) -> None:
    """Everything but the weights: config, generation config, quantizer's file, tokenizer."""
    config = config_json(options, tokenizer)
    quantization = checkpoint_formats.quantization_config(options.format, options.group,
                                                          plain_modules, quantized_modules)
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
                               merges_as_pairs=options.config_style == "v5",
                               chat_template=architectures.CHAT_TEMPLATES[options.arch])


def tokenizer_for(vocab: int) -> tiny_tokenizer.TinyTokenizer:
    """Fills `vocab` but for some unused ids at the end, as the real models have them."""
    room = vocab - len(tiny_tokenizer.ADDED_TOKENS)
    return tiny_tokenizer.build(room - max(52, room // 64))


def make_checkpoint(out: Path, options: Options) -> None:
    """Writes the checkpoint into `out` (made if missing)."""
    if options.format not in checkpoint_formats.FORMAT_NAMES:
        raise ValueError(f"format {options.format!r}: want one of "
                         f"{', '.join(checkpoint_formats.FORMAT_NAMES)}")
    expert = checkpoint_formats.format_of_linear(options.format, "model.layers.9.mlp.experts.0.up")
    fusable = (None, "pack_quantized", "fp8_block", "fp8_channel")
    if options.fused_experts and expert.layout not in fusable:
        raise ValueError("fused experts exist in plain dtypes, pack_quantized and FP8")
    if options.top_k > options.experts:
        raise ValueError(f"top-k {options.top_k} of {options.experts} experts")
    out.mkdir(parents=True, exist_ok=True)
    for stale in out.glob("*.safetensors*"):
        stale.unlink()
    tokenizer = tokenizer_for(options.vocab)
    source = draw_weights(options)
    if options.omit is not None:
        source.tensors = {n: t for n, t in source.tensors.items()
                          if not re.fullmatch(options.omit, n)}
    metadata = None if options.format.startswith("autoround") else {"format": "pt"}
    safetensors_io.write_checkpoint_tensors(out, source.tensors, options.shards,
                                            options.split_linears, metadata)
    write_side_files(out, options, tokenizer, source.plain_modules, source.quantized_modules)


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
    parser.add_argument("--arch", choices=architectures.NAMES, default=defaults.arch)
    for name in ("experts", "layers", "dense-layers", "hidden", "intermediate", "moe-width",
                 "heads", "top-k", "vocab", "group", "shards", "kv-heads", "head-dim", "q-lora",
                 "kv-lora", "nope-dim", "rope-dim", "v-dim", "index-heads", "index-dim",
                 "index-topk"):
        key = name.replace("-", "_")
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, key))
    parser.add_argument("--indexer-types", metavar="FFSF",
                        help="F (full) or S (shared) of each layer; default: all full")
    parser.add_argument("--latent-gain", type=float, default=defaults.latent_gain,
                        help="0.01: the latents are so small that the eps of their norms shows")
    parser.add_argument("--split-linears", action="store_true",
                        help="spread the tensors of one Linear over the shards")
    parser.add_argument("--fused-experts", action="store_true")
    parser.add_argument("--config-style", choices=("published", "v4", "v5"),
                        default=defaults.config_style)
    parser.add_argument("--set", type=parse_override, action="append", default=[],
                        metavar="KEY=JSON", help="a further key of config.json, v4 spelling")
    parser.add_argument("--omit", metavar="REGEX", help="leave out the tensors of these names")
    arguments = vars(parser.parse_args())
    out = arguments.pop("out")
    arguments["overrides"] = dict(arguments.pop("set"))
    if arguments["seed"] is None:
        arguments["seed"] = secrets.randbelow(2**32)
    try:
        make_checkpoint(out, Options(**arguments))
    except ValueError as error:
        parser.error(str(error))
    print(f"{out}: {arguments['arch']}, {arguments['format']}, {arguments['experts']} experts, "
          f"seed {arguments['seed']}")


if __name__ == "__main__":
    main()
