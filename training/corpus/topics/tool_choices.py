"""Which tool, if any: short requests for tools without parameters, half of them for a tool that is not declared.

A drill: in whole calls the choice is one token among fifty, and a model that always calls is right too often to learn it.
"""
from __future__ import annotations

import random

from corpus.conversation import Conversation, Split, user
from corpus.topics import tool_calls
from corpus.topics.tool_schemas import NAME_FORMS, make_request

TOPIC = "tool_choices"


def make(rng: random.Random, split: Split) -> Conversation:
    if rng.random() < 0.35:
        made = tool_calls.session(rng, split, rng.randint(5, 10), kinds=[], refused_share=0.5)
        made.topic = TOPIC
        return made
    return one_choice(rng, split, refused_share=0.5)


def one_choice(rng: random.Random, split: Split, refused_share: float, forms: tuple[str, ...] = NAME_FORMS) -> Conversation:
    functions, asked = tool_calls.declared_functions(rng, split, (1, 2, 3, 3, 4, 4), kinds=[], forms=forms)
    if rng.random() < refused_share:
        messages = tool_calls.refused(rng, split, functions, thinking=True, kinds=[], forms=forms)
    else:
        request = make_request(rng, split, asked)
        messages = [user(request.text), tool_calls.call_message(functions, [request], thinking=True)]
    return Conversation(TOPIC, messages, tool_calls.declarations(functions))
