"""Answers of an asked-for form over HTTP, from a small trained model at temperature 1: valid whatever it would rather say."""
from __future__ import annotations

import concurrent.futures
import json
import os
import random
import re
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import jsonschema
import pytest

from chat_stream import CHAT, both_ways, joined, plain
from sheaf_server import HttpError, SheafServer, wait_for

SCHEMAS = int(os.environ.get("SHEAF_TEST_SCHEMAS", 50))
REQUESTS_AT_ONCE = 8


@pytest.fixture(scope="module")
def server(nano: Path) -> Iterator[SheafServer]:
    with SheafServer(nano, "--workers", "1", "--served-model-name", "nano") as running:
        running.patience_seconds = 30
        yield running


ASK = {"model": "nano", "messages": [{"role": "user", "content": "What is 3 + 4?"}], "max_tokens": 700, "temperature": 1,
       "chat_template_kwargs": {"enable_thinking": False}}


def random_schema(draw: random.Random, depth: int) -> dict[str, Any]:
    """Bounded everywhere, so that an answer ends well within max_tokens."""
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "const", "pattern", "format", "union"]
    kind = draw.choice(kinds + (["object", "array"] * 4 if depth else []))
    if kind == "object":
        names = draw.sample(["a", "name", "x y", "\u00e9t\u00e9", "q\"uote", "n1", "z"], draw.randint(0, 4))
        return {"type": "object", "properties": {name: random_schema(draw, depth - 1) for name in names},
                "required": [name for name in names if draw.random() < 0.7], "additionalProperties": False}
    if kind == "array":
        least = draw.randint(0, 2)
        return {"type": "array", "items": random_schema(draw, depth - 1), "minItems": least, "maxItems": least + draw.randint(0, 2)}
    if kind == "string":
        least = draw.randint(0, 3)
        return {"type": "string", "minLength": least, "maxLength": least + draw.randint(0, 8)}
    if kind in ("integer", "number"):
        least = draw.randint(-1000, 1000)
        bounds = {"minimum": least, "maximum": least + draw.randint(0, 1000)}
        return {"type": "integer", **bounds} if kind == "integer" else {"enum": [least, least + 0.5]}
    if kind == "enum":
        return {"enum": draw.sample(["red", "blue", 3, None, True, "a\"b", -1.5], draw.randint(1, 4))}
    if kind == "const":
        return {"const": draw.choice(["only", 7, None, False])}
    if kind == "pattern":
        return {"type": "string", "pattern": draw.choice(["^[a-c]{2,4}$", "^\\d{3}-\\d{2}$", "^(yes|no)$"])}
    if kind == "format":
        return {"type": "string", "format": draw.choice(["date", "uuid", "ipv4"])}
    if kind == "union":
        return {"anyOf": [{"type": "boolean"}, {"type": "string", "maxLength": 5}]}
    return {"type": kind}


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def test_every_answer_fits_its_schema(server: SheafServer, seed: int) -> None:
    draw = random.Random(seed)
    schemas = [{"type": "object", "properties": {"v": random_schema(draw, 3)}, "required": ["v"], "additionalProperties": False}
               for _ in range(SCHEMAS)]

    def ask(number: int) -> dict[str, Any]:
        body = {**ASK, "response_format": form(schemas[number]), "seed": seed + number}
        return plain(joined(server.events(CHAT, **body))[0])

    with concurrent.futures.ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        for schema, said in zip(schemas, pool.map(ask, range(SCHEMAS))):
            assert said["finish"] == "stop", (schema, said)
            jsonschema.validate(json.loads(said["content"]), schema, format_checker=jsonschema.FormatChecker())


def test_the_form_begins_behind_the_thoughts(server: SheafServer, seed: int) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 99, "minimum": 0}}, "required": ["n"],
              "additionalProperties": False}
    said = both_ways(server, **{**ASK, "chat_template_kwargs": {}, "temperature": 0, "response_format": form(schema)})
    assert said["reasoning"]
    jsonschema.validate(json.loads(said["content"]), schema)


