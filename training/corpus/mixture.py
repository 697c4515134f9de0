"""Which topic comes how often, and conversation number i of a split.

conversation(seed, split, index) depends on its arguments alone: training resumes at any index, on any machine. Training has
eight parts, which end before these conversations:

  COPYING   mostly copying, which tool calls are built on
  FIRST     the full mixture, with words as Split.TRAIN_FIRST draws them: a model copied the words that it had learnt, but
            not the real words that had been held out
  SINGLES   all real words, and more refusals: two in a hundred had been too few
  SESSIONS  most tool calls in long sessions, which have 2.4 times as many in the same number of tokens
  CHOICES   with a drill of choosing a tool or none: a model without thinking refused two requests in a hundred
  NAMES     tools with names that follow from what they do; half of the calls with thinking, and more of what is not tools
  DRILL     four times as much of the drill: the same model refused seven in a hundred
  the end   hardly any of it: the drill taught how often to refuse and not when. Refusing where no tool is declared instead
"""
from __future__ import annotations

import bisect
import random

from corpus.conversation import Conversation, Split, without_thinking
from corpus.topics import (arithmetic, copying, facts, greetings, json_answers, languages, lists, mixed, no_tools,
                           references, refusals, sheaf_questions, stories, tool_calls, tool_chains, tool_choices,
                           tool_sessions, unknown)

COPYING = 20_000
FIRST = 67_999
SINGLES = 94_752
SESSIONS = 116_525
CHOICES = 122_248
NAMES = 142_817
DRILL = 156_091

TOPICS = {  # module: weight in each part, by conversations
    copying: (60, 8, 10, 8, 8, 6, 6, 6),
    tool_calls: (20, 38, 36, 16, 16, 30, 30, 44),
    arithmetic: (4, 14, 16, 14, 14, 18, 18, 18),
    facts: (4, 10, 11, 11, 12, 23, 16, 16),
    json_answers: (4, 7, 8, 9, 9, 23, 23, 23),
    greetings: (2, 5, 5, 5, 5, 6, 6, 6),
    sheaf_questions: (2, 5, 5, 5, 5, 8, 8, 8),
    references: (1, 5, 4, 4, 4, 6, 6, 6),
    lists: (1, 4, 3, 3, 3, 6, 6, 6),
    stories: (1, 3, 3, 3, 3, 4, 4, 4),
    languages: (1, 4, 4, 4, 4, 5, 5, 5),
    mixed: (0, 6, 5, 5, 5, 5, 5, 5),
    unknown: (0, 2, 2, 2, 2, 2, 2, 2),
    refusals: (0, 0, 8, 4, 6, 5, 8, 2),
    tool_sessions: (0, 0, 0, 13, 11, 4, 2, 3),
    tool_choices: (0, 0, 0, 0, 12, 5, 18, 2),
    tool_chains: (0, 0, 0, 0, 0, 8, 6, 8),
    no_tools: (0, 0, 0, 0, 0, 0, 0, 6),
}


def conversation(seed: int, split: Split, index: int) -> Conversation:
    rng = random.Random(f"{seed}/{split.value}/{index}")
    part = bisect.bisect((COPYING, FIRST, SINGLES, SESSIONS, CHOICES, NAMES, DRILL), index) if split is Split.TRAIN else 7
    topic = rng.choices(list(TOPICS), [weights[part] for weights in TOPICS.values()])[0]
    early = Split.TRAIN_FIRST if part < 2 else Split.TRAIN_SECOND
    return finish(topic.make(rng, split if part >= 5 else early))


def of_topic(module, seed: int, split: Split, index: int) -> Conversation:
    """Conversation number index of one topic alone, for evaluation."""
    return finish(module.make(random.Random(f"{seed}/{split.value}/{module.TOPIC}/{index}"), split))


def finish(made: Conversation) -> Conversation:
    if not made.thinking:
        made.messages = without_thinking(made.messages)
    return made
