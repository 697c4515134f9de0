"""What differs between the generated checkpoints of the architectures: config.json and the
tensors of attention."""

from __future__ import annotations

from typing import Any

import checkpoint_formats
import glm_moe_dsa
from checkpoint_options import Options
from weight_source import WeightSource

Json = dict[str, Any]
NAMES = ("glm4_moe", "glm4_moe_lite", "glm_moe_dsa")
CHAT_TEMPLATES = {"glm4_moe": "chat_template.jinja", "glm4_moe_lite": "chat_template_latent.jinja",
                  "glm_moe_dsa": "chat_template_latent.jinja"}
DTYPE_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def _common_config(options: Options) -> Json:
    """The keys that all have, in the v4 spelling."""
    spec = checkpoint_formats.base_format(options.format)
    dtype = DTYPE_NAMES[spec.plain_dtype]
    if spec.method == "auto-round-export":
        dtype = "float16"  # as this tool says of tensors that stay bf16
    return {
        "attention_dropout": 0.0, "first_k_dense_replace": options.dense_layers,
        "hidden_act": "silu", "hidden_size": options.hidden, "initializer_range": 0.02,
        "intermediate_size": options.intermediate, "max_position_embeddings": 4096,
        "model_type": options.arch, "moe_intermediate_size": options.moe_width, "n_group": 1,
        "n_routed_experts": options.experts, "n_shared_experts": 1, "norm_topk_prob": True,
        "num_attention_heads": options.heads, "num_experts_per_tok": options.top_k,
        "num_hidden_layers": options.layers, "num_nextn_predict_layers": 1,
        "rms_norm_eps": 1e-5, "rope_theta": 1000000, "routed_scaling_factor": 2.5,
        "tie_word_embeddings": False, "topk_group": 1, "torch_dtype": dtype,
        "transformers_version": "4.54.0", "use_cache": True, "vocab_size": options.vocab,
    }


def _glm4_moe_config(options: Options) -> Json:
    return {
        "architectures": ["Glm4MoeForCausalLM"], "attention_bias": True,
        "head_dim": options.head_dim, "num_key_value_heads": options.kv_heads,
        "partial_rotary_factor": 0.5, "rope_scaling": None, "use_qk_norm": True,
    }


def _glm4_moe_lite_config(options: Options) -> Json:
    return {
        "architectures": ["Glm4MoeLiteForCausalLM"], "attention_bias": False,
        "kv_lora_rank": options.kv_lora, "num_key_value_heads": options.heads,
        "partial_rotary_factor": 1.0, "q_lora_rank": options.q_lora or None,
        "qk_nope_head_dim": options.nope_dim, "qk_rope_head_dim": options.rope_dim,
        "rope_scaling": None, "topk_method": "noaux_tc", "v_head_dim": options.v_dim,
    }


def _glm_moe_dsa_config(options: Options) -> Json:
    config: Json = {
        "architectures": ["GlmMoeDsaForCausalLM"], "attention_bias": False, "ep_size": 1,
        "head_dim": options.rope_dim, "index_head_dim": options.index_dim,
        "index_n_heads": options.index_heads, "index_topk": options.index_topk,
        "indexer_rope_interleave": True, "kv_lora_rank": options.kv_lora, "moe_layer_freq": 1,
        "num_key_value_heads": options.heads, "pretraining_tp": 1, "q_lora_rank": options.q_lora,
        "qk_head_dim": options.nope_dim + options.rope_dim, "qk_nope_head_dim": options.nope_dim,
        "qk_rope_head_dim": options.rope_dim, "rope_interleave": True, "scoring_func": "sigmoid",
        "topk_method": "noaux_tc", "v_head_dim": options.v_dim,
    }
    if options.indexer_types is not None:
        names = {"F": "full", "S": "shared"}
        if set(options.indexer_types) - set(names):
            raise ValueError(f"indexer types {options.indexer_types!r}: want a letter F (full) or "
                             f"S (shared) for each layer")
        config["indexer_types"] = [names[letter] for letter in options.indexer_types]
    return config


