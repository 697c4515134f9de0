"""Requests for a tool that is not declared, as a topic of its own: told apart from a declared one by verb, noun or name."""
from __future__ import annotations

import random

from corpus.conversation import Conversation, Split
from corpus.topics import tool_calls

TOPIC = "refusals"


def make(rng: random.Random, split: Split) -> Conversation:
    made = tool_calls.refusal(rng, split)
    made.topic = TOPIC
    return made
