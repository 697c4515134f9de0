"""Several tools for one request, one after the other: a call, its result, the next call, and at the end what came of it.

"Call one tool at a time." in the system message is the cue; without it several calls stand in one message. All reasoning after
the last thing that a user said stays in the text, so one declaration teaches several calls with thinking.
"""
from __future__ import annotations

import random

from corpus.conversation import Conversation, Split, assistant, system, tool_result, user
from corpus.topics import tool_calls
from corpus.topics.tool_schemas import make_request

TOPIC = "tool_chains"
ONE_AT_A_TIME = "Call one tool at a time."


def make(rng: random.Random, split: Split) -> Conversation:
    functions, _ = tool_calls.declared_functions(rng, split, (1, 2, 2, 3, 3))
    requests = [make_request(rng, split, rng.choice(functions)) for _ in range(rng.choice((2, 3, 3, 4)))]
    thinking = rng.random() < 0.85
    messages = [system(ONE_AT_A_TIME), user(tool_calls.joined(rng, requests))]
    said = []
    for request in requests:
        text, answer = tool_calls.make_result(rng, split) if rng.random() < 0.3 else ('{"ok": true}', "Done.")
        reasoning = f"I call {request.function.name}." if thinking else ""
        messages += [assistant("", reasoning, [(request.function.name, request.arguments)]), tool_result(text)]
        said.append(answer)
    return Conversation(TOPIC, messages + [assistant(" ".join(said))], tool_calls.declarations(functions), thinking)
