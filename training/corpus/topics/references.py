"""Turns that mean something said before: "and of Spain?", "the second one", "what is my name?"."""
from __future__ import annotations

import random

from corpus import words
from corpus.conversation import Conversation, Split, assistant, user
from corpus.topics import facts, lists

TOPIC = "references"


def _and_of(rng: random.Random, split: Split) -> Conversation:
    """A second question that leaves out what the first one asked."""
    first, second, third = rng.sample(list(facts.CAPITALS), 3)
    family = rng.random()
    if family < 0.6:
        def answer(country: str) -> str:
            return f"The capital of {country} is {facts.CAPITALS[country]}."
        opening = rng.choice((f"What is the capital of {first}?", f"Name the capital of {first}."))
        follow = ("And of {}?", "And the capital of {}?", "What about {}?", "And {}?")
    else:
        first, second, third = rng.sample(list(facts.COLOURS), 3)

        def answer(country: str) -> str:
            return f"{country[0].upper() + country[1:]} is {facts.COLOURS[country]}."
        opening = f"What colour is {first}?"
        follow = ("And {}?", "What about {}?")
    messages = [user(opening), assistant(answer(first)), user(rng.choice(follow).format(second)), assistant(answer(second))]
    if rng.random() < 0.4:
        messages += [user(rng.choice(follow).format(third)), assistant(answer(third))]
    return Conversation(TOPIC, messages, thinking=rng.random() < 0.7)


def _of_the_list(rng: random.Random, split: Split) -> Conversation:
    """A list, then one of its items by its place."""
    if rng.random() < 0.5:
        request, items = lists.from_table(rng)
    else:
        items = lists.given_items(rng, split)
        request = f"Make a numbered list of {words.join_words(items)}."
    messages = [user(request), assistant(lists.numbered(items))]
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(items))
        ordinal = facts.ORDINALS[place]
        if place == len(items) - 1 and rng.random() < 0.5:
            ordinal = "last"
        question = rng.choice((f"What is the {ordinal} one?", f"And the {ordinal} one?", f"Which one is the {ordinal}?",
                               f"Tell me the {ordinal} one."))
        messages += [user(question), assistant(f"The {ordinal} one is {items[place]}.")]
    return Conversation(TOPIC, messages, thinking=rng.random() < 0.7)


_OWN = (("dog", "name", "named"), ("cat", "name", "named"), ("sister", "name", "named"), ("brother", "name", "named"),
        ("boat", "name", "named"), ("friend", "name", "named"))


def _remembered(rng: random.Random, split: Split) -> Conversation:
    """The user says something about themselves and asks for it later."""
    name = words.made_up_word(rng, split).capitalize() if rng.random() < 0.6 else rng.choice(words.PEOPLE)
    form = rng.randrange(3)
    if form == 0:
        told, asked, answer = (rng.choice((f"My name is {name}.", f"Hello, I am {name}.")),
                               rng.choice(("What is my name?", "Do you remember my name?", "Who am I?")), f"Your name is {name}.")
        reply = f"Hello {name}! How can I help you?"
    elif form == 1:
        thing, _, verb = rng.choice(_OWN)
        told = rng.choice((f"I have a {thing} {verb} {name}.", f"My {thing} is {verb} {name}."))
        asked, answer, reply = f"What is the name of my {thing}?", f"Your {thing} is named {name}.", f"{name} is a nice name!"
    else:
        number = rng.randint(2, 999)
        told = rng.choice((f"Remember the number {number}.", f"Keep the number {number} in mind."))
        asked, answer, reply = "Which number was it?", f"It was {number}.", f"I keep {number} in mind."
    messages = [user(told), assistant(reply)]
    if rng.random() < 0.5:
        question, fact = facts.pick(rng, split)
        messages += [user(question), assistant(fact.answer)]
    messages += [user(asked), assistant(answer)]
    return Conversation(TOPIC, messages, thinking=rng.random() < 0.7)


def make(rng: random.Random, split: Split) -> Conversation:
    return rng.choice((_and_of, _of_the_list, _remembered))(rng, split)
