"""Long conversations with the same tools: a declaration costs many tokens that teach nothing, so it is used several times.

Calls and their answers without thinking; one request in five is for a tool that is not declared.
"""
from __future__ import annotations

import random

from corpus.conversation import Conversation, Split, user
from corpus.topics import tool_calls
from corpus.topics.tool_schemas import make_functions, make_request

TOPIC = "tool_sessions"
REFUSED = 0.2  # of the requests


def make(rng: random.Random, split: Split) -> Conversation:
    functions = make_functions(rng, split, rng.choice((1, 2, 2, 3, 3, 4)))
    messages = tool_calls.maybe_system(rng)
    for _ in range(rng.randint(4, 8)):
        if rng.random() < REFUSED:
            messages += tool_calls.refused(rng, split, functions, thinking=False)
            continue
        request = make_request(rng, split, rng.choice(functions))
        messages += [user(request.text), tool_calls.call_message([request], split, thinking=False)]
        messages += tool_calls.result_and_answer(rng, split, [request])
    return Conversation(TOPIC, messages, tool_calls.declared(rng, functions), thinking=False)
