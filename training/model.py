"""sheaf-nano's configuration, and transformers' own Glm4MoeForCausalLM set up to train it quickly on a CPU.

The model's code, file names and mathematics are transformers'. Two of its parts have exchangeable kernels, and two such
kernels are registered here: "documents" (causal attention inside each document of one flat row of tokens) and "looped"
(experts one after the other, cache-sized, with a hand-written backward pass). Both are tested against transformers' own.
"""
from __future__ import annotations

import copy
import functools
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, Glm4MoeConfig, Glm4MoeForCausalLM
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from tokenizer import END_TOKENS, space_twins

NANO: dict[str, Any] = {
    "hidden_size": 256, "num_hidden_layers": 4, "first_k_dense_replace": 1, "intermediate_size": 768,
    "n_routed_experts": 160, "num_experts_per_tok": 8, "n_shared_experts": 1, "moe_intermediate_size": 128,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 4096,
}
TINY: dict[str, Any] = {**NANO, "hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 128, "n_routed_experts": 32,
                        "num_attention_heads": 4, "head_dim": 32}  # for tests of the scripts


def make_config(tokenizer: Tokenizer, sizes: dict[str, Any] = NANO) -> Glm4MoeConfig:
    ids = [tokenizer.token_to_id(token) for token in END_TOKENS]
    return Glm4MoeConfig(
        **sizes, vocab_size=tokenizer.get_vocab_size(), attention_bias=True, use_qk_norm=True, norm_topk_prob=True,
        routed_scaling_factor=2.5, n_group=1, topk_group=1, rms_norm_eps=1e-5, hidden_act="silu", tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        initializer_range=0.03, num_nextn_predict_layers=0, pad_token_id=ids[0], eos_token_id=ids, bos_token_id=None)


def document_attention(module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                       attention_mask: torch.Tensor | None, scaling: float, dropout: float = 0.0,
                       document_lengths: list[int] | None = None, **_: Any) -> tuple[torch.Tensor, None]:
    """query [1, heads, T, d], key and value [1, kv_heads, T, d]; document_lengths add up to T. No token sees another document."""
    lengths = document_lengths or [query.shape[2]]
    if query.device.type == "cpu":
        query, key, value = (part.float() for part in (query, key, value))  # backward twice as fast as in bf16
    with torch.autocast(query.device.type, enabled=False):
        outputs = [F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
                   for q, k, v in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2))]
    return torch.cat(outputs, 2).transpose(1, 2), None


BLOCK = 32  # rows of an expert's product


class Workers:
    """As many Python threads as torch computes with, each of which computes alone: small products and sums are too short to
    be shared by threads."""

    def __init__(self) -> None:
        self.count = torch.get_num_threads()
        started = threading.Barrier(self.count, timeout=60)
        self._pool = ThreadPoolExecutor(self.count, initializer=self._compute_alone)
        list(self._pool.map(lambda _: started.wait(), range(self.count)))  # every one of them starts now
        torch.set_num_threads(self.count)  # for threads that come later: the number is a thread's own once it has asked for it

    @staticmethod
    def _compute_alone() -> None:
        torch.get_num_threads()  # where a thread asks first only later, it is given the process's number then
        torch.set_num_threads(1)

    def sum(self, part: Callable[[list[int]], torch.Tensor], sizes: list[int]) -> torch.Tensor:
        """Sum of part(indices) over shares of the indices with about the same sum of sizes; indices of size 0 are left out."""
        shares: list[list[int]] = [[] for _ in range(self.count)]
        loads = [0] * self.count
        for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
            if sizes[index]:
                least = loads.index(min(loads))
                shares[least].append(index)
                loads[least] += sizes[index]
        return torch.stack(list(self._pool.map(torch.no_grad()(part), map(sorted, shares)))).sum(0)


@functools.cache
def workers() -> Workers:
    return Workers()


