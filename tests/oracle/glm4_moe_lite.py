"""The forward pass of Glm4MoeLiteForCausalLM (GLM-4.7-Flash) in float64: the latent attention of
glm_moe_dsa.py over every position, and queries of the latent or of the input itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

import decoder
import glm_moe_dsa
from decoder import Array, IndexChoice


@dataclass(frozen=True, kw_only=True)
class Config(glm_moe_dsa.Config):
    q_lora_rank: int | None = None
    index_topk: int = 0
    index_n_heads: int = 0
    index_head_dim: int = 0
    indexer_types: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Config":
        kinds = raw.get("mlp_layer_types")
        return decoder.Config.from_json.__func__(cls, {
            **raw, "mlp_layer_types": None if kinds is None else tuple(kinds)})

    def __post_init__(self) -> None:
        """Nothing is said about indexers."""


class Glm4MoeLite(glm_moe_dsa.GlmMoeDsa):
    config: Config

    def _queries(self, x: Array, name: str) -> tuple[Array, Array]:
        if self.config.q_lora_rank is None:
            return x, self._linear(x, f"{name}.q_proj")
        return super()._queries(x, name)

    def _attended(self, x: Array, q_latent: Array, layer: int, cache: glm_moe_dsa.KvCache,
                  choices: list[IndexChoice]) -> Array:
        return glm_moe_dsa.visible_positions(len(x), cache.length)
