"""Tool calling: one call, several calls, calls inside the reasoning, results, refusals, turns where no tool is needed.

A call in thinking mode follows one sentence that names the tools; without thinking it is written at once. "Call tools while
you think." in the system message is the cue for a call inside the reasoning.
"""
from __future__ import annotations

import json
import random
from typing import Any

from corpus import words
from corpus.conversation import Conversation, Message, Split, assistant, system, tool_result, user
from corpus.topics import facts, greetings, natural_tools
from corpus.topics.tool_schemas import (Function, Request, has_plain_names, make_function, make_functions, make_request,
                                        sentence)

TOPIC = "tools"
IN_THINKING = "Call tools while you think."


def make(rng: random.Random, split: Split) -> Conversation:
    form = rng.random()
    if form < (0.42 if has_plain_names(split) else 0.30):  # where there are sessions as a topic, fewer of them are here
        return one_call(rng, split)
    if form < 0.52:
        return session(rng, split)
    if form < 0.62:
        return several_calls(rng, split)
    if form < 0.68:
        return call_inside_thinking(rng, split)
    if form < 0.78:
        return refusal(rng, split)
    if form < 0.82:
        return no_tool_needed(rng, split)
    return natural_tools.make(rng, split)


def _tool_count(rng: random.Random) -> int:
    return rng.choice((1, 1, 1, 1, 2, 2, 2, 3, 3, 4))


def declared(rng: random.Random, functions: list[Function]) -> list[dict[str, Any]]:
    shuffled = list(functions)
    rng.shuffle(shuffled)
    return [function.declaration() for function in shuffled]


def maybe_system(rng: random.Random) -> list[Message]:
    if rng.random() < 0.85:
        return []
    return [system(rng.choice(("You are a helpful assistant.", "Be brief.", "Use tools when they help.",
                               "You help with tools.")))]


def thought(requests: list[Request], split: Split) -> str:
    """The names alone, copied into the call at once; earlier parts of training say the actions first."""
    names = f"I call {words.join_words([request.function.name for request in requests])}."
    if has_plain_names(split):
        return names
    return f"The user wants to {words.join_words([request.function.action for request in requests])}. {names}"


def call_message(requests: list[Request], split: Split, thinking: bool) -> Message:
    return assistant("", thought(requests, split) if thinking else "",
                     [(request.function.name, request.arguments) for request in requests])


def one_call(rng: random.Random, split: Split) -> Conversation:
    functions = make_functions(rng, split, _tool_count(rng))
    request = make_request(rng, split, functions[0])
    thinking = rng.random() < 0.5
    messages = maybe_system(rng) + [user(request.text), call_message([request], split, thinking)]
    if rng.random() < 0.4:
        messages += result_and_answer(rng, split, [request])
    return Conversation(TOPIC, messages, declared(rng, functions), thinking)


def session(rng: random.Random, split: Split) -> Conversation:
    """Several turns with the same tools and no thinking: calls, answers, refusals."""
    functions = make_functions(rng, split, _tool_count(rng))
    messages = maybe_system(rng)
    for _ in range(rng.choice((2, 3, 3, 4))):
        if rng.random() < 0.12:
            messages += refused(rng, split, functions, thinking=False)
            continue
        request = make_request(rng, split, rng.choice(functions))
        messages += [user(request.text), call_message([request], split, thinking=False)]
        messages += result_and_answer(rng, split, [request])
    if messages[-1]["role"] == "assistant" and rng.random() < 0.3:
        request = make_request(rng, split, rng.choice(functions))
        messages += [user(request.text), call_message([request], split, thinking=False)]
    return Conversation(TOPIC, messages, declared(rng, functions), thinking=False)


def joined(rng: random.Random, requests: list[Request]) -> str:
    """Several requests as one text."""
    joint = rng.choice((" Then ", " Also ", " And "))
    text = requests[0].text.rstrip(".") + "."
    for request in requests[1:]:
        text += joint + request.text[0].lower() + request.text[1:].rstrip(".") + "."
    return text


def several_calls(rng: random.Random, split: Split) -> Conversation:
    functions = make_functions(rng, split, rng.choice((1, 2, 2, 3)))
    requests = [make_request(rng, split, rng.choice(functions)) for _ in range(rng.choice((2, 2, 3)))]
    text = joined(rng, requests)
    thinking = rng.random() < 0.5
    messages = maybe_system(rng) + [user(text), call_message(requests, split, thinking)]
    if rng.random() < 0.4:
        messages += result_and_answer(rng, split, requests)
    return Conversation(TOPIC, messages, declared(rng, functions), thinking)


def write_call(name: str, arguments: dict[str, Any]) -> str:
    """A call as text, in the template's format: for calls that stand inside the reasoning."""
    lines = [f"<tool_call>{name}"]
    for key, value in arguments.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines += [f"<arg_key>{key}</arg_key>", f"<arg_value>{shown}</arg_value>"]
    return "\n".join(lines) + "\n</tool_call>"


def call_inside_thinking(rng: random.Random, split: Split) -> Conversation:
    functions = make_functions(rng, split, _tool_count(rng))
    request = make_request(rng, split, functions[0])
    begin = thought([request], split) if has_plain_names(split) else f"The user wants to {request.function.action}."
    reasoning = f"{begin}\n" + write_call(request.function.name, request.arguments)
    return Conversation(TOPIC, [system(IN_THINKING), user(request.text), assistant("", reasoning)],
                        declared(rng, functions))


def refused(rng: random.Random, split: Split, functions: list[Function], thinking: bool, kinds: list[str] | None = None,
            ) -> list[Message]:
    """kinds: of the parameters of the tool that is not there, random when None."""
    while True:
        other = make_function(rng, split, kinds, near=functions[0])
        if all(other.name != known.name and other.action != known.action for known in functions):
            break
    request = make_request(rng, split, other)
    if request.by_name:
        return [user(request.text), assistant(f"I have no tool named {other.name}.",
                                              f"There is no tool {other.name}." if thinking else "")]
    return [user(request.text), assistant(f"I have no tool to {other.action}.",
                                          f"No tool can {other.action}." if thinking else "")]


def refusal(rng: random.Random, split: Split) -> Conversation:
    functions = make_functions(rng, split, _tool_count(rng))
    thinking = rng.random() < 0.5
    return Conversation(TOPIC, maybe_system(rng) + refused(rng, split, functions, thinking),
                        declared(rng, functions), thinking)


def no_tool_needed(rng: random.Random, split: Split) -> Conversation:
    conversation = rng.choice((facts.one_question, greetings.make))(rng, split)
    conversation.tools = declared(rng, make_functions(rng, split, _tool_count(rng)))
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
