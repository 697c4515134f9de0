"""Which topic comes how often, and conversation number i of a split.

conversation(seed, split, index) depends on its arguments alone: training resumes at any index, on any machine. The first
EARLY conversations are mostly copying, which tool calls are built on; then the full mixture follows.
"""
from __future__ import annotations

import random

from corpus.conversation import Conversation, Split, without_thinking
from corpus.topics import (arithmetic, copying, facts, greetings, json_answers, languages, lists, mixed, references,
                           sheaf_questions, stories, tool_calls, unknown)

EARLY = 20_000

TOPICS = {  # module: (weight early, weight later), by conversations
    copying: (60, 8),
    tool_calls: (20, 38),
    arithmetic: (4, 14),
    facts: (4, 10),
    json_answers: (4, 7),
    greetings: (2, 5),
    sheaf_questions: (2, 5),
    references: (1, 5),
    lists: (1, 4),
    stories: (1, 3),
    languages: (1, 4),
    mixed: (0, 6),
    unknown: (0, 2),
}


def conversation(seed: int, split: Split, index: int) -> Conversation:
    rng = random.Random(f"{seed}/{split.value}/{index}")
    early = split is Split.TRAIN and index < EARLY
    weights = [pair[0] if early else pair[1] for pair in TOPICS.values()]
    return finish(rng.choices(list(TOPICS), weights)[0].make(rng, split))


def of_topic(module, seed: int, split: Split, index: int) -> Conversation:
    """Conversation number index of one topic alone, for evaluation."""
    return finish(module.make(random.Random(f"{seed}/{split.value}/{module.TOPIC}/{index}"), split))


def finish(made: Conversation) -> Conversation:
    if not made.thinking:
        made.messages = without_thinking(made.messages)
    return made
