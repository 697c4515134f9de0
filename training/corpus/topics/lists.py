"""Lists: members of a table, counting, sorting by a given rule, numbering and reversing what the user gave."""
from __future__ import annotations

import random

from corpus import words
from corpus.conversation import Conversation, Split, assistant, user
from corpus.topics import facts

TOPIC = "lists"

TABLES = {
    "colours": "red blue green yellow black white orange purple".split(),
    "animals": "dog cat horse cow bird fish bear lion".split(),
    "fruits": "apple banana orange lemon plum cherry pear grape".split(),
    "months": facts.MONTHS, "days of the week": facts.DAYS, "planets": facts.PLANETS,
    "countries": list(facts.CAPITALS)[:8], "cities": list(facts.CAPITALS.values())[:8],
    "numbers": "one two three four five six seven eight nine ten".split(),
    "metals": "iron gold silver copper tin lead zinc".split(),
    "drinks": "water milk tea coffee juice wine".split(),
    "parts of Sheaf": ["router", "scheduler", "attention", "expert worker", "exchange"],
}
NUMBER_WORDS = "zero one two three four five six seven eight nine ten".split()


def numbered(items: list[str]) -> str:
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))


def dashed(items: list[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def from_table(rng: random.Random) -> tuple[str, list[str]]:
    """(the request, the right items): the first ones of a table, so that the answer is one."""
    name = rng.choice(list(TABLES))
    count = rng.randint(2, min(6, len(TABLES[name])))
    said = rng.choice((str(count), NUMBER_WORDS[count]))
    request = rng.choice((f"List {said} {name}.", f"Name {said} {name}.", f"Give me {said} {name}.", f"Write a list of {said} {name}.",
                          f"Tell me {said} {name}."))
    return request, TABLES[name][:count]


def given_items(rng: random.Random, split: Split) -> list[str]:
    return [words.made_up_word(rng, split) if rng.random() < 0.5 else rng.choice(words.NOUNS)
            for _ in range(rng.randint(2, 5))]


def make(rng: random.Random, split: Split) -> Conversation:
    form = rng.random()
    thinking = rng.random() < 0.7
    if form < 0.4:
        request, items = from_table(rng)
        answer = numbered(items)
    elif form < 0.5:
        first = rng.randint(0, 30)
        last = first + rng.randint(2, 8)
        request = rng.choice((f"Count from {first} to {last}.", f"Write the numbers from {first} to {last}."))
        answer = ", ".join(str(number) for number in range(first, last + 1)) + "."
    else:
        items = given_items(rng, split)
        said = words.join_words(items)
        request, answer = rng.choice((
            (f"Make a numbered list of {said}.", numbered(items)), (f"Write {said} as a numbered list.", numbered(items)),
            (f"Make a list with dashes of {said}.", dashed(items)), (f"Write {said} with dashes.", dashed(items)),
            (f"Write these in reverse order: {said}.", ", ".join(items[::-1]) + "."),
            (f"Which is the first of {said}?", f"The first is {items[0]}."),
            (f"Which is the last of {said}?", f"The last is {items[-1]}."),
            (f"How many words are these: {said}?", f"These are {len(items)} words.")))
    return Conversation(TOPIC, [user(request), assistant(answer)], thinking=thinking)