def base_config(options: Options) -> Json:
    """config.json in the v4 spelling, but for the tokenizer's ids and the quantization."""
    if options.arch not in NAMES:
        raise ValueError(f"architecture {options.arch!r}: want one of {', '.join(NAMES)}")
    own = {"glm4_moe": _glm4_moe_config, "glm4_moe_lite": _glm4_moe_lite_config,
           "glm_moe_dsa": _glm_moe_dsa_config}[options.arch]
    return {**_common_config(options), **own(options), **options.overrides}


def styled(config: Json, style: str) -> Json:
    """A base_config in the spelling asked for."""
    if style not in ("published", "v4", "v5"):
        raise ValueError(f"config style {style!r}: want published, v4 or v5")
    config = dict(config)
    sparse = config["model_type"] == "glm_moe_dsa"
    if style == "v4" or (style == "published" and not sparse):
        return config
    scaling = config.pop("rope_scaling", None) or {"rope_type": "default"}
    config["rope_parameters"] = {"rope_theta": config.pop("rope_theta"), **scaling}
    if "partial_rotary_factor" in config:
        config["rope_parameters"]["partial_rotary_factor"] = config.pop("partial_rotary_factor")
    config["dtype"] = config.pop("torch_dtype")
    config["transformers_version"] = "5.4.0" if style == "published" else "5.2.0"
    if style == "published":
        return config
    config.update(bos_token_id=None, output_router_logits=False)
    if sparse:
        layers, dense = config["num_hidden_layers"], config["first_k_dense_replace"]
        config.update(
            indexer_types=list(glm_moe_dsa.indexer_types(config)),
            layer_types=["deepseek_sparse_attention"] * layers, mlp_bias=False,
            mlp_layer_types=["dense" if n < dense else "sparse" for n in range(layers)])
    return config


def draw_attention(source: WeightSource, prefix: str, layer: int, config: Json,
                   latent_gain: float) -> None:
    """The tensors of one layer's attention; `prefix` ends in ".self_attn"."""
    if config["model_type"] == "glm4_moe":
        _draw_grouped_query(source, prefix, config)
    else:
        _draw_latent(source, prefix, config, latent_gain)
        has_indexers = config["model_type"] == "glm_moe_dsa"
        if has_indexers and glm_moe_dsa.indexer_types(config)[layer] == "full":
            _draw_indexer(source, f"{prefix}.indexer", config)


def _draw_grouped_query(source: WeightSource, prefix: str, config: Json) -> None:
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


def _draw_latent(source: WeightSource, prefix: str, config: Json, latent_gain: float) -> None:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    q_rank, kv_rank = config["q_lora_rank"], config["kv_lora_rank"]
    nope, rope, v_dim = (config[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
    bias = 0.2 if config["attention_bias"] else None
    # Gains above 1, so that attention picks tokens instead of averaging them.
    if q_rank is None:
        source.linear(f"{prefix}.q_proj", heads * (nope + rope), hidden, 1.3)
    else:
        source.linear(f"{prefix}.q_a_proj", q_rank, hidden, latent_gain, bias)
        source.gaussian(f"{prefix}.q_a_layernorm.weight", (q_rank,), 0.1, 1.0)
        source.linear(f"{prefix}.q_b_proj", heads * (nope + rope), q_rank, 1.3)
    source.linear(f"{prefix}.kv_a_proj_with_mqa", kv_rank + rope, hidden, latent_gain, bias)
    source.gaussian(f"{prefix}.kv_a_layernorm.weight", (kv_rank,), 0.1, 1.0)
    source.linear(f"{prefix}.kv_b_proj", heads * (nope + v_dim), kv_rank, 1.0)
    source.linear(f"{prefix}.o_proj", hidden, heads * v_dim, 2.0, bias)


def _draw_indexer(source: WeightSource, prefix: str, config: Json) -> None:
    hidden, heads, dim = (config[k] for k in ("hidden_size", "index_n_heads", "index_head_dim"))
    source.linear(f"{prefix}.wq_b", heads * dim, config["q_lora_rank"], 1.0)
    source.linear(f"{prefix}.wk", dim, hidden, 1.0)
    source.gaussian(f"{prefix}.k_norm.weight", (dim,), 0.1, 1.0)
    source.gaussian(f"{prefix}.k_norm.bias", (dim,), 0.3)
    source.linear(f"{prefix}.weights_proj", heads, hidden, 1.0)
