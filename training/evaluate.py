"""Measures a checkpoint on held-out conversations, greedily, through transformers or through a running Sheaf.

python evaluate.py --checkpoint DIR [--cases 300] [--texts FILE] prints one JSON line of accuracies.
python evaluate.py --checkpoint DIR --url http://127.0.0.1:8000 asks the server instead; the checkpoint's tokenizer is still
needed. Where tools are declared the rendered prompt goes to /v1/completions, else the messages to /v1/chat/completions; the
server must have made the same prompt tokens of either.
python evaluate.py --compare FILE FILE [--checkpoint DIR] says how many of the saved greedy texts of two runs are equal and
lists the others; with a checkpoint also by how much the two runs' first different tokens differ in log-probability there.
python evaluate.py --table FILE... shows such JSON lines, one a file, as a Markdown table.

Columns: tools (names and arguments of all calls exact), refusals (of a tool where others are declared), no_tools (where none
is), arithmetic, facts (the answer exact), json (valid) and json_exact, stop (the right stop token for what was said,
<|observation|> after a call, else <|user|>; over all cases), loss (of learnt held-out tokens).
"""
from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Iterator, Protocol

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, DynamicCache, Glm4MoeForCausalLM

from batches import Batch, make_batch
from corpus.conversation import Conversation, Split
from held_out_cases import Calls, all_cases, parse_calls
from model import load_tokenizer, read_json
from quantized_weights import load_quantized
from rendering import OBSERVATION, USER, Renderer
from tokenizer import END_TOKENS
from train import batch_loss, keep_freed_memory

MAX_NEW_TOKENS = 256
BATCH = 128     # prompts at once, by transformers
REQUESTS = 16   # at once, to a server


@dataclass
class Answer:
    """text: everything generated but the stop token. stop: the end token's text, or "" at the length limit. tokens: all."""

    text: str
    stop: str
    tokens: list[int]


def content_of(text: str) -> str:
    return text.rpartition("</think>")[2].strip()


def expected_calls(conversation: Conversation, renderer: Renderer) -> Calls | None:
    """Of the right answer, through the same rendering and parser."""
    whole = renderer.text(conversation.messages, conversation.tools, conversation.thinking, False)
    return parse_calls(whole[len(renderer.prompt(conversation)):], conversation.tools)


def stop_after(text: str) -> str:
    """The token that ends a turn in which this was said."""
    return OBSERVATION if "<tool_call>" in text else USER


def right(column: str, conversation: Conversation, answer: Answer, renderer: Renderer) -> bool:
    if column == "tools":
        return parse_calls(answer.text, conversation.tools) == expected_calls(conversation, renderer)
    if column == "json":
        try:
            json.loads(content_of(answer.text))
        except ValueError:
            return False
        return True
    return content_of(answer.text) == conversation.answer["content"].strip()


class Speaker(Protocol):
    def answers(self, conversations: list[Conversation]) -> list[Answer]: ...
    def held_out_loss(self, seed: int, tokens: int) -> float: ...


class TransformersSpeaker:
    """Greedy decoding by transformers' model with its KV cache, prompts of similar length together, padded on the left.

    A row that has ended leaves the batch, so one long answer holds up nobody.
    """

    def __init__(self, model: Glm4MoeForCausalLM, renderer: Renderer) -> None:
        self._model, self._renderer = model, renderer
        self._ends = [renderer.tokenizer.token_to_id(token) for token in END_TOKENS]

    def answers(self, conversations: list[Conversation]) -> list[Answer]:
        tokenizer = self._renderer.tokenizer
        prompts = [prompt_tokens(self._renderer, one) for one in conversations]
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        found: dict[int, Answer] = {}
        for start in range(0, len(order), BATCH):
            chosen = order[start:start + BATCH]
            for index, tokens in zip(chosen, self.continuations([prompts[index] for index in chosen])):
                found[index] = as_answer(tokenizer, tokens, self.is_end(tokens[-1]))
        return [found[index] for index in range(len(prompts))]

    @torch.no_grad()
    def continuations(self, prompts: list[list[int]], limit: int = MAX_NEW_TOKENS) -> list[list[int]]:
        """Of all prompts in one batch, each up to and with its end token."""
        width, pad = max(map(len, prompts)), self._ends[0]
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache(config=self._model.config)
        rows, ends = torch.arange(len(prompts)), torch.tensor(self._ends)
        written: list[list[int]] = [[] for _ in prompts]
        for _ in range(limit):
            logits = self._model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
                                 use_cache=True, logits_to_keep=1).logits[:, -1]
            chosen = logits.argmax(1)
            for row, token in zip(rows.tolist(), chosen.tolist()):
                written[row].append(token)
            goes_on = ~torch.isin(chosen, ends)
            if not goes_on.any():
                break
            if not goes_on.all():
                cache.batch_select_indices(goes_on)
                rows, chosen, mask, positions = rows[goes_on], chosen[goes_on], mask[goes_on], positions[goes_on]
            ids, positions = chosen.unsqueeze(1), positions[:, -1:] + 1
            mask = torch.cat((mask, mask.new_ones(len(mask), 1)), 1)
        return written

    def is_end(self, token: int) -> bool:
        return token in self._ends

    @torch.no_grad()
    def least_gap(self, prompt: list[int], answer: list[int]) -> float:
        """How near the answer's greedy choices were to another: the smallest lead of a token over the second best."""
        logits = self._model(input_ids=torch.tensor([prompt + answer[:-1]]), logits_to_keep=len(answer)).logits[0]
        best = logits.topk(2, 1).values
        return float((best[:, 0] - best[:, 1]).min())

    @torch.no_grad()
    def held_out_loss(self, seed: int, tokens: int) -> float:
        """Mean over the learnt tokens of the first held-out conversations."""
        self._model.set_attn_implementation("documents")
        total, count = 0.0, 0
        for batch in held_out_batches(self._renderer, seed, tokens):
            total += float(batch_loss(self._model, batch)) * len(batch.targets)
            count += len(batch.targets)
        self._model.set_attn_implementation("sdpa")
        return total / count


