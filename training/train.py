"""Trains sheaf-nano; resumable at any saved state with the same data and the same losses.

python train.py --tokenizer DIR --out DIR --minutes 60 runs for an hour at most and saves DIR/state.pt;
the same command goes on from there. When --tokens have been seen it writes the bf16 checkpoint DIR/checkpoint.
DIR/loss.jsonl has one line a step group.

The learning rate rises, stays, and falls over the last tokens, as many as --decay-tokens says, before each number of --tokens;
after the last one training is over. What the two say about the part that has not been trained yet may be changed from one run
to the next: the result is the same as if it had been so from the start.

Expert load is balanced without a loss term: after each step the gate's correction bias of an overloaded expert goes down by
a fixed amount, of an underloaded one up. Expert dropout hides a random part of the experts from the gate for a step, so that
the model does not depend on any one of them: pruning later removes some for good.
"""
from __future__ import annotations

import argparse
import ctypes
import json
import math
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Glm4MoeForCausalLM

from batches import Batch, make_batch
from corpus.conversation import Split
from model import NANO, TINY, load_tokenizer, make_config, make_model, routers, save_checkpoint
from rendering import Renderer


@dataclass
class Recipe:
    """Everything that decides the result, besides the code and the number of threads."""

    tokens: str = "9000000,25500000"  # seen at the end of each cycle of the learning rate
    batch_tokens: int = 4096
    seed: int = 1
    learning_rate: float = 1.5e-3  # peak
    final_share: float = 0.03     # of the peak, at the end
    decay_tokens: str = "3000000,5000000"  # over which the learning rate falls at the end of each cycle
    warmup_tokens: int = 400_000
    weight_decay: float = 0.1
    clip: float = 1.0             # of the gradient's norm
    balance_rate: float = 0.01    # step of the correction bias at the start; falls with the learning rate
    expert_dropout: float = 0.4   # largest share of experts hidden, in every other step
    sizes: str = "nano"


def cycles(tokens: str, decay_tokens: str) -> list[tuple[int, int]]:
    """(end, tokens before it over which the learning rate falls) of each."""
    ends, decays = ([int(number) for number in numbers.split(",")] for numbers in (tokens, decay_tokens))
    if ends != sorted(set(ends)) or ends[0] <= 0:
        raise ValueError(f"--tokens: want rising numbers, got {tokens}")
    if len(decays) != len(ends) or min(decays) <= 0:
        raise ValueError(f"--decay-tokens: want a positive number for each of {tokens}, got {decay_tokens}")
    return list(zip(ends, decays))


def learning_rate(recipe: Recipe, seen: int) -> float:
    all_cycles = cycles(recipe.tokens, recipe.decay_tokens)
    start = max((end for end, _ in all_cycles[:-1] if end <= seen), default=0)
    end, decay = next((cycle for cycle in all_cycles if cycle[0] > seen), all_cycles[-1])
    if seen - start < recipe.warmup_tokens:
        return recipe.learning_rate * (seen - start + 1) / recipe.warmup_tokens
    left = min(1.0, max(0.0, (end - seen) / decay))
    return recipe.learning_rate * (recipe.final_share + (1 - recipe.final_share) * left)


