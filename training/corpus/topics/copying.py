"""Repeating and looking up: the skill that tool calls are made of, practised on random strings.

Early in training this is most of the corpus. Keys, values and words are made up, so nothing but copying can answer.
"""
from __future__ import annotations

import random

from corpus import words
from corpus.conversation import Conversation, Split, assistant, user

TOPIC = "copying"


def thing(rng: random.Random, split: Split) -> str:
    """A made-up word, a name, a code, a number, a snake_case name or a few words."""
    form = rng.random()
    if form < 0.25:
        return words.made_up_word(rng, split, rare=True)
    if form < 0.4:
        return words.made_up_word(rng, split, rare=True).capitalize()
    if form < 0.55:
        return words.code(rng, split)
    if form < 0.7:
        return str(rng.randrange(10 ** rng.randint(1, 5)))
    if form < 0.85:
        return f"{words.made_up_word(rng, split, rare=True)}_{rng.choice(words.NOUNS)}"
    return rng.choice((rng.choice(words.NOUNS), words.phrase(rng, 2, 5)))


def _repeat(rng: random.Random, split: Split) -> Conversation:
    text = " ".join(thing(rng, split) for _ in range(rng.randint(1, 6)))
    form = rng.random()
    if form < 0.7:
        quoted = rng.random() < 0.5
        shown = f'"{text}"' if quoted else text
        request = rng.choice(("Repeat: {}", "Say {}", "Write {}", "Repeat after me: {}", "Copy this: {}")).format(shown)
        return Conversation(TOPIC, [user(request), assistant(text)], thinking=rng.random() < 0.5)
    again = rng.randint(2, 3)
    return Conversation(TOPIC, [user(f"Say {text} {again} times."), assistant("\n".join([text] * again))],
                        thinking=rng.random() < 0.5)


def _look_up(rng: random.Random, split: Split) -> Conversation:
    """A small table of keys and values, then questions about it."""
    table: dict[str, str] = {}
    while len(table) < rng.randint(2, 6):
        key = words.made_up_word(rng, split, rare=True) if rng.random() < 0.6 else rng.choice(words.PARAMETERS)
        table[key] = thing(rng, split)
    form = rng.randrange(3)
    if form == 0:
        shown = ", ".join(f"{key} is {value}" for key, value in table.items())
    elif form == 1:
        shown = "\n" + "\n".join(f"{key}: {value}" for key, value in table.items())
    else:
        shown = ", ".join(f"{key} = {value}" for key, value in table.items())
    messages = [user(f"Read this: {shown}"), assistant("I have read it.")]
    for _ in range(rng.randint(1, 4)):
        key = rng.choice(list(table))
        messages += [user(rng.choice((f"What is {key}?", f"Tell me {key}.", f"{key}?"))), assistant(f"{key} is {table[key]}")]
    return Conversation(TOPIC, messages, thinking=rng.random() < 0.5)


def make(rng: random.Random, split: Split) -> Conversation:
    return rng.choice((_repeat, _look_up))(rng, split)
