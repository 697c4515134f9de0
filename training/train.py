"""Trains sheaf-nano; resumable at any saved state with the same data and the same losses.

python train.py --tokenizer DIR --out DIR --minutes 60 runs for an hour at most and saves DIR/state.pt;
the same command goes on from there. At the end of --schedule it writes the bf16 checkpoint DIR/checkpoint.
DIR/loss.jsonl has one line a step group.

What --schedule says of tokens that have not been seen yet may be changed from one run to the next: the result is the same as if
it had been so from the start.

Muon trains the matrices of attention and of the dense and shared experts' layers, AdamW everything else. Products are bf16,
weights, sums, attention, expert gates and logits float32.

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

    # million tokens seen:share of the learning rate, straight lines between; training is over at the last
    schedule: str = "0:0 0.4:1 14.5:1 21.5:0.03 21.6:0.33 24.5:0.02 24.8:0.8 39:0.8 48:0.02 48.1:0.4 51.7:0.01"
    batch_tokens: int = 4096
    seed: int = 1
    learning_rate: float = 1.5e-3  # where the share is 1
    weight_decay: float = 0.1
    clip: float = 1.0             # of the gradient's norm
    balance_rate: float = 0.01    # step of the correction bias at the start; falls with the learning rate
    expert_dropout: float = 0.4   # largest share of experts hidden, in every other step
    precision: str = "bf16"       # of products; weights and sums are float32
    sizes: str = "nano"


Schedule = list[tuple[float, float]]  # (tokens seen, share of the learning rate), by tokens


def parse_schedule(text: str) -> Schedule:
    """Raises ValueError for anything but at least two pairs of rising tokens and shares of 0 to 1."""
    try:
        points = [(1e6 * float(tokens), float(share)) for tokens, share in (pair.split(":") for pair in text.split())]
    except ValueError:
        points = []
    if len(points) < 2 or points != sorted(dict(points).items()) or any(not 0 <= share <= 1 for _, share in points):
        raise ValueError(f"--schedule: want rising TOKENS:SHARE pairs, millions and 0 to 1, got {text!r}")
    return points


def share_at(schedule: Schedule, seen: float) -> float:
    for (start, first), (end, last) in zip(schedule, schedule[1:]):
        if seen < end:
            return first + (last - first) * max(0.0, seen - start) / (end - start)
    return schedule[-1][1]


def same_until(seen: float, saved: str, other: str) -> bool:
    """Whether both schedules have been the same for the first `seen` tokens: no corner of either is off the other's line.

    The last batch goes beyond the saved schedule's end; that does not count.
    """
    first, second = parse_schedule(saved), parse_schedule(other)
    seen = min(seen, first[-1][0])
    corners = {tokens for tokens, _ in first + second if tokens < seen} | {seen}
    return all(math.isclose(share_at(first, tokens), share_at(second, tokens), abs_tol=1e-9) for tokens in corners)


def balance_share(schedule: Schedule, seen: int) -> float:
    """Full while the learning rate rises for the first time, when the load is least even, then with it."""
    return 1.0 if seen < schedule[1][0] else share_at(schedule, seen)


def make_optimizers(model: Glm4MoeForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon's updates are scaled to the size of AdamW's, so that one learning rate serves both."""
    matrices, experts, others = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and (".self_attn." in name or "_proj." in name):
            matrices.append(parameter)
        elif parameter.dim() > 1 and "embed" not in name and "lm_head" not in name:
            experts.append(parameter)  # and their gates
        else:
            others.append(parameter)
    return [torch.optim.Muon(matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW([{"params": experts, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
                              lr=recipe.learning_rate, betas=(0.9, 0.95), eps=1e-10, fused=True)]


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
        self.recipe, self.schedule, self.device = recipe, parse_schedule(recipe.schedule), device
        tokenizer = load_tokenizer(tokenizer_folder)
        self.renderer = Renderer(tokenizer)
        sizes = {"nano": NANO, "tiny": TINY}[recipe.sizes]
        self.model = make_model(make_config(tokenizer, sizes), tokenizer, recipe.seed, device)
        self.optimizers = make_optimizers(self.model, recipe)
        self.load = ExpertLoad(self.model)
        self.steps, self.seen, self.next_conversation = 0, 0, 0

    def step(self) -> dict[str, float]:
        recipe = self.recipe
        batch = make_batch(self.renderer, recipe.seed, Split.TRAIN, self.next_conversation, recipe.batch_tokens).to(self.device)
        rng = random.Random(f"{recipe.seed}/experts/{self.steps}")
        if recipe.expert_dropout and rng.random() < 0.5:
            self.load.hide(rng, rng.uniform(0.0, recipe.expert_dropout))
        rate = recipe.learning_rate * share_at(self.schedule, self.seen)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = rate
        with torch.autocast(self.device, torch.bfloat16, enabled=recipe.precision == "bf16"):
            loss = batch_loss(self.model, batch)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        with torch.no_grad():
            imbalance = self.load.update(recipe.balance_rate * balance_share(self.schedule, self.seen))
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
        state = {"recipe": asdict(self.recipe), "model": self.model.state_dict(),
                 "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                 "steps": self.steps, "seen": self.seen, "next_conversation": self.next_conversation}
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Raises ValueError where the saved recipe is another one, but for what the schedule says of tokens not seen yet."""
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        saved, ours = state["recipe"], asdict(self.recipe)
        if same_until(state["seen"], saved["schedule"], ours["schedule"]):
            saved["schedule"] = ours["schedule"]
        if saved != ours:
            changed = [key for key, value in ours.items() if saved.get(key) != value]
            raise ValueError(f"{path} was trained with another recipe: {', '.join(changed)} differ")
        self.model.load_state_dict(state["model"])
        for optimizer, saved_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved_state)
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
    end, _ = training.schedule[-1]
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
    print(f"{parameters / 1e6:.1f} M parameters, {training.seen} tokens seen", flush=True)
    if run(training, options.out, options.minutes, options.save_minutes, options.log_every):
        save_checkpoint(training.model, options.tokenizer, options.out / "checkpoint")
        print(f"done: {options.out / 'checkpoint'}")


if __name__ == "__main__":
    main()
