"""Everyday tools asked for in everyday words: the weather, a timer, a worker to drain.

The tool's and its parameters' names vary, so that the model reads the declaration; values are held out, these tools are not.
"""
from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from corpus import words
from corpus.conversation import Conversation, Split, assistant, tool_result, user
from corpus.topics.tool_thoughts import call_thought

TOPIC = "natural_tools"

CITIES = """Paris Rome Berlin Madrid Lisbon London Dublin Oslo Vienna Prague Warsaw Athens Cairo Tokyo Seoul Beijing Delhi
Lima Quito Havana Toronto Boston Chicago Denver Sydney Nairobi Lagos Milan Munich Lyon Porto Geneva Kyoto Osaka Mumbai
Dubai Jakarta Manila Hanoi Bogota Ankara Helsinki Stockholm Copenhagen Brussels Budapest Zagreb""".split()


@dataclass(frozen=True)
class Slot:
    """One parameter: the names that it may have, its type, where its values come from."""

    names: tuple[str, ...]
    kind: str
    source: str


@dataclass(frozen=True)
class Everyday:
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    slots: tuple[Slot, ...]
    requests: tuple[str, ...]   # {0}, {1}: what the user says for the slots
    result: str                 # JSON with {0}.. for the slots, {n} for a number, {w} for a word
    answer: str


CITY = Slot(("city", "location", "place"), "string", "city")
PERSON = Slot(("person", "recipient", "to"), "string", "person")

TOOLS = (
    Everyday(("get_weather", "weather", "current_weather", "fetch_weather"),
             ("Get the weather of a city.", "Current weather in a city."), (CITY,),
             ("What is the weather in {0}?", "How is the weather in {0} today?", "Weather in {0}, please.",
              "Is it warm in {0}?"),
             '{"temperature": {n}, "sky": "{w}"}', "In {0} it is {n} degrees and {w}."),
    Everyday(("get_forecast", "weather_forecast", "forecast"), ("Weather forecast for some days.",),
             (CITY, Slot(("days", "num_days"), "integer", "small")),
             ("What will the weather be in {0} for the next {1} days?", "Give me a {1} day forecast for {0}."),
             '{"sky": "{w}"}', "It will be {w} in {0}."),
    Everyday(("get_time", "local_time", "time_in_city", "clock"), ("Get the local time of a city.",), (CITY,),
             ("What time is it in {0}?", "Tell me the time in {0}.", "How late is it in {0}?"),
             '{"time": "{n}:15"}', "It is {n}:15 in {0}."),
    Everyday(("now", "current_time", "get_now"), ("The current time.", "Returns the time now."), (),
             ("What time is it?", "What time is it now?", "Tell me the time."), '{"time": "{n}:30"}', "It is {n}:30."),
    Everyday(("send_message", "send_mail", "message_person"), ("Send a message to a person.",),
             (PERSON, Slot(("text", "body", "message"), "string", "phrase")),
             ("Tell {0} \"{1}\".", "Send {0} the message \"{1}\".", "Write to {0}: \"{1}\"."),
             '{"sent": true}', "I sent your message to {0}."),
    Everyday(("set_timer", "start_timer", "timer"), ("Start a timer.",),
             (Slot(("minutes", "duration"), "integer", "number"),),
             ("Set a timer for {0} minutes.", "Wake me in {0} minutes.", "Start a {0} minute timer."),
             '{"ok": true}', "The timer runs for {0} minutes."),
    Everyday(("search", "web_search", "find_pages"), ("Search the web.",),
             (Slot(("query", "q", "terms"), "string", "phrase"),),
             ("Search for \"{0}\".", "Look up \"{0}\".", "Find pages about \"{0}\"."),
             '{"hits": {n}}', "I found {n} pages."),
    Everyday(("add", "add_numbers", "sum"), ("Add two numbers.",),
             (Slot(("a", "x", "first"), "integer", "number"), Slot(("b", "y", "second"), "integer", "number")),
             ("Use the tool to add {0} and {1}.", "Add {0} and {1} with the tool."),
             '{"result": {n}}', "The result is {n}."),
    Everyday(("convert_currency", "exchange"), ("Convert money from one currency to another.",),
             (Slot(("amount", "value"), "integer", "number"), Slot(("source", "from_currency"), "string", "currency"),
              Slot(("target", "to_currency"), "string", "currency")),
             ("How much are {0} {1} in {2}?", "Convert {0} {1} to {2}."), '{"amount": {n}}', "That is {n} {2}."),
    Everyday(("book_table", "reserve_table"), ("Book a table.",),
             (Slot(("people", "guests"), "integer", "small"), Slot(("name",), "string", "person")),
             ("Book a table for {0} people, name {1}.", "Reserve a table for {0} under {1}."),
             '{"ok": true}', "The table for {0} is booked for {1}."),
    Everyday(("list_workers", "get_workers", "workers"), ("List the expert workers.",), (),
             ("Which workers are there?", "List the workers.", "Show me all workers."),
             '{"workers": {n}}', "There are {n} workers."),
    Everyday(("drain_worker", "stop_worker"), ("Drain an expert worker.",),
             (Slot(("worker", "slot"), "integer", "small"),),
             ("Drain worker {0}.", "Please take worker {0} out.", "Drain the worker {0}."),
             '{"ok": true}', "Worker {0} is drained."),
    Everyday(("get_metric", "read_metric"), ("Read a metric.",), (Slot(("name", "metric"), "string", "metric"),),
             ("What is {0} now?", "Read the metric {0}.", "Show {0}."), '{"value": {n}}', "{0} is {n}."),
    Everyday(("light", "set_light", "switch_light"), ("Switch the light of a room.",),
             (Slot(("room",), "string", "room"), Slot(("on", "enabled"), "boolean", "switch")),
             ("Turn the light in the {0} {1}.", "Switch the {0} light {1}."), '{"ok": true}',
             "The light in the {0} is {1}."),
    Everyday(("play", "play_song", "play_music"), ("Play a song.",), (Slot(("title", "song"), "string", "phrase"),),
             ("Play \"{0}\".", "I want to hear \"{0}\"."), '{"ok": true}', "Now playing {0}."),
)

