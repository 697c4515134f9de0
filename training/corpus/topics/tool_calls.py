"""Tool calling: one call, several calls, calls inside the reasoning, results, refusals, turns where no tool is needed.

A call in thinking mode follows a verdict on every declared tool ("set_lamp: no, get_lamp: yes. I call get_lamp."), so that
choosing one, or none, is a comparison for each; without thinking it is written at once. "Call tools while you think." in the
system message is the cue for a call inside the reasoning.
"""
from __future__ import annotations

import json
import random
from typing import Any

from corpus import words
from corpus.conversation import Conversation, Message, Split, Tool, assistant, system, tool_result, user
from corpus.topics import facts, greetings, natural_tools
from corpus.topics.tool_schemas import NAME_FORMS, Function, Request, make_function, make_functions, make_request, sentence
from corpus.topics.tool_thoughts import call_thought, verdicts

TOPIC = "tools"
IN_THINKING = "Call tools while you think."


def make(rng: random.Random, split: Split) -> Conversation:
    form = rng.random()
    if form < 0.42:
        return one_call(rng, split)
    if form < 0.52:
        return session(rng, split, rng.choice((2, 3, 3, 4)))
    if form < 0.62:
        return several_calls(rng, split)
    if form < 0.68:
        return call_inside_thinking(rng, split)
    if form < 0.78:
        return refusal(rng, split)
    if form < 0.82:
        return no_tool_needed(rng, split)
    return natural_tools.make(rng, split)


def declared_functions(rng: random.Random, split: Split, counts: tuple[int, ...] = (1, 1, 1, 1, 2, 2, 2, 3, 3, 4),
                       kinds: list[str] | None = None, forms: tuple[str, ...] = NAME_FORMS,
                       ) -> tuple[list[Function], Function]:
    """(as many as one of the counts in the order in which they are declared, the one that others may be near to)."""
    functions = make_functions(rng, split, rng.choice(counts), kinds, forms)
    return rng.sample(functions, len(functions)), functions[0]


def declarations(functions: list[Function]) -> list[Tool]:
    return [function.declaration() for function in functions]


def maybe_system(rng: random.Random) -> list[Message]:
    if rng.random() < 0.85:
        return []
    return [system(rng.choice(("You are a helpful assistant.", "Be brief.", "Use tools when they help.",
                               "You help with tools.")))]


def call_message(functions: list[Function], requests: list[Request], thinking: bool) -> Message:
    called = [request.function.name for request in requests]
    return assistant("", call_thought([function.name for function in functions], called) if thinking else "",
                     [(request.function.name, request.arguments) for request in requests])


def one_call(rng: random.Random, split: Split) -> Conversation:
    functions, asked = declared_functions(rng, split)
    request = make_request(rng, split, asked)
    thinking = rng.random() < 0.5
    messages = maybe_system(rng) + [user(request.text), call_message(functions, [request], thinking)]
    if rng.random() < 0.4:
        messages += result_and_answer(rng, split, [request])
    return Conversation(TOPIC, messages, declarations(functions), thinking)


def session(rng: random.Random, split: Split, turns: int, kinds: list[str] | None = None, refused_share: float = 0.2,
            forms: tuple[str, ...] = NAME_FORMS) -> Conversation:
    """Several turns with the same tools and no thinking: calls, answers, refusals."""
    functions, _ = declared_functions(rng, split, (1, 2, 2, 3, 3, 4), kinds, forms)
    messages = maybe_system(rng)
    for _ in range(turns):
        if rng.random() < refused_share:
            messages += refused(rng, split, functions, thinking=False, kinds=kinds, forms=forms)
            continue
        request = make_request(rng, split, rng.choice(functions))
        messages += [user(request.text), call_message(functions, [request], thinking=False)]
        messages += result_and_answer(rng, split, [request])
    return Conversation(TOPIC, messages, declarations(functions), thinking=False)


def joined(rng: random.Random, requests: list[Request]) -> str:
    """Several requests as one text."""
    joint = rng.choice((" Then ", " Also ", " And "))
    text = requests[0].text.rstrip(".") + "."
    for request in requests[1:]:
        text += joint + request.text[0].lower() + request.text[1:].rstrip(".") + "."
    return text