def test_json_object_is_an_object(server: SheafServer, seed: int) -> None:
    for number in range(4):
        said = plain(server.chat(**{**ASK, "response_format": {"type": "json_object"}, "seed": seed + number})["choices"][0])
        if said["finish"] == "stop":
            assert isinstance(json.loads(said["content"]), dict)
        else:
            assert said["content"].startswith("{")


@pytest.mark.parametrize("structured, fits", [
    ({"choice": ["red", "green", "deep blue"]}, lambda text: text in ("red", "green", "deep blue")),
    ({"regex": "[0-9]{3}-[a-f]{2}"}, lambda text: re.fullmatch("[0-9]{3}-[a-f]{2}", text)),
    ({"json": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2}}, lambda text: len(json.loads(text)) == 2),
    ({"grammar": 'start: "a" ("b" | "c")~3'}, lambda text: re.fullmatch("a[bc]{3}", text)),
], ids=["choice", "regex", "json", "grammar"])
def test_structured_outputs_have_their_form(server: SheafServer, seed: int, structured: dict[str, Any], fits: Any) -> None:
    for number in range(3):
        body = {**ASK, "structured_outputs": structured, "seed": seed + number}
        said = plain(server.chat(**body)["choices"][0])
        assert said["finish"] == "stop" and fits(said["content"]), said
        assert plain(joined(server.events(CHAT, **body))[0]) == said


def test_the_same_seed_gives_the_same_bytes_alone_and_in_company(server: SheafServer, seed: int) -> None:
    schema = {"type": "object", "properties": {"s": {"type": "string", "maxLength": 30}}, "required": ["s"],
              "additionalProperties": False}

    def ask(number: int) -> str:
        return server.chat(**{**ASK, "response_format": form(schema), "seed": seed + number})["choices"][0]["message"]["content"]

    alone = [ask(number) for number in range(6)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(6))) == alone


# Bad input: a 400 that names the field, within a second, and nobody else notices.


