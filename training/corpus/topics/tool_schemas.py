"""Random tools with parameters of every JSON type, and requests that name values for them.

The action ("set the lamp") is what a user says, the description is the same sentence, and the name follows from it: set_lamp,
setLamp or lamp_set. (Names that do not follow, such as taxdex for setting the lamp, have to be looked up through the
description, which was beyond four layers.) A held-out tool has a name that no training tool has.
"""
from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from corpus import words
from corpus.conversation import Split, Tool


@dataclass
class Parameter:
    name: str
    kind: str  # string, integer, number, boolean, array, object or enum
    required: bool = True
    choices: list[str] = field(default_factory=list)   # of an enum
    item_kind: str = "string"                          # of an array
    fields: list[str] = field(default_factory=list)    # of an object, all integers

    def schema(self) -> dict[str, Any]:
        if self.kind == "enum":
            return {"type": "string", "enum": self.choices}
        if self.kind == "array":
            return {"type": "array", "items": {"type": self.item_kind}}
        if self.kind == "object":
            return {"type": "object", "properties": {name: {"type": "integer"} for name in self.fields}}
        return {"type": self.kind}


@dataclass
class Function:
    name: str
    action: str  # an imperative without a full stop, in lower case
    parameters: list[Parameter] = field(default_factory=list)

    def declaration(self) -> Tool:
        schema: dict[str, Any] = {"type": "object", "properties": {p.name: p.schema() for p in self.parameters}}
        required = [p.name for p in self.parameters if p.required]
        if required:
            schema["required"] = required
        return {"type": "function", "function": {"name": self.name, "description": sentence(self.action) + ".",
                                                 "parameters": schema}}


@dataclass
class Request:
    """What a user says and the call that answers it."""

    text: str
    function: Function
    arguments: dict[str, Any]
    by_name: bool  # the text has the tool's name, not its action


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


_COLOURS = "red green blue yellow white black orange purple pink brown".split()
NAME_FORMS = ("verb_noun", "verb_noun", "verb_noun", "verbNoun", "noun_verb")
_FIELDS = "x y z width height depth row column start end low high".split()


def _verb_and_noun(rng: random.Random, split: Split, near: Function | None) -> tuple[str, str]:
    verb = rng.choice(words.VERBS)
    noun = words.made_up_word(rng, split) if rng.random() < 0.5 else rng.choice(words.NOUNS)
    if near is not None and rng.random() < 0.3:
        near_verb, near_noun = near.action.split(" ")[0], near.action.split(" ")[-1]
        if rng.random() < 0.5:
            verb = near_verb
        else:
            noun = near_noun
    return verb, noun


def _tool_name(rng: random.Random, split: Split, near: Function | None, form: str) -> tuple[str, str]:
    """(name, action)."""
    verb, noun = _verb_and_noun(rng, split, near)
    name = {"verb_noun": f"{verb}_{noun}", "verbNoun": verb + noun.capitalize(), "noun_verb": f"{noun}_{verb}"}[form]
    return name, f"{verb} the {noun}"


def make_function(rng: random.Random, split: Split, kinds: list[str] | None = None, near: Function | None = None,
                  forms: tuple[str, ...] = NAME_FORMS) -> Function:
    """kinds: the parameters' types, random when None. near: a tool whose verb or noun may be taken, to be mistaken for.
    forms: how the name is written, each as likely as it stands there often."""
    form = rng.choice(forms)
    name, action = words.draw(lambda: _tool_name(rng, split, near, form), split, key=lambda drawn: drawn[0])
    if kinds is None:
        kinds = [_kind(rng) for _ in range(rng.choice((0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4)))]
    return Function(name, action, make_parameters(rng, split, kinds))


def make_functions(rng: random.Random, split: Split, count: int, kinds: list[str] | None = None,
                   forms: tuple[str, ...] = NAME_FORMS) -> list[Function]:
    """Tools with different names and different actions, some of them near to the first one."""
    functions: list[Function] = []
    while len(functions) < count:
        function = make_function(rng, split, kinds, near=functions[0] if functions else None, forms=forms)
        if all(function.name != other.name and function.action != other.action for other in functions):
            functions.append(function)
    return functions


def _kind(rng: random.Random) -> str:
    return rng.choice(("string", "string", "string", "string", "integer", "integer", "number", "boolean", "enum",
                       "array", "object"))


def _parameter_name(rng: random.Random, split: Split) -> str:
    def one() -> str:
        if rng.random() < 0.25:
            return words.made_up_word(rng, split)
        return rng.choice(words.PARAMETERS)
    return f"{one()}_{one()}" if rng.random() < 0.15 else one()


