"""Conversations that go from one topic to another, without tools."""
from __future__ import annotations

import random

from corpus.conversation import Conversation, Message, Split
from corpus.topics import (arithmetic, copying, facts, greetings, json_answers, languages, lists, references, sheaf_questions,
                           stories, unknown)

TOPIC = "mixed"

_PARTS = (greetings, greetings, facts, facts, arithmetic, sheaf_questions, json_answers, lists, references, languages, stories,
          unknown, copying)


def make(rng: random.Random, split: Split) -> Conversation:
    messages: list[Message] = []
    for _ in range(rng.choice((2, 2, 3))):
        part = rng.choice(_PARTS).make(rng, split).messages
        messages += [message for message in part if message["role"] != "system" or not messages]
    thoughtful = any("reasoning_content" in message for message in messages)
    return Conversation(TOPIC, messages, thinking=thoughtful or rng.random() < 0.6)
