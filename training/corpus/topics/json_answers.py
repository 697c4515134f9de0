"""JSON on demand: an object or an array with the values that the user names, and nothing around it."""
from __future__ import annotations

import json
import random
from typing import Any

from corpus import words
from corpus.conversation import Conversation, Split, assistant, system, user

TOPIC = "json"

_SCHEMAS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("person", (("name", "name"), ("age", "small"), ("city", "name"))),
    ("book", (("title", "phrase"), ("author", "name"), ("pages", "number"))),
    ("order", (("id", "code"), ("item", "word"), ("count", "small"), ("paid", "truth"))),
    ("city", (("name", "name"), ("country", "name"), ("people", "number"))),
    ("event", (("title", "phrase"), ("day", "word"), ("hour", "small"))),
    ("worker", (("name", "word"), ("experts", "number"), ("ready", "truth"))),
    ("request", (("id", "code"), ("tokens", "number"), ("stream", "truth"))),
    ("song", (("title", "phrase"), ("singer", "name"), ("year", "number"))),
    ("car", (("brand", "name"), ("colour", "word"), ("price", "number"))),
    ("point", (("x", "number"), ("y", "number"))),
)


def _value(rng: random.Random, split: Split, kind: str) -> Any:
    if kind == "name":
        return words.made_up_word(rng, split).capitalize()
    if kind == "small":
        return rng.randint(1, 99)
    if kind == "number":
        return rng.randrange(10 ** rng.choice((2, 3, 4)))
    if kind == "phrase":
        return words.phrase(rng, 2, 4)
    if kind == "code":
        return words.code(rng, split)
    if kind == "truth":
        return rng.random() < 0.5
    return words.made_up_word(rng, split) if rng.random() < 0.6 else rng.choice(words.NOUNS)


def said(value: Any) -> str:
    """A value as the request shows it: strings of several words in quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and " " in value:
        return f'"{value}"'
    return str(value)


def _of_schema(rng: random.Random, split: Split) -> tuple[str, Any]:
    name, fields = rng.choice(_SCHEMAS)
    chosen = fields if rng.random() < 0.6 else fields[:2]
    value = {key: _value(rng, split, kind) for key, kind in chosen}
    parts = words.join_words([f"{key} {said(item)}" for key, item in value.items()])
    request = rng.choice((f"Write a {name} as JSON with {parts}.", f"Give me JSON for a {name}: {parts}.",
                          f"Make a JSON object for a {name} with {parts}.", f"JSON for a {name} with {parts}, please."))
    return request, value


def _free(rng: random.Random, split: Split) -> tuple[str, Any]:
    keys: list[str] = []
    while len(keys) < rng.randint(1, 4):
        key = words.made_up_word(rng, split) if rng.random() < 0.4 else rng.choice(words.PARAMETERS)
        if key not in keys:
            keys.append(key)
    value = {key: _value(rng, split, rng.choice(("name", "small", "number", "phrase", "code", "truth", "word"))) for key in keys}
    parts = ", ".join(f"{key} = {said(item)}" for key, item in value.items())
    request = rng.choice((f"Write as JSON: {parts}.", f"Turn this into a JSON object: {parts}.", f"As JSON: {parts}."))
    return request, value


def _array(rng: random.Random, split: Split) -> tuple[str, Any]:
    items: list[Any] = ([rng.randrange(1000) for _ in range(rng.randint(1, 5))] if rng.random() < 0.4 else
                        [_value(rng, split, "word") for _ in range(rng.randint(1, 5))])
    parts = words.join_words([said(item) for item in items])
    request = rng.choice((f"Write a JSON array of {parts}.", f"Give me a JSON list with {parts}.", f"As a JSON array: {parts}."))
    return request, items


def _nested(rng: random.Random, split: Split) -> tuple[str, Any]:
    outer = rng.choice(words.NOUNS)
    inner = {key: _value(rng, split, kind) for key, kind in rng.choice(_SCHEMAS)[1][:2]}
    parts = words.join_words([f"{key} {said(item)}" for key, item in inner.items()])
    return f"Write a JSON object with the key {outer} that holds an object with {parts}.", {outer: inner}


def make(rng: random.Random, split: Split) -> Conversation:
    request, value = rng.choice((_of_schema, _of_schema, _free, _free, _array, _nested))(rng, split)
    messages = [user(request), assistant(json.dumps(value, ensure_ascii=False))]
    if rng.random() < 0.2:
        messages.insert(0, system("Answer in JSON only."))
    return Conversation(TOPIC, messages, thinking=rng.random() < 0.7)
