"""REAP: removes the experts of each layer that matter least, with one pass over calibration text and no training.

python prune.py --checkpoint MASTER --experts 120 --out DIR. The saliency of expert j is the mean, over the tokens routed to
it, of its gate weight times the length of its output; an expert that no token reached has saliency 0. The kept experts stay in
order and are renumbered; gate rows and correction biases go with them.
"""
from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Glm4MoeForCausalLM
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from batches import make_batch
from corpus.conversation import Split
from corpus.mixture import CALIBRATION_START
from model import load_tokenizer, save_checkpoint
from rendering import Renderer


class SaliencySums:
    """Adds up gate weight x output length, and the tokens, of each expert of one layer."""

    def __init__(self, experts: int) -> None:
        self.total = torch.zeros(experts, dtype=torch.float64)
        self.tokens = torch.zeros(experts, dtype=torch.float64)

    def add(self, expert: int, gate_weights: torch.Tensor, outputs: torch.Tensor) -> None:
        """gate_weights [n], outputs [n, hidden]: of the tokens routed to the expert, before weighting."""
        self.total[expert] += float((gate_weights.double() * outputs.double().norm(dim=1)).sum())
        self.tokens[expert] += len(gate_weights)

    def saliency(self) -> torch.Tensor:
        return self.total / self.tokens.clamp(min=1)


def most_salient(saliency: torch.Tensor, count: int) -> torch.Tensor:
    """The experts to keep, ascending; of equal ones the lower number stays."""
    order = torch.argsort(saliency, descending=True, stable=True)
    return torch.sort(order[:count]).values


def observed_experts(module: nn.Module, hidden: torch.Tensor, choice: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """transformers' experts one by one, noting each output in module.saliency_sums."""
    output = torch.zeros_like(hidden, dtype=torch.float32)
    for expert in torch.unique(choice).tolist():
        tokens, slots = torch.where(choice == expert)
        gate, up = F.linear(hidden[tokens], module.gate_up_proj[expert]).chunk(2, dim=-1)
        result = F.linear(module.act_fn(gate) * up, module.down_proj[expert])
        module.saliency_sums.add(expert, weights[tokens, slots], result)
        output.index_add_(0, tokens, result.float() * weights[tokens, slots, None].float())
    return output.to(hidden.dtype)


ALL_EXPERTS_FUNCTIONS.register("observed", observed_experts)


@torch.no_grad()
def measure(model: Glm4MoeForCausalLM, renderer: Renderer, seed: int, tokens: int) -> dict[int, torch.Tensor]:
    """Saliencies by layer number, over about that many tokens of whole conversations."""
    model.set_attn_implementation("documents")
    model.set_experts_implementation("observed")
    sums: dict[int, SaliencySums] = {}
    for number, layer in enumerate(model.model.layers):
        if hasattr(layer.mlp, "gate"):
            sums[number] = layer.mlp.experts.saliency_sums = SaliencySums(model.config.n_routed_experts)
    place, seen = CALIBRATION_START, 0
    while seen < tokens:
        batch = make_batch(renderer, seed, Split.TRAIN, place, 4096)
        model.model(input_ids=batch.tokens, position_ids=batch.positions, document_lengths=batch.lengths, use_cache=False)
        place, seen = batch.next_conversation, seen + batch.tokens.numel()
    return {number: found.saliency() for number, found in sums.items()}


def prune(model: Glm4MoeForCausalLM, kept: dict[int, torch.Tensor]) -> Glm4MoeForCausalLM:
    """A new model with the kept experts of each layer."""
    config = copy.deepcopy(model.config)
    config.n_routed_experts = len(next(iter(kept.values())))
    pruned = Glm4MoeForCausalLM(config)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for number, experts in kept.items():
        for part in ("experts.gate_up_proj", "experts.down_proj", "gate.weight", "gate.e_score_correction_bias"):
            name = f"model.layers.{number}.mlp.{part}"
            state[name] = state[name][experts]
    pruned.load_state_dict(state)
    return pruned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--experts", type=int, required=True, help="left in each layer")
    parser.add_argument("--tokens", type=int, default=200_000, help="of calibration text")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = Glm4MoeForCausalLM.from_pretrained(options.checkpoint, dtype=torch.float32)
    saliencies = measure(model, Renderer(load_tokenizer(options.checkpoint)), options.seed, options.tokens)
    kept = {number: most_salient(saliency, options.experts) for number, saliency in saliencies.items()}
    save_checkpoint(prune(model, kept), options.checkpoint, options.out)
    for number, saliency in saliencies.items():
        removed = sorted(set(range(len(saliency))) - set(kept[number].tolist()))
        lost = float(saliency[removed].sum() / saliency.sum())
        print(json.dumps({"layer": number, "removed": len(removed), "share_of_saliency": round(lost, 4)}))


if __name__ == "__main__":
    main()
