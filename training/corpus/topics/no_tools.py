"""Requests for a tool where none is declared at all: the easy half of refusing."""
from __future__ import annotations

import random

from corpus.conversation import Conversation, Split
from corpus.topics import tool_calls

TOPIC = "no_tools"


def make(rng: random.Random, split: Split) -> Conversation:
    thinking = rng.random() < 0.5
    return Conversation(TOPIC, tool_calls.maybe_system(rng) + tool_calls.refused(rng, split, [], thinking), thinking=thinking)