class ServerSpeaker:
    """Greedy decoding by a running Sheaf, several requests at once."""

    def __init__(self, url: str, model_name: str, renderer: Renderer) -> None:
        self._url, self._model_name, self._renderer = url.rstrip("/"), model_name, renderer

    def answers(self, conversations: list[Conversation]) -> list[Answer]:
        with ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(self.answer, conversations))

    def answer(self, conversation: Conversation, limit: int = MAX_NEW_TOKENS) -> Answer:
        body: dict[str, Any] = {"temperature": 0, "max_tokens": limit, "return_token_ids": True}
        if needs_rendered_prompt(conversation):
            choice, prompt = self._post("/v1/completions", body | {"prompt": self._renderer.prompt(conversation),
                                                                   "add_special_tokens": False})
        else:
            body["messages"] = conversation.messages[:-1]
            if not conversation.thinking:
                body["chat_template_kwargs"] = {"enable_thinking": False}
            choice, prompt = self._post("/v1/chat/completions", body)
        if prompt != prompt_tokens(self._renderer, conversation):
            raise ValueError(f"the server's prompt is another one than the template's: {conversation.messages}")
        return as_answer(self._renderer.tokenizer, choice["token_ids"], choice["finish_reason"] == "stop")

    def held_out_loss(self, seed: int, tokens: int) -> float:
        """As transformers' speaker measures it, from the log-probabilities of each conversation's tokens."""
        documents = [(batch.tokens[0, start:start + length].tolist(), {place - start + 1 for place in batch.places.tolist()})
                     for batch in held_out_batches(self._renderer, seed, tokens)
                     for start, length in zip(accumulate(batch.lengths, initial=0), batch.lengths)]
        with ThreadPoolExecutor(REQUESTS) as pool:
            losses = [loss for some in pool.map(lambda document: self._losses(*document), documents) for loss in some]
        return sum(losses) / len(losses)

    def _losses(self, tokens: list[int], learnt: set[int]) -> list[float]:
        choice, _ = self._post("/v1/completions", {"prompt": tokens, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0,
                                                   "return_token_ids": True})
        return [-choice["prompt_logprobs"][place][str(token)]["logprob"] for place, token in enumerate(tokens) if place in learnt]

    def _post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """(the only choice, the prompt's tokens)."""
        request = urllib.request.Request(self._url + path, json.dumps({"model": self._model_name, **body}).encode(),
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=600) as reply:
                answer = json.load(reply)
        except urllib.error.HTTPError as error:
            raise ValueError(f"{path}: {error.code} {error.read().decode(errors='replace')}") from None
        choice = answer["choices"][0]
        return choice, choice.get("prompt_token_ids") or answer["prompt_token_ids"]


def needs_rendered_prompt(conversation: Conversation) -> bool:
    """So the prompt is the training's own to the letter; measure_tool_api.py asks the chat endpoint with tools."""
    return bool(conversation.tools) or any(message["role"] == "tool" for message in conversation.messages)


def prompt_tokens(renderer: Renderer, conversation: Conversation) -> list[int]:
    return renderer.tokenizer.encode(renderer.prompt(conversation), add_special_tokens=False).ids


def as_answer(tokenizer: Tokenizer, tokens: list[int], ended: bool) -> Answer:
    """ended: the last token is the stop token."""
    said = tokens[:-1] if ended else tokens
    return Answer(tokenizer.decode(said, skip_special_tokens=False), tokenizer.id_to_token(tokens[-1]) if ended else "", tokens)


def held_out_batches(renderer: Renderer, seed: int, tokens: int) -> Iterator[Batch]:
    place, seen = 0, 0
    while seen < tokens:
        batch = make_batch(renderer, seed, Split.HELD_OUT, place, 4096)
        yield batch
        place, seen = batch.next_conversation, seen + batch.tokens.numel()