class LoopedExperts(torch.autograd.Function):
    """sum over e of weight_e * down_e(silu(gate_e x) * up_e x), expert by expert so that its rows stay in the cache.

    dtype: of the products, float32 or bf16; the sums over experts and the results are float32. Each expert's rows are filled
    up to whole blocks with rows of weight 0: few different shapes, because oneDNN makes a kernel for each.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, choice: torch.Tensor, weight: torch.Tensor, gate_up: torch.Tensor,
                down: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        hidden, gate_up, down = hidden.to(dtype), gate_up.to(dtype), down.to(dtype)
        order = torch.argsort(choice.reshape(-1), stable=True)
        counts = torch.bincount(choice.reshape(-1), minlength=gate_up.shape[0])
        padded = (counts + BLOCK - 1) // BLOCK * BLOCK
        starts = padded.cumsum(0) - padded
        place = torch.arange(len(order)) + (starts - counts.cumsum(0) + counts).repeat_interleave(counts)
        tokens = torch.zeros(int(padded.sum()), dtype=torch.int64)
        tokens[place] = order // choice.shape[1]
        sorted_weight = weight.new_zeros(len(tokens), 1)
        sorted_weight[place, 0] = weight.reshape(-1)[order]
        inner = hidden.new_empty(len(tokens), gate_up.shape[1])
        sizes = padded.tolist()
        rows_of = [slice(start, start + size) for start, size in zip(starts.tolist(), sizes)]

        def outputs(experts: list[int]) -> torch.Tensor:
            output = hidden.new_zeros(hidden.shape, dtype=torch.float32)
            for expert in experts:
                rows = rows_of[expert]
                torch.mm(hidden.index_select(0, tokens[rows]), gate_up[expert].t(), out=inner[rows])
                gate, up = inner[rows].chunk(2, 1)
                result = torch.mm(F.silu(gate).mul_(up), down[expert].t())
                output.index_add_(0, tokens[rows], result * sorted_weight[rows])
            return output

        ctx.save_for_backward(hidden, order, place, tokens, sorted_weight, inner, gate_up, down)
        ctx.sizes, ctx.rows_of, ctx.choice_shape = sizes, rows_of, choice.shape
        return workers().sum(outputs, sizes)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, order, place, tokens, sorted_weight, inner, gate_up, down = ctx.saved_tensors
        grad_output, dtype = grad_output.contiguous(), hidden.dtype
        grad_sorted = torch.empty_like(sorted_weight)
        grad_gate_up, grad_down = torch.empty(gate_up.shape), torch.empty(down.shape)
        for expert, size in enumerate(ctx.sizes):
            if size == 0:
                grad_gate_up[expert].zero_()
                grad_down[expert].zero_()

        def gradients(experts: list[int]) -> torch.Tensor:
            grad_hidden = torch.zeros_like(grad_output)
            for expert in experts:
                rows = ctx.rows_of[expert]
                gate, up = inner[rows].chunk(2, 1)
                grad = grad_output.index_select(0, tokens[rows])
                sigmoid = torch.sigmoid(gate)
                silu = gate * sigmoid
                active = silu * up  # computed again: cheaper than keeping it
                grad_active = torch.mm(grad.to(dtype), down[expert])
                torch.sum((grad_active * active).float(), 1, keepdim=True, out=grad_sorted[rows])
                grad_active.mul_(sorted_weight[rows].to(dtype))
                grad_down[expert] = torch.mm(grad.mul_(sorted_weight[rows]).to(dtype).t(), active)
                slope = torch.addcmul(sigmoid, silu, 1 - sigmoid)  # of silu
                grad_inner = torch.cat((slope.mul_(up).mul_(grad_active), grad_active.mul_(silu)), 1)
                grad_gate_up[expert] = torch.mm(grad_inner.t(), hidden.index_select(0, tokens[rows]))
                grad_hidden.index_add_(0, tokens[rows], torch.mm(grad_inner, gate_up[expert]).float())
            return grad_hidden

        grad_hidden = workers().sum(gradients, ctx.sizes)
        grad_weight = grad_sorted.new_empty(len(order))
        grad_weight[order] = grad_sorted[place, 0]
        return grad_hidden, None, grad_weight.view(ctx.choice_shape), grad_gate_up, grad_down, None


def looped_experts(module: nn.Module, hidden_states: torch.Tensor, top_k_index: torch.Tensor,
                   top_k_weights: torch.Tensor) -> torch.Tensor:
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden_states.dtype
    with torch.autocast("cpu", enabled=False):
        return LoopedExperts.apply(hidden_states, top_k_index, top_k_weights, module.gate_up_proj, module.down_proj, dtype)


AttentionInterface.register("documents", document_attention)
AttentionMaskInterface.register("documents", lambda *_, **__: None)
ALL_EXPERTS_FUNCTIONS.register("looped", looped_experts)


def make_model(config: Glm4MoeConfig, tokenizer: Tokenizer, seed: int, device: str = "cpu") -> Glm4MoeForCausalLM:
    """Fresh weights. " x" and "x" start with half of their embedding in common, so that copying one as the other is near."""
    torch.manual_seed(seed)
    model = Glm4MoeForCausalLM(config)
    with torch.no_grad():
        depth = (2 * config.num_hidden_layers) ** -0.5
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj", "down_proj.weight")):
                parameter.mul_(depth)
        spaced, bare = (torch.tensor(column) for column in zip(*space_twins(tokenizer)))
        for table in (model.model.embed_tokens.weight, model.lm_head.weight):
            table[spaced] = (table[spaced] + table[bare]) * 0.5 ** 0.5
    return use_training_kernels(model.to(device))


def in_float32(module: nn.Module) -> None:
    """Lets the module compute as its weights are, also where the rest of the model computes in bf16."""
    forward = module.forward

    def exact(hidden: torch.Tensor) -> Any:
        with torch.autocast(hidden.device.type, enabled=False):
            return forward(hidden.float())

    module.forward = exact


def use_training_kernels(model: Glm4MoeForCausalLM) -> Glm4MoeForCausalLM:
    """Under autocast everything is computed in bf16 but the expert gates, whose choices decide, and the logits."""
    model.set_attn_implementation("documents")
    for module in (*routers(model), model.lm_head):
        in_float32(module)
    on_gpu = next(model.parameters()).device.type == "cuda"
    model.set_experts_implementation("grouped_mm" if on_gpu else "looped")
    model.config.use_cache = False
    return model


def routers(model: nn.Module) -> list[nn.Module]:
    """The expert gates, layer by layer."""
    return [layer.mlp.gate for layer in model.model.layers if hasattr(layer.mlp, "gate")]


def save_checkpoint(model: Glm4MoeForCausalLM, tokenizer_folder: Path, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """In bf16, with tokenizer, template and generation_config.json: what transformers and Sheaf load."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = copy.deepcopy(model).to("cpu")
    for name, tensor in list(saved.named_parameters()) + list(saved.named_buffers()):
        if not name.endswith("e_score_correction_bias") and tensor.is_floating_point() and "inv_freq" not in name:
            tensor.data = tensor.data.to(dtype)
    saved.config.use_cache = True
    saved.config.dtype = dtype
    saved.generation_config.eos_token_id = saved.config.eos_token_id
    saved.generation_config.pad_token_id = saved.config.pad_token_id
    saved.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tokenizer_folder / name, folder / name)


def load_tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
