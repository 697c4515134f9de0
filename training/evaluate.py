"""Measures a checkpoint on held-out conversations, greedily, through transformers or through a running Sheaf.

python evaluate.py --checkpoint DIR [--cases 300] [--texts FILE] prints one JSON line of accuracies.
python evaluate.py --checkpoint DIR --url http://127.0.0.1:8000 asks the server instead; the checkpoint's tokenizer is still
needed. Where tools are declared the rendered prompt goes to /v1/completions, else the messages to /v1/chat/completions.
python evaluate.py --compare FILE FILE says how many of the saved greedy texts of two runs are equal.

Columns: tools (names and arguments of all calls exact), refusals (a tool that is not declared), arithmetic, facts (the
answer exact), json (valid) and json_exact, stop (the right stop token, over all cases), loss (of learnt held-out tokens).
"""
from __future__ import annotations

import argparse
import json
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Protocol

import torch
from transformers import Glm4MoeForCausalLM

from batches import make_batch
from corpus.conversation import Conversation, Split
from corpus.mixture import of_topic
from corpus.topics import arithmetic, facts, json_answers, tool_calls
from model import load_tokenizer, read_json
from quantized_weights import load_quantized
from rendering import Renderer
from tokenizer import END_TOKENS
from train import batch_loss

MAX_NEW_TOKENS = 256
BATCH = 32


@dataclass
class Answer:
    """text: everything generated but the stop token. stop: the end token's text, or "" at the length limit."""

    text: str
    stop: str


Calls = list[tuple[str, dict[str, Any]]]


def parse_calls(text: str, tools: list[dict[str, Any]]) -> Calls | None:
    """The calls in a generated text, values typed by the declared schema; None where one cannot be read."""
    schemas = {tool["function"]["name"]: tool["function"]["parameters"]["properties"] for tool in tools}
    calls: Calls = []
    for body in re.findall(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL):
        name = body.split("<arg_key>")[0].strip()
        if name not in schemas:
            return None
        arguments: dict[str, Any] = {}
        for key, value in re.findall(r"<arg_key>(.*?)</arg_key>\n<arg_value>(.*?)</arg_value>", body, re.DOTALL):
            if schemas[name].get(key, {"type": "string"})["type"] == "string":
                arguments[key] = value
                continue
            try:
                arguments[key] = json.loads(value)
            except ValueError:
                return None
        calls.append((name, arguments))
    return calls


def content_of(text: str) -> str:
    return text.rpartition("</think>")[2].strip()


def expected_calls(conversation: Conversation, renderer: Renderer) -> Calls | None:
    """Of the right answer, through the same rendering and parser."""
    whole = renderer.text(conversation.messages, conversation.tools, conversation.thinking, False)
    return parse_calls(whole[len(renderer.prompt(conversation)):], conversation.tools)


def until_last_call(conversation: Conversation) -> Conversation | None:
    """Cut so that the last message is a call; None where there is none."""
    for end in range(len(conversation.messages), 0, -1):
        cut = Conversation(conversation.topic, conversation.messages[:end], conversation.tools, conversation.thinking)
        if cut.answer["role"] == "assistant" and cut.ends_in_tool_call:
            return cut
    return None


def cases_of(make: Callable[[int], Conversation | None], count: int) -> list[Conversation]:
    found: list[Conversation] = []
    index = 0
    while len(found) < count:
        made = make(index)
        index += 1
        if made is not None and made.answer["role"] == "assistant":
            found.append(made)
    return found


def all_cases(count: int, seed: int) -> dict[str, list[Conversation]]:
    """By column; every column's conversations are held out."""
    refusals = SimpleNamespace(make=tool_calls.refusal, TOPIC="refusals")

    def calls(index: int) -> Conversation | None:
        made = of_topic(tool_calls, seed, Split.HELD_OUT, index)
        return until_last_call(made) if made.topic == tool_calls.TOPIC else None

    return {"tools": cases_of(calls, count),
            **{name: cases_of(lambda index, module=module: of_topic(module, seed, Split.HELD_OUT, index), count)
               for name, module in (("refusals", refusals), ("arithmetic", arithmetic), ("facts", facts),
                                    ("json", json_answers))}}


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


class TransformersSpeaker:
    """Greedy decoding by transformers' generate, padded batches of prompts of similar length."""

    def __init__(self, model: Glm4MoeForCausalLM, renderer: Renderer) -> None:
        self._model, self._renderer = model, renderer
        self._ends = [renderer.tokenizer.token_to_id(token) for token in END_TOKENS]

    @torch.no_grad()
    def answers(self, conversations: list[Conversation]) -> list[Answer]:
        tokenizer = self._renderer.tokenizer
        prompts = [tokenizer.encode(self._renderer.prompt(one), add_special_tokens=False).ids for one in conversations]
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        found: dict[int, Answer] = {}
        for start in range(0, len(order), BATCH):
            chosen = order[start:start + BATCH]
            width = max(len(prompts[index]) for index in chosen)
            ids = torch.tensor([[self._ends[0]] * (width - len(prompts[i])) + prompts[i] for i in chosen])
            mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in chosen])
            output = self._model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=MAX_NEW_TOKENS,
                                          eos_token_id=self._ends, pad_token_id=self._ends[0])
            for index, row in zip(chosen, output[:, width:].tolist()):
                found[index] = self._cut(row)
        return [found[index] for index in range(len(prompts))]

    def _cut(self, row: list[int]) -> Answer:
        for place, token in enumerate(row):
            if token in self._ends:
                return Answer(self._renderer.tokenizer.decode(row[:place], skip_special_tokens=False),
                              self._renderer.tokenizer.id_to_token(token))
        return Answer(self._renderer.tokenizer.decode(row, skip_special_tokens=False), "")