def load_model(folder: Path) -> Glm4MoeForCausalLM:
    """Computed in float32, whatever the files hold. ValueError where the files and the model's weights are not the same set."""
    if "quantization_config" in read_json(folder / "config.json"):
        model = load_quantized(folder)
    else:
        model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        wrong = {kind: sorted(names) for kind, names in report.items() if names}
        if wrong:
            raise ValueError(f"{folder}: {wrong}")
    model.set_experts_implementation("looped")
    return model.eval()


def evaluate(speaker: Speaker, renderer: Renderer, count: int, seed: int, loss_tokens: int, texts: Path | None) -> dict[str, float]:
    cases = [(column, one) for column, conversations in all_cases(count, seed).items() for one in conversations]
    lines = [{"column": column, "case": number % count, "right": right(column, one, answer, renderer), "stop": answer.stop,
              "stop_right": answer.stop == stop_after(answer.text), "text": answer.text, "prompt": renderer.prompt(one),
              "expected": renderer.training_text(one)[len(renderer.prompt(one)):],
              "exact": content_of(answer.text) == one.answer["content"].strip(), "tokens": answer.tokens}
             for number, ((column, one), answer) in enumerate(zip(cases, speaker.answers([one for _, one in cases])))]
    if texts:
        texts.parent.mkdir(parents=True, exist_ok=True)
        texts.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")

    def share(key: str, column: str | None = None) -> float:
        marks = [line[key] for line in lines if column in (None, line["column"])]
        return sum(marks) / len(marks)

    table = {column: share("right", column) for column in dict(cases)}
    table |= {"json_exact": share("exact", "json"), "stop": share("stop_right"),
              "loss": speaker.held_out_loss(seed, loss_tokens)}
    return {name: round(value, 4) for name, value in table.items()}


def compare(first: Path, second: Path, checkpoint: Path | None) -> dict[str, Any]:
    one, other = ([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in (first, second))
    model = load_model(checkpoint) if checkpoint else None
    tokenizer = load_tokenizer(checkpoint) if checkpoint else None
    different = []
    for a, b in zip(one, other, strict=True):
        if a["prompt"] != b["prompt"]:
            raise ValueError(f"{a['column']} {a['case']}: the two runs had different prompts")
        if (a["text"], a["stop"]) != (b["text"], b["stop"]):
            found = {"column": a["column"], "case": a["case"], "first": a["text"] + a["stop"], "second": b["text"] + b["stop"]}
            if model:
                prompt = tokenizer.encode(a["prompt"], add_special_tokens=False).ids
                found["gap"] = gap(model, prompt, a["tokens"], b["tokens"])
            different.append(found)
    by_column = {column: round(1 - sum(found["column"] == column for found in different)
                               / sum(line["column"] == column for line in one), 4)
                 for column in dict.fromkeys(line["column"] for line in one)}
    return {"cases": len(one), "equal": round(1 - len(different) / len(one), 4), "equal_by_column": by_column,
            "different": different}


@torch.no_grad()
def gap(model: Glm4MoeForCausalLM, prompt: list[int], first: list[int], second: list[int]) -> float:
    """Log-probability of the first answer's token minus that of the second's, where the two part. Near 0: nearly a tie."""
    place = next(index for index, (ours, theirs) in enumerate(zip(first, second)) if ours != theirs)
    logits = model(input_ids=torch.tensor([prompt + first[:place]]), logits_to_keep=1).logits[0, -1]
    return round(float(logits[first[place]] - logits[second[place]]), 4)


def markdown_table(files: list[Path]) -> str:
    """A row a file, named as the file is; shares in per cent."""
    rows = [(path.stem, read_json(path)) for path in files]
    columns = [name for name in rows[0][1] if name not in ("checkpoint", "cases")]
    lines = ["| | " + " | ".join(columns) + " |", "|---" + "|---:" * len(columns) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{row[column]:.3f}" if column == "loss" else f"{100 * row[column]:.1f}"
                                          for column in columns) + " |" for name, row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--url", help="of a running Sheaf; without it transformers computes")
    parser.add_argument("--model-name", help="as the server calls it; the folder's name by default")
    parser.add_argument("--cases", type=int, default=300, help="a column")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loss-tokens", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--texts", type=Path, help="saves every greedy text, a JSON line each")
    parser.add_argument("--compare", type=Path, nargs=2)
    parser.add_argument("--table", type=Path, nargs="+")
    options = parser.parse_args()
    if options.table:
        print(markdown_table(options.table))
        return
    if options.compare:
        print(json.dumps(compare(*options.compare, options.checkpoint), ensure_ascii=False, indent=1))
        return
    if options.checkpoint is None:
        parser.error("--checkpoint is needed")
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    renderer = Renderer(load_tokenizer(options.checkpoint))
    speaker: Speaker = (ServerSpeaker(options.url, options.model_name or options.checkpoint.name, renderer) if options.url
                        else TransformersSpeaker(load_model(options.checkpoint), renderer))
    table = evaluate(speaker, renderer, options.cases, options.seed, options.loss_tokens, options.texts)
    print(json.dumps({"checkpoint": options.checkpoint.name, "cases": options.cases, **table}))


if __name__ == "__main__":
    main()