_SKIES = ("sunny", "cloudy", "rainy", "windy", "snowy", "foggy")
_ROOMS = ("kitchen", "bedroom", "office", "garage", "hall", "bathroom", "cellar")
_CURRENCIES = ("EUR", "USD", "GBP", "JPY", "CHF", "CNY")
_METRICS = ("requests", "queue_length", "tokens_total", "latency", "epoch", "live_workers", "kv_blocks", "step_time")


def _value(rng: random.Random, split: Split, source: str) -> tuple[str, Any]:
    if source == "city":
        name = rng.choice(CITIES) if rng.random() < 0.6 else words.made_up_word(rng, split).capitalize()
        return name, name
    if source == "person":
        name = rng.choice(words.PEOPLE)
        return name, name
    if source == "phrase":
        text = words.phrase(rng)
        return text, text
    if source == "small":
        number = rng.randint(2, 9)
        return str(number), number
    if source == "number":
        number = rng.randint(2, 999)
        return str(number), number
    if source == "switch":
        truth = rng.random() < 0.5
        return ("on" if truth else "off"), truth
    text = rng.choice({"currency": _CURRENCIES, "metric": _METRICS, "room": _ROOMS}[source])
    return text, text


def _fill(text: str, said: list[str], number: str, word: str) -> str:
    for index, value in enumerate(said):
        text = text.replace(f"{{{index}}}", value)
    return text.replace("{n}", number).replace("{w}", word)


def _declaration(rng: random.Random, tool: Everyday) -> tuple[dict[str, Any], str, list[str]]:
    name = rng.choice(tool.names)
    keys = [rng.choice(slot.names) for slot in tool.slots]
    schema: dict[str, Any] = {"type": "object",
                              "properties": {key: {"type": slot.kind} for key, slot in zip(keys, tool.slots)}}
    if keys:
        schema["required"] = keys
    return ({"type": "function", "function": {"name": name, "description": rng.choice(tool.descriptions),
                                              "parameters": schema}}, name, keys)


def make(rng: random.Random, split: Split) -> Conversation:
    chosen = rng.sample(TOOLS, rng.choice((1, 1, 2, 2, 3, 4)))
    declared = [_declaration(rng, tool) for tool in chosen]
    while len({name for _, name, _ in declared}) < len(declared):
        declared = [_declaration(rng, tool) for tool in chosen]
    tool, (_, name, keys) = chosen[0], declared[0]
    rng.shuffle(declared)
    values = [_value(rng, split, slot.source) for slot in tool.slots]
    said = [text for text, _ in values]
    thinking = rng.random() < 0.5
    thought = call_thought([other for _, other, _ in declared], [name]) if thinking else ""
    messages = [user(_fill(rng.choice(tool.requests), said, "", "")),
                assistant("", thought, [(name, {key: value for key, (_, value) in zip(keys, values)})])]
    if rng.random() < 0.5:
        number, word = str(rng.randint(1, 28)), rng.choice(_SKIES)
        messages += [tool_result(_fill(tool.result, said, number, word)),
                     assistant(_fill(tool.answer, said, number, word))]
    return Conversation(TOPIC, messages, [declaration for declaration, _, _ in declared], thinking)
