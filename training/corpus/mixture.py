"""Which topic comes how often, and conversation number i of a split.

conversation(seed, split, index) depends on its arguments alone: training resumes at any index, on any machine. Training has
four parts: mostly copying and looking up, which tool calls are built on; the full mixture; and, once facts, JSON and small
talk are learnt, more tool calls; the last part adds the tools whose names were mistaken most.
"""
from __future__ import annotations

import bisect
import random

from corpus.conversation import Conversation, Split, without_thinking
from corpus.topics import (arithmetic, copying, facts, greetings, json_answers, languages, lists, mixed, no_tools,
                           references, refusals, sheaf_questions, stories, tool_calls, tool_chains, tool_choices,
                           tool_sessions, tool_spellings, unknown)

PARTS = (12_000, 140_000, 168_000)  # the conversations at which the second part and those after it begin
CALIBRATION_START = 50_000_000       # training never gets there: what pruning and quantization see

TOPICS = {  # module: weight in each part, by conversations
    copying: (60, 8, 8, 8),
    tool_calls: (16, 34, 60, 45),
    tool_sessions: (8, 12, 10, 10),
    tool_chains: (2, 8, 6, 4),
    tool_choices: (4, 18, 18, 12),
    tool_spellings: (0, 0, 0, 24),
    refusals: (0, 5, 8, 8),
    no_tools: (0, 3, 2, 2),
    arithmetic: (4, 24, 18, 18),
    facts: (4, 16, 7, 7),
    json_answers: (4, 14, 9, 9),
    greetings: (2, 6, 4, 4),
    sheaf_questions: (2, 7, 4, 4),
    references: (1, 6, 4, 4),
    lists: (1, 5, 3, 3),
    stories: (1, 4, 3, 3),
    languages: (1, 5, 3, 3),
    mixed: (0, 5, 4, 4),
    unknown: (0, 2, 1, 1),
}


def conversation(seed: int, split: Split, index: int) -> Conversation:
    """Held-out conversations and those for calibration are of the second part: an expert of facts has to be met to be kept."""
    rng = random.Random(f"{seed}/{split.value}/{index}")
    part = bisect.bisect(PARTS, index) if split is Split.TRAIN and index < CALIBRATION_START else 1
    topic = rng.choices(list(TOPICS), [weights[part] for weights in TOPICS.values()])[0]
    return finish(topic.make(rng, split))


def of_topic(module, seed: int, split: Split, index: int) -> Conversation:
    """Conversation number index of one topic alone, for evaluation."""
    return finish(module.make(random.Random(f"{seed}/{split.value}/{module.TOPIC}/{index}"), split))


def finish(made: Conversation) -> Conversation:
    if not made.thinking:
        made.messages = without_thinking(made.messages)
    return made
