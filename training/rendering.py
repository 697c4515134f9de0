"""Conversations as text and tokens, by the chat template alone, and which of the tokens are to be learnt.

Learnt are the assistant's tokens, and the role token that ends its turn; never what a user, a system message or a tool says.
Of an earlier turn whose reasoning the template dropped nothing is learnt, because it is not what the model would have said.
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Template
from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from corpus.conversation import Conversation, Message, Tool

TEMPLATE_FILE = Path(__file__).with_name("chat_template.jinja")
ASSISTANT, USER, OBSERVATION = "<|assistant|>", "<|user|>", "<|observation|>"
NO_THOUGHT = "\n<think></think>"


def load_template(path: Path = TEMPLATE_FILE) -> Template:
    """In the environment that transformers renders templates in."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])

    def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None,
                separators: tuple[str, str] | None = None, sort_keys: bool = False) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(path.read_text(encoding="utf-8"))


@dataclass
class Rendered:
    """tokens[i] is learnt (predicted from those before it) where learnt[i]; both have the same length."""

    tokens: list[int]
    learnt: list[bool]


class Renderer:
    """Holds the template and the tokenizer; thread-compatible, no state between calls."""

    def __init__(self, tokenizer: Tokenizer, template: Template | None = None) -> None:
        self.tokenizer = tokenizer
        self._template = template or load_template()
        self._assistant, self._user, self._observation = (
            tokenizer.token_to_id(token) for token in (ASSISTANT, USER, OBSERVATION))
        self._no_thought = tokenizer.encode(NO_THOUGHT, add_special_tokens=False).ids

    def text(self, messages: list[Message], tools: list[Tool], thinking: bool, generation_prompt: bool) -> str:
        arguments: dict[str, Any] = {"messages": messages, "add_generation_prompt": generation_prompt}
        if tools:
            arguments["tools"] = tools
        if not thinking:
            arguments["enable_thinking"] = False
        return self._template.render(**arguments)

    def prompt(self, conversation: Conversation) -> str:
        """Everything before the last answer, with the start of the assistant's turn."""
        return self.text(conversation.messages[:-1], conversation.tools, conversation.thinking, True)

    def stop_token(self, conversation: Conversation) -> str:
        return OBSERVATION if conversation.ends_in_tool_call else USER

    def training_text(self, conversation: Conversation) -> str:
        return (self.text(conversation.messages, conversation.tools, conversation.thinking, False)
                + self.stop_token(conversation))

    def training_tokens(self, conversation: Conversation) -> Rendered:
        tokens = self.tokenizer.encode(self.training_text(conversation), add_special_tokens=False).ids
        learnt = [False] * len(tokens)
        last_user = max(index for index, message in enumerate(conversation.messages) if message["role"] == "user")
        turns = [(message, index) for index, message in enumerate(conversation.messages) if message["role"] == "assistant"]
        place = 0
        for message, index in turns:
            start = tokens.index(self._assistant, place) + 1
            end = start
            while tokens[end] not in (self._user, self._observation):
                end += 1
            place = end
            if index < last_user and message.get("reasoning_content"):
                continue
            if not conversation.thinking:  # the generation prompt has these tokens
                start += len(self._no_thought)
            learnt[start:end + 1] = [True] * (end + 1 - start)
        return Rendered(tokens, learnt)
