"""Long conversations with the same tools: a declaration costs many tokens that teach nothing, so it is used several times."""
from __future__ import annotations

import random

from corpus.conversation import Conversation, Split
from corpus.topics import tool_calls

TOPIC = "tool_sessions"


def make(rng: random.Random, split: Split) -> Conversation:
    made = tool_calls.session(rng, split, rng.randint(4, 8))
    made.topic = TOPIC
    return made
