"""Tools whose names are not written verb_noun: setLamp, lamp_set, and set_lamp beside them.

They are two in five tools of a conversation about tools, and were most of the wrong ones that a model called.
"""
from __future__ import annotations

import random

from corpus.conversation import Conversation, Split
from corpus.topics import tool_calls, tool_choices

TOPIC = "tool_spellings"
FORMS = ("verbNoun", "verbNoun", "noun_verb", "noun_verb", "verb_noun")


def make(rng: random.Random, split: Split) -> Conversation:
    if rng.random() < 0.5:
        made = tool_calls.session(rng, split, rng.randint(3, 6), forms=FORMS)
    else:
        made = tool_choices.one_choice(rng, split, refused_share=0.35, forms=FORMS)
    made.topic = TOPIC
    return made
