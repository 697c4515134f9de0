"""Writes a replay checkpoint: a tiny GLM-4.6 model that answers, token for token, what its prompt holds DISTANCE tokens earlier.

So any output can be had from a real server: put the wanted text into the prompt (replay.py does) and the model says it, tags and stop
token included. Tests of calls, thoughts and streams then depend on no model's mood.

How    Embeddings are random +1/-1, so two different tokens are nearly orthogonal. The queries and keys of layer 0 are biases alone:
       after the rotary embedding the score of key s for query t is a sum of cosines of (t - s - DISTANCE + 1), which is largest, by
       far, where that is 0. So attention copies one embedding, 16 times as large as the residual stream, and the head (the
       embeddings again) finds its token. Layer 1 computes nothing, but its router sends every token to experts.
Greedy and temperature 1 agree (the rest of the vocabulary has less than 1e-9 together); a grammar, a bias or a ban still decides.
[sMASK] in a script is said as an ordinary "<": so text that only looks like a tag can be had too.
18 MB; tokenizer, template and stop ids are another checkpoint's.
"""
from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import safetensors_io

HIDDEN, HEADS, HEAD_DIM, ROTARY, EXPERTS, WIDTH = 512, 4, 128, 64, 12, 128
THETA = 2.0        # frequencies from 1 down to 1/2 a token: no other distance comes near
SHARPNESS = 8.0    # of keys and queries
COPIED = 16.0      # how much larger the copied embedding is than the token's own
LATENT_TEMPLATE = Path(__file__).resolve().parents[1] / "oracle/chat_template_latent.jinja"
TAGS = [f"<{slash}{name}>" for name in ("think", "tool_call", "tool_response", "arg_key", "arg_value") for slash in ("", "/")]


@dataclass(frozen=True)
class ReplayOptions:
    """one_byte: every token is a byte of text. plain_tags: tags have no tokens of their own."""

    distance: int = 512
    context: int = 16384
    newlines: bool = True
    one_byte: bool = False
    plain_tags: bool = False


def _biases(options: ReplayOptions) -> tuple[np.ndarray, np.ndarray]:
    """(query, key) of a head, [HEAD_DIM] each. ValueError where another distance scores nearly as high."""
    half = ROTARY // 2
    frequencies = THETA ** (-np.arange(half) / half)
    reach = options.distance - 1
    key, query = np.zeros(HEAD_DIM), np.zeros(HEAD_DIM)
    key[:half] = SHARPNESS
    query[:half] = SHARPNESS * np.cos(reach * frequencies)
    query[half:ROTARY] = -SHARPNESS * np.sin(reach * frequencies)
    others = np.delete(np.arange(-reach, options.context - reach), reach)
    lead = (half - np.cos(np.outer(others, frequencies)).sum(1).max()) * SHARPNESS ** 2 / HEAD_DIM ** 0.5
    if lead < 30:
        raise ValueError(f"distance {options.distance}: another one scores only {lead:.1f} less")
    return query, key


def _weights(vocab: int, said_as: tuple[int, int], options: ReplayOptions) -> dict[str, np.ndarray]:
    embeddings = np.random.default_rng(11).choice([-1.0, 1.0], (vocab, HIDDEN))
    head = embeddings / 8
    written, said = said_as
    embeddings[written], head[written] = embeddings[said], 0
    query, key = _biases(options)
    weights = {"model.embed_tokens.weight": embeddings, "lm_head.weight": head, "model.norm.weight": np.ones(HIDDEN)}

    def mlp(name: str) -> None:
        for part, shape in (("gate_proj", (WIDTH, HIDDEN)), ("up_proj", (WIDTH, HIDDEN)), ("down_proj", (HIDDEN, WIDTH))):
            weights[f"{name}.{part}.weight"] = np.zeros(shape)

    for layer in range(2):
        name = f"model.layers.{layer}"
        copies = layer == 0
        for part, matrix, bias in (("q", 0.0, query), ("k", 0.0, key), ("v", 1.0, None)):
            weights[f"{name}.self_attn.{part}_proj.weight"] = np.eye(HIDDEN) * (matrix if copies else 0)
            weights[f"{name}.self_attn.{part}_proj.bias"] = (
                np.tile(bias, HEADS) if copies and bias is not None else np.zeros(HIDDEN))
        weights[f"{name}.self_attn.o_proj.weight"] = np.eye(HIDDEN) * (COPIED if copies else 0)
        weights[f"{name}.input_layernorm.weight"] = np.ones(HIDDEN)
        weights[f"{name}.post_attention_layernorm.weight"] = np.ones(HIDDEN)
    mlp("model.layers.0.mlp")
    for expert in range(EXPERTS):
        mlp(f"model.layers.1.mlp.experts.{expert}")
    mlp("model.layers.1.mlp.shared_experts")
    weights["model.layers.1.mlp.gate.weight"] = np.random.default_rng(12).normal(0, 1 / 16, (EXPERTS, HIDDEN))
    weights["model.layers.1.mlp.gate.e_score_correction_bias"] = np.zeros(EXPERTS)
    return weights


def _config(source: dict[str, Any], options: ReplayOptions) -> dict[str, Any]:
    return {
        "architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe", "dtype": "bfloat16", "hidden_act": "silu",
        "vocab_size": source["vocab_size"], "hidden_size": HIDDEN, "intermediate_size": WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "head_dim": HEAD_DIM, "attention_bias": True,
        "attention_dropout": 0.0, "use_qk_norm": False, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": THETA, "partial_rotary_factor": ROTARY / HEAD_DIM},
        "max_position_embeddings": options.context, "first_k_dense_replace": 1, "n_routed_experts": EXPERTS,
        "n_shared_experts": 1, "num_experts_per_tok": 4, "moe_intermediate_size": WIDTH, "n_group": 1, "topk_group": 1,
        "norm_topk_prob": True, "routed_scaling_factor": 1.0, "num_nextn_predict_layers": 0, "bos_token_id": None,
        "eos_token_id": source["eos_token_id"], "pad_token_id": source["pad_token_id"],
    }


def write_replay_checkpoint(out: Path, text_from: Path, options: ReplayOptions) -> None:
    """A whole checkpoint in `out`, which must not exist; text_from: a checkpoint with GLM's tokens."""
    out.mkdir(parents=True)
    config = json.loads((text_from / "config.json").read_text())
    tokenizer = json.loads((text_from / "tokenizer.json").read_text())
    tokenizer_config = json.loads((text_from / "tokenizer_config.json").read_text())
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    said_as = (ids["[sMASK]"], tokenizer["model"]["vocab"]["<"])
    if options.one_byte:
        tokenizer["model"]["merges"] = []
    if options.plain_tags:
        for token in [*tokenizer["added_tokens"], *tokenizer_config.get("added_tokens_decoder", {}).values()]:
            if token["content"] in TAGS:
                token["content"] = f"<|no_tag_{TAGS.index(token['content'])}|>"
    shutil.copyfile(text_from / "generation_config.json", out / "generation_config.json")
    template = text_from / "chat_template.jinja" if options.newlines else LATENT_TEMPLATE
    shutil.copyfile(template, out / "chat_template.jinja")
    for name, value in (("config", _config(config, options)), ("tokenizer", tokenizer), ("tokenizer_config", tokenizer_config)):
        (out / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False))
    tensors = {name: safetensors_io.float_tensor("F32" if name.endswith("bias") and "gate" in name else "BF16", values)
               for name, values in _weights(config["vocab_size"], said_as, options).items()}
    safetensors_io.write_checkpoint_tensors(out, tensors)