def make_parameters(rng: random.Random, split: Split, kinds: list[str]) -> list[Parameter]:
    parameters: list[Parameter] = []
    for kind in kinds:
        name = _parameter_name(rng, split)
        if any(name == other.name for other in parameters):
            continue
        parameter = Parameter(name, kind, required=rng.random() < 0.7)
        if kind == "enum":
            source = rng.choice((_COLOURS, words.TEXT_WORDS, [words.made_up_word(rng, split) for _ in range(4)]))
            parameter.choices = rng.sample(source, rng.choice((2, 3, 3)))
        elif kind == "array":
            parameter.item_kind = rng.choice(("string", "string", "integer"))
        elif kind == "object":
            parameter.fields = rng.sample(_FIELDS, 2)
        parameters.append(parameter)
    return parameters


def _integer(rng: random.Random) -> int:
    value = rng.randrange(10 ** rng.choice((1, 1, 2, 2, 3, 4)))
    return -value if rng.random() < 0.05 else value


def make_value(rng: random.Random, split: Split, parameter: Parameter) -> tuple[str, Any]:
    """(what the user says, the JSON value)."""
    if parameter.kind == "enum":
        value = rng.choice(parameter.choices)
        return value, value
    if parameter.kind == "integer":
        number = _integer(rng)
        return str(number), number
    if parameter.kind == "number":
        fraction = rng.choice((f"{rng.randint(1, 9)}", f"{rng.randint(0, 9)}{rng.randint(1, 9)}"))
        text = f"{rng.randrange(10 ** rng.choice((1, 2, 2)))}.{fraction}"
        return text, float(text)
    if parameter.kind == "boolean":
        truth = rng.random() < 0.5
        return rng.choice((("true", "yes", "on") if truth else ("false", "no", "off"))), truth
    if parameter.kind == "array":
        items: list[Any] = [_integer(rng) if parameter.item_kind == "integer" else _word(rng, split)
                            for _ in range(rng.choice((2, 2, 3, 3, 4)))]
        return words.join_words([str(item) for item in items]), items
    if parameter.kind == "object":
        value = {name: _integer(rng) for name in parameter.fields}
        return words.join_words([f"{name} {number}" for name, number in value.items()]), value
    form = rng.random()
    if form < 0.4:
        text = words.made_up_word(rng, split).capitalize()
    elif form < 0.5:
        text = rng.choice(words.PEOPLE)
    elif form < 0.6:
        text = _word(rng, split)
    elif form < 0.8:
        text = words.code(rng, split)
    else:
        text = words.phrase(rng)
        return f'"{text}"', text
    return (f'"{text}"' if rng.random() < 0.25 else text), text


def _word(rng: random.Random, split: Split) -> str:
    source = rng.random()
    if source < 0.35:
        return words.made_up_word(rng, split)
    if source < 0.6:
        return rng.choice(_COLOURS)
    return rng.choice(words.NOUNS)


def make_request(rng: random.Random, split: Split, function: Function) -> Request:
    """Names every required parameter and some of the others, in the order of the schema."""
    given = [p for p in function.parameters if p.required or rng.random() < 0.5]
    arguments: dict[str, Any] = {}
    said: list[tuple[str, str]] = []
    separate = rng.random() < 0.35 or any(p.kind in ("array", "object") for p in given[:-1])
    for parameter in given:
        text, value = make_value(rng, split, parameter)
        arguments[parameter.name] = value
        spoken = parameter.name.replace("_", " ") if rng.random() < 0.3 else parameter.name
        said.append((spoken, text))
    by_name = rng.random() < 0.3
    start = (rng.choice(("Call {}", "Use {}", "Run {}", "Please call {}", "Use the tool {}")).format(function.name)
             if by_name else
             rng.choice(("{0}", "{0}", "{0}", "Please {1}", "Can you {1}", "I want you to {1}", "You should {1}"))
             .format(sentence(function.action), function.action))
    if not said:
        return Request(start + rng.choice((".", "", " now.")), function, arguments, by_name)
    if separate:
        verb = "are" if rng.random() < 0.1 else "is"
        rest = "".join(f" The {name} {verb} {text}." for name, text in said)
        return Request(start + "." + rest, function, arguments, by_name)
    form = rng.randrange(4)
    if form == 0:
        rest = " with " + words.join_words([f"{name} {text}" for name, text in said])
    elif form == 1:
        rest = ": " + ", ".join(f"{name} {text}" for name, text in said)
    elif form == 2:
        rest = ": " + ", ".join(f"{name} = {text}" for name, text in said)
    else:
        rest = ", " + words.join_words([f"{name} {text}" for name, text in said])
    return Request(start + rest + rng.choice((".", ".", "")), function, arguments, by_name)
