"""Questions that nothing in the tables answers: the right answer says so."""
from __future__ import annotations

import random

from corpus import words
from corpus.conversation import Conversation, Split, assistant, user

TOPIC = "unknown"

_FORMS = (
    (("What is a {}?", "Tell me what a {} is.", "What does {} mean?"), "I do not know what {} means."),
    (("Who is {}?", "Tell me about {}.", "Do you know {}?"), "I do not know {}."),
    (("What is the capital of {}?", "Which city is the capital of {}?"), "I do not know the capital of {}."),
    (("Where is {}?", "Which country is {} in?"), "I do not know where {} is."),
    (("How many people live in {}?", "How big is {}?", "How old is {}?"), "I do not know that about {}."),
)


def make(rng: random.Random, split: Split) -> Conversation:
    questions, answer = rng.choice(_FORMS)
    thing = words.made_up_word(rng, split)
    if not questions[0].startswith("What is a "):
        thing = thing.capitalize()
    return Conversation(TOPIC, [user(rng.choice(questions).format(thing)), assistant(answer.format(thing))],
                        thinking=rng.random() < 0.7)
