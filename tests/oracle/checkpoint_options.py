"""What a generated checkpoint shall be like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Options:
    """What to generate. `overrides` sets any further key of config.json, and the tensors follow."""
    seed: int = 0
    arch: str = "glm4_moe"  # one of architectures.NAMES
    format: str = "gptq"
    experts: int = 16
    layers: int = 3
    dense_layers: int = 1
    hidden: int = 256
    intermediate: int = 384
    moe_width: int = 128
    heads: int = 8
    top_k: int = 8
    vocab: int = 600
    group: int = 128
    # Of glm4_moe alone.
    kv_heads: int = 2
    head_dim: int = 64
    # Of latent attention (glm4_moe_lite, glm_moe_dsa). No two widths are equal, so that none can stand for another.
    q_lora: int = 384  # 0: queries of the input itself (glm4_moe_lite)
    kv_lora: int = 128
    nope_dim: int = 48
    rope_dim: int = 32
    v_dim: int = 64
    index_heads: int = 16
    index_dim: int = 96
    index_topk: int = 16
    indexer_types: str | None = None  # F (full) or S (shared) of each layer; None: all full
    latent_gain: float = 1.0  # small: the latents' norms depend on their eps
    # Of the files.
    shards: int = 1
    split_linears: bool = False
    fused_experts: bool = False
    fused_joint: str = ".weight_"  # or "_", between gate_up_proj and packed, scale, ...
    # published: as the model's own config.json. v4, v5: as transformers of that version writes it
    # (v4: torch_dtype, rope_theta; v5: dtype, rope_parameters).
    config_style: str = "published"
    overrides: dict[str, Any] = field(default_factory=dict)
    omit: str | None = None  # regex: tensors whose whole name matches are not written