def tool(name: str = "f", parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"} if parameters is None else parameters}}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def wanting(**properties: Any) -> dict[str, Any]:
    return form({"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False})


USER = {"role": "user", "content": "hi"}
BAD = {
    "unknown_named_tool": ("tool_choice", {"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
    "schema_that_is_no_object": ("parameters", {"tools": [tool(parameters=[1])]}),
    "duplicate_names": ("tools[1].function.name", {"tools": [tool(), tool()]}),
    "a_thousand_tools": ("tools", {"tools": [tool(f"f{i}") for i in range(1000)]}),
    "odd_name": ("tools[0].function.name", {"tools": [tool("a b<c>")]}),
    "empty_name": ("tools[0].function.name", {"tools": [tool("")]}),
    "unknown_role": ("messages[0].role", {"messages": [{"role": "wizard", "content": "x"}]}),
    "arguments_not_json": ("messages[1].tool_calls[0]", {"messages": [USER, {"role": "assistant", "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{oops"}}]}, USER]}),
    "required_without_tools": ("tool_choice", {"tool_choice": "required"}),
    "remote_ref": ("response_format", {"response_format": wanting(v={"$ref": "https://example.com/schema.json"})}),
    "ref_to_nothing": ("response_format", {"response_format": wanting(v={"$ref": "#/$defs/none"})}),
    "endless_recursion": ("response_format", {"response_format": form(
        {"type": "object", "properties": {"v": {"$ref": "#"}}, "required": ["v"], "additionalProperties": False})}),
    "contradiction": ("response_format", {"response_format": wanting(v={"type": "integer", "minimum": 5, "maximum": 3})}),
    "contradicting_types": ("response_format", {"response_format": wanting(v={"allOf": [{"type": "integer"}, {"type": "string"}]})}),
    "a_billion_items": ("response_format", {"response_format": wanting(v={"type": "array", "items": {}, "minItems": 10 ** 9})}),
    "too_deep": ("nested deeper than", {"response_format": wanting(v=nested(300))}),
    "look_around": ("structured_outputs", {"structured_outputs": {"regex": "(?=a)b"}}),
    "back_reference": ("structured_outputs", {"structured_outputs": {"regex": "(a)\\1"}}),
    "broken_regex": ("structured_outputs", {"structured_outputs": {"regex": "a("}}),
    "huge_regex": ("structured_outputs", {"structured_outputs": {"regex": "((a{1000}){1000}){1000}"}}),
    "no_choices": ("structured_outputs", {"structured_outputs": {"choice": []}}),
    "broken_grammar": ("structured_outputs", {"structured_outputs": {"grammar": "start: ("}}),
    "two_forms": ("structured_outputs", {"structured_outputs": {"regex": "a", "choice": ["b"]}}),
    "form_and_structured": ("structured_outputs", {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}),
    "form_and_required_call": ("response_format", {"response_format": {"type": "json_object"}, "tools": [tool()],
                                                   "tool_choice": "required"}),
    "unknown_form": ("response_format.type", {"response_format": {"type": "yaml"}}),
    "no_schema": ("response_format.json_schema", {"response_format": {"type": "json_schema"}}),
    "beam_search": ("use_beam_search", {"use_beam_search": True}),
    "bad_effort": ("reasoning_effort", {"reasoning_effort": "very"}),
    "negative_budget": ("thinking_token_budget", {"thinking_token_budget": -1}),
    "effort_against_thinking": ("reasoning_effort", {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}}),
    "continue_a_question": ("continue_final_message", {"continue_final_message": True, "add_generation_prompt": False}),
    "own_template": ("chat_template", {"chat_template": "{{ messages }}"}),
}


@pytest.mark.parametrize("field, changes", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_by_name_within_a_second(server: SheafServer, field: str, changes: dict[str, Any]) -> None:
    steps = server.metric("sheaf_steps_total")
    began = time.monotonic()
    with pytest.raises(HttpError) as caught:
        server.chat(**{"model": "nano", "messages": [USER], "max_tokens": 2, **changes})
    assert time.monotonic() - began < 1.0
    error = caught.value.body["error"]
    assert caught.value.status == 400
    assert field in f"{error['param']} {error['message']}", error
    assert server.metric("sheaf_steps_total") == steps


@pytest.mark.parametrize("changes", [
    {"structured_outputs": {"choice": [f"choice {i}" for i in range(10_000)]}},
    {"messages": [USER, {"role": "assistant", "content": "a"}, {"role": "tool", "tool_call_id": "nobody", "content": "x"}]},
    {"n": 2, "tools": [tool()]},
    {"a_field_that_nobody_knows": 1},
], ids=["ten_thousand_choices", "result_of_no_call", "n_and_tools", "unknown_field"])
def test_what_is_odd_but_clear_is_answered_or_refused_by_name(server: SheafServer, changes: dict[str, Any]) -> None:
    try:
        assert server.chat(**{**ASK, "max_tokens": 8, **changes})["choices"]
    except HttpError as error:
        assert error.status == 400 and error.body["error"]["param"] in changes


def test_a_plain_stream_is_the_same_while_others_send_nonsense(server: SheafServer) -> None:
    body = {"model": "nano", "messages": [USER], "temperature": 0, "max_tokens": 150, "ignore_eos": True}
    quiet = plain(joined(server.events(CHAT, **body))[0])
    ended = threading.Event()

    sent = [0, 0]

    def nonsense(sender: int) -> None:
        while not ended.is_set():
            for _, changes in BAD.values():
                with pytest.raises(HttpError):
                    server.chat(**{"model": "nano", "messages": [USER], **changes})
                sent[sender] += 1
                if ended.is_set():
                    break

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        senders = [pool.submit(nonsense, i) for i in range(2)]
        try:
            wait_for(lambda: all(sent) or any(sender.done() for sender in senders), 30, "both send")
            assert plain(joined(server.events(CHAT, **body))[0]) == quiet
        finally:
            ended.set()
        for sender in senders:
            sender.result()