def same_until(seen: int, recipe: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether both schedules have been the same for the first `seen` tokens."""
    begun = [[(end, decay) for end, decay in cycles(each["tokens"], each["decay_tokens"]) if end - decay < seen]
             for each in (recipe, other)]
    return begun[0] == begun[1]


def balance_share(recipe: Recipe, seen: int) -> float:
    """Full during the warm-up, when the load is least even, then with the learning rate."""
    return 1.0 if seen < recipe.warmup_tokens else learning_rate(recipe, seen) / recipe.learning_rate


def make_optimizer(model: Glm4MoeForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    decayed = [p for n, p in model.named_parameters() if p.dim() > 1 and "embed" not in n and "lm_head" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() <= 1 or "embed" in n or "lm_head" in n]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": recipe.weight_decay},
                              {"params": others, "weight_decay": 0.0}], lr=recipe.learning_rate, betas=(0.9, 0.95),
                             eps=1e-10, fused=True)


def batch_loss(model: Glm4MoeForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross entropy over the learnt tokens; logits are computed for those alone."""
    hidden = model.model(input_ids=batch.tokens, position_ids=batch.positions, document_lengths=batch.lengths,
                         use_cache=False).last_hidden_state[0]
    return F.cross_entropy(model.lm_head(hidden[batch.places]).float(), batch.targets)


class ExpertLoad:
    """Counts how often each expert was chosen, hides experts for a step, and moves the correction biases."""

    HIDDEN = -1e4  # far below any score

    def __init__(self, model: Glm4MoeForCausalLM) -> None:
        self._routers = routers(model)
        self._counts = [torch.zeros_like(router.e_score_correction_bias) for router in self._routers]
        for index, router in enumerate(self._routers):
            router.register_forward_hook(lambda _, __, output, index=index: self._count(index, output[2]))
        self._shown: list[torch.Tensor | None] = [None] * len(self._routers)  # biases while some experts are hidden
        self._kept: list[torch.Tensor] = [torch.ones_like(count, dtype=torch.bool) for count in self._counts]

    def _count(self, index: int, chosen: torch.Tensor) -> None:
        self._counts[index] += torch.bincount(chosen.reshape(-1), minlength=len(self._counts[index]))

    def hide(self, rng: random.Random, share: float) -> None:
        """Hides the same number of experts in each layer until update()."""
        for index, router in enumerate(self._routers):
            number = len(router.e_score_correction_bias)
            hidden = rng.sample(range(number), int(share * number))
            self._kept[index][hidden] = False
            self._shown[index] = router.e_score_correction_bias.clone()
            router.e_score_correction_bias[hidden] = self.HIDDEN

    def update(self, rate: float) -> float:
        """Shows all experts again, moves their biases, returns the largest load over the mean load of the last step."""
        worst = 0.0
        for index, router in enumerate(self._routers):
            kept, counts = self._kept[index], self._counts[index]
            shown, self._shown[index] = self._shown[index], None
            if shown is not None:
                router.e_score_correction_bias.copy_(shown)
            mean = counts[kept].mean()
            worst = max(worst, float(counts[kept].max() / mean))
            router.e_score_correction_bias[kept] += rate * torch.sign(mean - counts[kept])
            kept.fill_(True)
            counts.zero_()
        return worst

    def forget(self) -> None:
        """Drops counts that evaluation left."""
        for counts in self._counts:
            counts.zero_()


class Training:
    """A run: model, optimizer and place in the data. step() trains on one batch."""

    def __init__(self, recipe: Recipe, tokenizer_folder: Path, device: str = "cpu") -> None:
        self.recipe, self.device = recipe, device
        tokenizer = load_tokenizer(tokenizer_folder)
        self.renderer = Renderer(tokenizer)
        sizes = {"nano": NANO, "tiny": TINY}[recipe.sizes]
        self.model = make_model(make_config(tokenizer, sizes), tokenizer, recipe.seed, device)
        self.optimizer = make_optimizer(self.model, recipe)
        self.load = ExpertLoad(self.model)
        self.steps, self.seen, self.next_conversation = 0, 0, 0

    def step(self) -> dict[str, float]:
        recipe = self.recipe
        batch = make_batch(self.renderer, recipe.seed, Split.TRAIN, self.next_conversation, recipe.batch_tokens).to(self.device)
        rng = random.Random(f"{recipe.seed}/experts/{self.steps}")
        if recipe.expert_dropout and rng.random() < 0.5:
            self.load.hide(rng, rng.uniform(0.0, recipe.expert_dropout))
        rate = learning_rate(recipe, self.seen)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            loss = batch_loss(self.model, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        self.optimizer.step()
        with torch.no_grad():
            imbalance = self.load.update(recipe.balance_rate * balance_share(recipe, self.seen))
        self.steps += 1
        self.seen += batch.tokens.numel()
        self.next_conversation = batch.next_conversation
        return {"loss": float(loss.detach()), "norm": float(norm), "lr": rate, "imbalance": imbalance}

    @torch.no_grad()
    def held_out_loss(self, tokens: int = 16_384) -> float:
        """Over the first held-out conversations, always the same."""
        self.model.eval()
        total, count, place = 0.0, 0, 0
        for _ in range(max(1, tokens // self.recipe.batch_tokens)):
            batch = make_batch(self.renderer, self.recipe.seed, Split.HELD_OUT, place, self.recipe.batch_tokens).to(self.device)
            total += float(batch_loss(self.model, batch)) * len(batch.targets)
            count += len(batch.targets)
            place = batch.next_conversation
        self.model.train()
        self.load.forget()
        return total / count

    def save(self, path: Path) -> None:
        state = {"recipe": asdict(self.recipe), "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "steps": self.steps, "seen": self.seen, "next_conversation": self.next_conversation}
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Raises ValueError where the saved recipe is another one, but for cycles that have not begun to end."""
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        saved = state["recipe"]
        if same_until(state["seen"], saved, asdict(self.recipe)):
            saved |= {"tokens": self.recipe.tokens, "decay_tokens": self.recipe.decay_tokens}
        if saved != asdict(self.recipe):
            changed = [key for key, value in asdict(self.recipe).items() if saved.get(key) != value]
            raise ValueError(f"{path} was trained with another recipe: {', '.join(changed)} differ")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.seen, self.next_conversation = state["steps"], state["seen"], state["next_conversation"]


def keep_freed_memory() -> None:
    """Tells glibc to reuse freed memory instead of giving it back: page faults cost a tenth of a step otherwise."""
    trim_threshold, mmap_max = -1, -4
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2 ** 31 - 1)
    except OSError:
        pass  # not glibc: slower, nothing else


def cut_log(path: Path, steps: int) -> None:
    """Drops lines after a step: they were written after the last saved state and will be written again."""
    if path.exists():
        kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= steps]
        path.write_text("".join(line + "\n" for line in kept))


def run(training: Training, out: Path, minutes: float, save_minutes: float, log_every: int) -> bool:
    """Trains until the schedule's end or the minutes are over; True at the schedule's end."""
    state, log = out / "state.pt", out / "loss.jsonl"
    started = saved = time.monotonic()
    first_seen, gathered = training.seen, []
    end, _ = cycles(training.recipe.tokens, training.recipe.decay_tokens)[-1]
    while training.seen < end and time.monotonic() - started < 60 * minutes:
        gathered.append(training.step())
        if training.steps % log_every == 0:
            line = {"step": training.steps, "tokens": training.seen,
                    **{key: round(sum(entry[key] for entry in gathered) / len(gathered), 6) for key in gathered[0]},
                    "tokens_per_second": round((training.seen - first_seen) / (time.monotonic() - started))}
            gathered = []
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)
        if time.monotonic() - saved > 60 * save_minutes:
            training.save(state)
            saved = time.monotonic()
    training.save(state)
    line = {"step": training.steps, "tokens": training.seen, "held_out_loss": round(training.held_out_loss(), 6)}
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)
    return training.seen >= end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=math.inf, help="of this run")
    parser.add_argument("--save-minutes", type=float, default=10)
    parser.add_argument("--log-every", type=int, default=20, help="steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, value in asdict(Recipe()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    options.out.mkdir(parents=True, exist_ok=True)
    training = Training(recipe, options.tokenizer, options.device)
    if (options.out / "state.pt").exists():
        training.restore(options.out / "state.pt")
    cut_log(options.out / "loss.jsonl", training.steps)
    parameters = sum(parameter.numel() for parameter in training.model.parameters())
    print(f"{parameters / 1e6:.1f} M parameters, {training.seen} of {recipe.tokens} tokens seen", flush=True)
    if run(training, options.out, options.minutes, options.save_minutes, options.log_every):
        save_checkpoint(training.model, options.tokenizer, options.out / "checkpoint")
        print(f"done: {options.out / 'checkpoint'}")


if __name__ == "__main__":
    main()