class ServerSpeaker:
    """Greedy decoding by a running Sheaf, one request after the other."""

    def __init__(self, url: str, model_name: str, renderer: Renderer) -> None:
        self._url, self._model_name, self._renderer = url.rstrip("/"), model_name, renderer

    def answers(self, conversations: list[Conversation]) -> list[Answer]:
        return [self._answer(conversation) for conversation in conversations]

    def _answer(self, conversation: Conversation) -> Answer:
        body: dict[str, Any] = {"model": self._model_name, "temperature": 0, "max_tokens": MAX_NEW_TOKENS,
                                "return_token_ids": True, "skip_special_tokens": False}
        if conversation.tools or any(message["role"] == "tool" for message in conversation.messages):
            path = "/v1/completions"
            body |= {"prompt": self._renderer.prompt(conversation), "add_special_tokens": False}
        else:
            path = "/v1/chat/completions"
            body["messages"] = conversation.messages[:-1]
            if not conversation.thinking:
                body["chat_template_kwargs"] = {"enable_thinking": False}
        request = urllib.request.Request(self._url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as reply:
            choice = json.load(reply)["choices"][0]
        tokens, tokenizer = choice["token_ids"], self._renderer.tokenizer
        ended = choice["finish_reason"] == "stop" and tokens
        stop = tokenizer.id_to_token(tokens[-1]) if ended else ""
        return Answer(tokenizer.decode(tokens[:-1] if ended else tokens, skip_special_tokens=False), stop)


@torch.no_grad()
def held_out_loss(model: Glm4MoeForCausalLM, renderer: Renderer, seed: int, tokens: int) -> float:
    model.set_attn_implementation("documents")
    total, count, place, seen = 0.0, 0, 0, 0
    while seen < tokens:
        batch = make_batch(renderer, seed, Split.HELD_OUT, place, 4096)
        total += float(batch_loss(model, batch)) * len(batch.targets)
        count, place, seen = count + len(batch.targets), batch.next_conversation, seen + batch.tokens.numel()
    model.set_attn_implementation("sdpa")
    return total / count


def load_model(folder: Path) -> Glm4MoeForCausalLM:
    """Computed in float32, whatever the files hold."""
    if "quantization_config" in read_json(folder / "config.json"):
        return load_quantized(folder)
    return Glm4MoeForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def evaluate(speaker: Speaker, renderer: Renderer, count: int, seed: int, texts: Path | None) -> dict[str, float]:
    table: dict[str, float] = {}
    stops, total, lines = 0, 0, []
    for column, conversations in all_cases(count, seed).items():
        answers = speaker.answers(conversations)
        rights = [right(column, one, answer, renderer) for one, answer in zip(conversations, answers)]
        table[column] = sum(rights) / count
        if column == "json":
            table["json_exact"] = sum(content_of(answer.text) == one.answer["content"]
                                      for one, answer in zip(conversations, answers)) / count
        stops += sum(answer.stop == renderer.stop_token(one) for one, answer in zip(conversations, answers))
        total += count
        lines += [{"column": column, "case": number, "right": found, "stop": answer.stop, "text": answer.text,
                   "expected": renderer.training_text(one)[len(renderer.prompt(one)):]}
                  for number, (one, answer, found) in enumerate(zip(conversations, answers, rights))]
    table["stop"] = stops / total
    if texts:
        texts.parent.mkdir(parents=True, exist_ok=True)
        texts.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return {name: round(value, 4) for name, value in table.items()}


def compare(first: Path, second: Path) -> dict[str, Any]:
    one, other = ([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in (first, second))
    different = [(a, b) for a, b in zip(one, other, strict=True) if (a["text"], a["stop"]) != (b["text"], b["stop"])]
    return {"cases": len(one), "equal": round(1 - len(different) / len(one), 4),
            "different": [{"column": a["column"], "case": a["case"], "first": a["text"], "second": b["text"]} for a, b in different]}


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
    options = parser.parse_args()
    if options.compare:
        print(json.dumps(compare(*options.compare), ensure_ascii=False, indent=1))
        return
    if options.checkpoint is None:
        parser.error("--checkpoint is needed")
    torch.set_num_threads(options.threads)
    renderer = Renderer(load_tokenizer(options.checkpoint))
    if options.url:
        speaker: Speaker = ServerSpeaker(options.url, options.model_name or options.checkpoint.name, renderer)
        table = evaluate(speaker, renderer, options.cases, options.seed, options.texts)
    else:
        model = load_model(options.checkpoint)
        table = evaluate(TransformersSpeaker(model, renderer), renderer, options.cases, options.seed, options.texts)
        table["loss"] = round(held_out_loss(model, renderer, options.seed, options.loss_tokens), 4)
    print(json.dumps({"checkpoint": options.checkpoint.name, "cases": options.cases, **table}))


if __name__ == "__main__":
    main()
