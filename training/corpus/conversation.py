"""One training conversation in OpenAI's shape, and what a right answer to it is.

A Conversation ends with the assistant's message that is to be learnt. `messages` and `tools` go to the chat template as
they are; nothing else is added to the text. A Split says from which half of the lexicon names, tools and numbers come.
"""
from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
Tool = dict[str, Any]


class Split(enum.Enum):
    """The two never share a made-up name, a tool, an operand pair or a (fact, wording) pair."""

    TRAIN = "train"
    HELD_OUT = "held_out"


@dataclass
class Conversation:
    """topic: the module that made it. thinking: False renders with enable_thinking=false (and `/nothink`)."""

    topic: str
    messages: list[Message]
    tools: list[Tool] = field(default_factory=list)
    thinking: bool = True

    @property
    def answer(self) -> Message:
        """The last assistant message: what a model should say to everything before it."""
        return self.messages[-1]

    @property
    def ends_in_tool_call(self) -> bool:
        """True where the right stop token is `<|observation|>`, also for a call written inside the reasoning."""
        return bool(self.answer.get("tool_calls")) or "<tool_call>" in self.answer.get("reasoning_content", "")


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str, reasoning: str = "", calls: list[tuple[str, dict[str, Any]]] | None = None) -> Message:
    """calls: (tool name, arguments) in the order in which they are written."""
    message: Message = {"role": "assistant", "content": text}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [{"id": f"call_{number}", "type": "function",
                                  "function": {"name": name, "arguments": arguments}}
                                 for number, (name, arguments) in enumerate(calls)]
    return message


def tool_result(text: str, number: int = 0) -> Message:
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": text}


def without_thinking(messages: list[Message]) -> list[Message]:
    """The same messages with every reasoning taken out, for enable_thinking=false."""
    return [{key: value for key, value in message.items() if key != "reasoning_content"} for message in messages]
