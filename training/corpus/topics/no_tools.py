"""Requests for a tool where none is declared at all: the easy half of refusing."""
from __future__ import annotations

import random

from corpus.conversation import Conversation, Split
from corpus.topics import tool_calls
from corpus.topics.tool_schemas import make_functions

TOPIC = "no_tools"


def make(rng: random.Random, split: Split) -> Conversation:
    thinking = rng.random() < 0.5
    elsewhere = make_functions(rng, split, 1)
    return Conversation(TOPIC, tool_calls.maybe_system(rng) + tool_calls.refused(rng, split, elsewhere, thinking),
                        thinking=thinking)
