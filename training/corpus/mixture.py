"""Which topic comes how often, and conversation number i of a split.

conversation(seed, split, index) depends on its arguments alone: training resumes at any index, on any machine. Training has
three parts. The first COPYING conversations are mostly copying, which tool calls are built on. Up to number FIRST the full
mixture follows, with words as Split.TRAIN_FIRST draws them: there a model copied the words that it had learnt, but not the
real words that had been held out. Then come all real words, and more refusals, which two in a hundred were too few of.
"""
from __future__ import annotations

import random

from corpus.conversation import Conversation, Split, without_thinking
from corpus.topics import (arithmetic, copying, facts, greetings, json_answers, languages, lists, mixed, references,
                           refusals, sheaf_questions, stories, tool_calls, unknown)

COPYING = 20_000
FIRST = 67_999

TOPICS = {  # module: weight in each part, by conversations
    copying: (60, 8, 10),
    tool_calls: (20, 38, 36),
    arithmetic: (4, 14, 16),
    facts: (4, 10, 11),
    json_answers: (4, 7, 8),
    greetings: (2, 5, 5),
    sheaf_questions: (2, 5, 5),
    references: (1, 5, 4),
    lists: (1, 4, 3),
    stories: (1, 3, 3),
    languages: (1, 4, 4),
    mixed: (0, 6, 5),
    unknown: (0, 2, 2),
    refusals: (0, 0, 8),
}


def conversation(seed: int, split: Split, index: int) -> Conversation:
    rng = random.Random(f"{seed}/{split.value}/{index}")
    part = 2 if split is not Split.TRAIN or index >= FIRST else 1 if index >= COPYING else 0
    topic = rng.choices(list(TOPICS), [weights[part] for weights in TOPICS.values()])[0]
    return finish(topic.make(rng, split if part == 2 else Split.TRAIN_FIRST))


def of_topic(module, seed: int, split: Split, index: int) -> Conversation:
    """Conversation number index of one topic alone, for evaluation."""
    return finish(module.make(random.Random(f"{seed}/{split.value}/{module.TOPIC}/{index}"), split))


def finish(made: Conversation) -> Conversation:
    if not made.thinking:
        made.messages = without_thinking(made.messages)
    return made
