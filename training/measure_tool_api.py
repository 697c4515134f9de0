"""The accuracy table's tool column through /v1/chat/completions: the same held-out cases, asked with `tools`.

python measure_tool_api.py [--url http://127.0.0.1:8000] [--cases 300] [--seed 1] prints one JSON line: percent of the cases whose
calls are exact (names and arguments), asked whole and streamed, and in how many the two answers differ (wanted: none).
Greedy. Needs nothing but Python.
"""
from __future__ import annotations

import argparse
import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator

from corpus.conversation import Conversation
from held_out_cases import all_cases, parse_calls

REQUESTS = 8
Message = dict[str, Any]


def body_of(conversation: Conversation) -> dict[str, Any]:
    body: dict[str, Any] = {"temperature": 0, "max_tokens": 512, "messages": conversation.messages[:-1],
                            "tools": conversation.tools}
    if not conversation.thinking:
        body["chat_template_kwargs"] = {"enable_thinking": False}
    return body


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=600)


def whole(url: str, body: dict[str, Any]) -> Message:
    with post(url, body) as reply:
        choice = json.load(reply)["choices"][0]
    message = choice["message"]
    return {"content": message["content"] or "", "reasoning": message.get("reasoning") or "",
            "calls": [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", [])],
            "finish": choice["finish_reason"]}


def chunks(url: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with post(url, {**body, "stream": True}) as reply:
        for line in reply:
            if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                yield json.loads(line[6:])["choices"][0]


def streamed(url: str, body: dict[str, Any]) -> Message:
    said: Message = {"content": "", "reasoning": "", "calls": [], "finish": None}
    for choice in chunks(url, body):
        delta = choice["delta"]
        said["content"] += delta.get("content") or ""
        said["reasoning"] += delta.get("reasoning") or ""
        for call in delta.get("tool_calls", []):
            if "id" in call:
                said["calls"].append((call["function"]["name"], ""))
            name, arguments = said["calls"][call["index"]]
            said["calls"][call["index"]] = (name, arguments + call["function"]["arguments"])
        said["finish"] = choice["finish_reason"] or said["finish"]
    return said


def is_exact(conversation: Conversation, said: Message) -> bool:
    answer = conversation.answer
    wanted = (parse_calls(answer.get("reasoning_content", ""), conversation.tools) or []) + [
        (call["function"]["name"], call["function"]["arguments"]) for call in answer.get("tool_calls", [])]
    try:
        return [(name, json.loads(arguments)) for name, arguments in said["calls"]] == wanted
    except ValueError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    conversations = all_cases(arguments.cases, arguments.seed)["tools"]
    with ThreadPoolExecutor(REQUESTS) as pool:
        answers = {ask.__name__: list(pool.map(lambda each, ask=ask: ask(arguments.url, body_of(each)), conversations))
                   for ask in (whole, streamed)}
    exact = {name: 100 * sum(map(is_exact, conversations, said)) / len(said) for name, said in answers.items()}
    different = sum(first != second for first, second in zip(answers["whole"], answers["streamed"]))
    print(json.dumps({**exact, "different": different, "cases": len(conversations)}))


if __name__ == "__main__":
    main()
