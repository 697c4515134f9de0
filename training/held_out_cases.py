"""The held-out conversations that a checkpoint is measured on, by column of the accuracy table, and the calls in a text."""
from __future__ import annotations

import json
import re
from typing import Any, Callable

from corpus.conversation import Conversation, Split
from corpus.mixture import of_topic
from corpus.topics import arithmetic, facts, json_answers, no_tools, refusals, tool_calls


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
    def calls(index: int) -> Conversation | None:
        made = of_topic(tool_calls, seed, Split.HELD_OUT, index)
        return until_last_call(made) if made.topic == tool_calls.TOPIC else None

    return {"tools": cases_of(calls, count),
            **{name: cases_of(lambda index, module=module: of_topic(module, seed, Split.HELD_OUT, index), count)
               for name, module in (("refusals", refusals), ("no_tools", no_tools), ("arithmetic", arithmetic),
                                    ("facts", facts), ("json", json_answers))}}