def several_calls(rng: random.Random, split: Split) -> Conversation:
    functions, _ = declared_functions(rng, split, (1, 2, 2, 3))
    requests = [make_request(rng, split, rng.choice(functions)) for _ in range(rng.choice((2, 2, 3)))]
    thinking = rng.random() < 0.5
    messages = maybe_system(rng) + [user(joined(rng, requests)), call_message(functions, requests, thinking)]
    if rng.random() < 0.4:
        messages += result_and_answer(rng, split, requests)
    return Conversation(TOPIC, messages, declarations(functions), thinking)


def write_call(name: str, arguments: dict[str, Any]) -> str:
    """A call as text, in the template's format: for calls that stand inside the reasoning."""
    lines = [f"<tool_call>{name}"]
    for key, value in arguments.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines += [f"<arg_key>{key}</arg_key>", f"<arg_value>{shown}</arg_value>"]
    return "\n".join(lines) + "\n</tool_call>"


def call_inside_thinking(rng: random.Random, split: Split) -> Conversation:
    functions, asked = declared_functions(rng, split)
    request = make_request(rng, split, asked)
    begin = call_thought([function.name for function in functions], [asked.name])
    reasoning = f"{begin}\n" + write_call(asked.name, request.arguments)
    return Conversation(TOPIC, [system(IN_THINKING), user(request.text), assistant("", reasoning)], declarations(functions))


def refused(rng: random.Random, split: Split, functions: list[Function], thinking: bool, kinds: list[str] | None = None,
            forms: tuple[str, ...] = NAME_FORMS) -> list[Message]:
    """A request for a tool that is not one of the functions but may be near to one. kinds, forms: of that tool."""
    while True:
        other = make_function(rng, split, kinds, near=rng.choice(functions) if functions else None, forms=forms)
        if all(other.name != known.name and other.action != known.action for known in functions):
            break
    request = make_request(rng, split, other)
    answer = f"I have no tool named {other.name}." if request.by_name else f"I have no tool to {other.action}."
    return [user(request.text), assistant(answer, verdicts([known.name for known in functions], []) if thinking else "")]


def refusal(rng: random.Random, split: Split) -> Conversation:
    functions, _ = declared_functions(rng, split)
    thinking = rng.random() < 0.5
    return Conversation(TOPIC, maybe_system(rng) + refused(rng, split, functions, thinking), declarations(functions), thinking)


def no_tool_needed(rng: random.Random, split: Split) -> Conversation:
    conversation = rng.choice((facts.one_question, greetings.make))(rng, split)
    conversation.tools = declarations(declared_functions(rng, split)[0])
    return conversation


_RESULT_VALUES = ("temperature", "status", "count", "name", "price", "colour", "state", "total", "time", "place", "level",
                  "owner", "speed", "score", "id", "answer")


def result_and_answer(rng: random.Random, split: Split, requests: list[Request]) -> list[Message]:
    results, answers = [], []
    for number, _ in enumerate(requests):
        text, answer = make_result(rng, split)
        results.append(tool_result(text, number))
        answers.append(answer)
    return results + [assistant(" ".join(answers))]


def make_result(rng: random.Random, split: Split) -> tuple[str, str]:
    """(what the tool returns, what the assistant says about it)."""
    form = rng.random()
    if form < 0.15:
        return '{"ok": true}', "Done."
    if form < 0.25:
        reason = words.phrase(rng, 2, 4)
        return json.dumps({"error": reason}), f"That did not work: {reason}."
    if form < 0.35:
        text = words.phrase(rng, 1, 4)
        return text, f"The tool says: {text}."
    keys = rng.sample(_RESULT_VALUES, rng.choice((1, 1, 2, 2, 3)))
    values: dict[str, Any] = {}
    for key in keys:
        kind = rng.random()
        if kind < 0.5:
            values[key] = rng.randrange(10 ** rng.choice((1, 2, 3)))
        elif kind < 0.75:
            values[key] = words.made_up_word(rng, split)
        else:
            values[key] = rng.choice(words.TEXT_WORDS)
    facts_said = words.join_words([f"the {key} is {value}" for key, value in values.items()])
    return json.dumps(values), sentence(facts_said) + "."
