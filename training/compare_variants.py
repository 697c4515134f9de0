"""Serves quantized checkpoints by Sheaf and compares the logits with transformers'.

python compare_variants.py --variants DIR --reference-only      transformers' logits of every checkpoint in DIR, once: NAME.npz
python compare_variants.py --sheaf BINARY --variants DIR [--only NAME,...] [--cases 300]

The reference is transformers' model in float32 with the weights that the checkpoint's codes stand for, as quantized_weights.py
reads them: no code is Sheaf's. Prompts are held-out conversations; every position counts. The error is the relative L2 error of
logits with their mean removed (softmax does not see it).

A token's experts are chosen by comparison: where the 8th and the 9th are nearly equal, rounding may choose another, and the
logits from there on are those of another sum. So the bound holds for the positions before a prompt's first such choice,
and the median over all of them. With --cases the held-out accuracies are measured too, as evaluate.py does, and shown as a table.
The exit status is 1 where a checkpoint is beyond the bound.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BOUND = 3e-4            # as tests/process/test_logits.py has it
# Between two experts' scores: several times what our rounding moves them. Below it another choice is right too.
LEAST_MARGIN = 1e-4
PROMPTS, MAX_PROMPT_TOKENS = 20, 160


def checkpoints(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/config.json"))


def reference_path(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name + ".npz")


def prompts(checkpoint: Path) -> list[list[int]]:
    """Held-out conversations of every column, answers included, in turn; the same for every checkpoint of one tokenizer."""
    from held_out_cases import all_cases
    from model import load_tokenizer
    from rendering import Renderer

    renderer = Renderer(load_tokenizer(checkpoint))
    found: list[list[int]] = []
    for row in zip(*all_cases(PROMPTS, 7).values()):
        for conversation in row:
            tokens = renderer.training_tokens(conversation).tokens
            if len(tokens) <= MAX_PROMPT_TOKENS and len(found) < PROMPTS:
                found.append(tokens)
    return found


def write_reference(checkpoint: Path) -> None:
    """ids, and of every position logits [T, vocab] and its expert choices' smallest margin [T]; prompts one after the other."""
    import torch

    from evaluate import load_model
    from model import routers

    model = load_model(checkpoint)
    margins: list[Any] = []

    def note(router: Any, _: Any, output: Any) -> None:
        logits = output[0] if isinstance(output, tuple) else output
        choice = logits.float().sigmoid() + router.e_score_correction_bias
        best = choice.topk(model.config.num_experts_per_tok + 1, -1).values
        margins[-1].append(best[:, -2] - best[:, -1])

    for router in routers(model):
        router.register_forward_hook(note)
    ids, lengths, rows, least = [], [], [], []
    for prompt in prompts(checkpoint):
        margins.append([])
        with torch.no_grad():
            rows.append(model(input_ids=torch.tensor([prompt])).logits[0].float().numpy())
        least.append(torch.stack(margins[-1]).amin(0).numpy())
        ids += prompt
        lengths.append(len(prompt))
    np.savez(reference_path(checkpoint), ids=np.array(ids), lengths=np.array(lengths), logits=np.concatenate(rows),
             margins=np.concatenate(least))


def errors(got: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    got = got - got.mean(1, keepdims=True)
    wanted = wanted - wanted.mean(1, keepdims=True)
    return np.linalg.norm(got - wanted, axis=1) / np.linalg.norm(wanted, axis=1)


def compared(server: Any, reference: dict[str, np.ndarray]) -> dict[str, float]:
    from answers import logits

    found, clear, agree = [], [], []
    place = 0
    for length in reference["lengths"]:
        prompt = slice(place, place + int(length))
        place += int(length)
        wanted = reference["logits"][prompt].astype(np.float64)
        got = logits(server, reference["ids"][prompt].tolist(), wanted.shape[1])
        found.append(errors(got, wanted))
        clear.append(np.logical_and.accumulate(reference["margins"][prompt] >= LEAST_MARGIN))
        agree.append(got.argmax(1) == wanted.argmax(1))
    error, is_clear = np.concatenate(found), np.concatenate(clear)
    return {"positions": len(error), "clear": int(is_clear.sum()), "largest of clear": float(error[is_clear].max()),
            "median": float(np.median(error)), "largest": float(error.max()),
            "same best token": float(np.concatenate(agree).mean())}


def measured(server: Any, checkpoint: Path, cases: int, threads: int) -> str:
    """evaluate.py's JSON line."""
    command = [sys.executable, str(Path(__file__).with_name("evaluate.py")), "--checkpoint", str(checkpoint), "--url", server.http,
               "--cases", str(cases), "--threads", str(threads)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--sheaf", type=Path)
    parser.add_argument("--reference-only", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","), help="names, separated by commas")
    parser.add_argument("--workers", default="2", help="worker processes of each server; 0 for none")
    parser.add_argument("--cases", type=int, default=0, help="a column of the accuracy table")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.sheaf is None and not options.reference_only:
        parser.error("--sheaf is needed")
    chosen = [path for path in checkpoints(options.variants) if not options.only or path.name in options.only]
    for checkpoint in chosen:
        if not reference_path(checkpoint).exists():
            import torch

            torch.set_num_threads(options.threads)
            write_reference(checkpoint)
    if options.reference_only:
        return 0
    os.environ["SHEAF_BINARY"] = str(options.sheaf.resolve())
    sys.path.append(str(ROOT / "tests/process"))
    from sheaf_server import SheafServer

    beyond = False
    accuracies: list[Path] = []
    for checkpoint in chosen:
        reference = dict(np.load(reference_path(checkpoint)))
        try:
            with SheafServer(checkpoint, "--workers", options.workers, "--max-logprobs", "-1",
                             "--kv-cache-dtype", "float32") as server:
                figures = compared(server, reference)
                if options.cases:
                    accuracies.append(checkpoint.with_name(checkpoint.name + "-by-sheaf.json"))
                    accuracies[-1].write_text(measured(server, checkpoint, options.cases, options.threads))
        except RuntimeError as error:
            print(f"{checkpoint.name}: {error}")
            beyond = True
            continue
        within = figures["largest of clear"] <= BOUND and figures["median"] <= BOUND
        beyond |= not within
        print(f"{checkpoint.name}: {'within' if within else 'BEYOND'} {BOUND:.0e}: "
              + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)
    if accuracies:
        from evaluate import markdown_table

        print(markdown_table(accuracies))
    return int(beyond)


if __name__ == "__main__":
    sys.exit(main())
