"""Which tool, if any: tools without parameters, many short requests, every other one for a tool that is not declared.

A drill: in whole calls the choice is one token among fifty, and a model that always calls is right too often to learn it.
"""
from __future__ import annotations

import random

from corpus.conversation import Conversation, Split, assistant, tool_result, user
from corpus.topics import tool_calls
from corpus.topics.tool_schemas import make_functions, make_request

TOPIC = "tool_choices"


def make(rng: random.Random, split: Split) -> Conversation:
    functions = make_functions(rng, split, rng.choice((1, 2, 3, 3, 4, 4)), kinds=[])
    messages = tool_calls.maybe_system(rng)
    for _ in range(rng.randint(5, 10)):
        if rng.random() < 0.5:
            rng.shuffle(functions)  # any of them may be the one that it is near to
            messages += tool_calls.refused(rng, split, functions, thinking=False, kinds=[])
            continue
        request = make_request(rng, split, rng.choice(functions))
        messages += [user(request.text), tool_calls.call_message([request], split, thinking=False)]
        text, answer = ('{"ok": true}', "Done.") if rng.random() < 0.7 else tool_calls.make_result(rng, split)
        messages += [tool_result(text), assistant(answer)]
    return Conversation(TOPIC, messages, tool_calls.declared(rng, functions), thinking=False)
