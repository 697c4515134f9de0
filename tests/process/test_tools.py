"""Tool calls over HTTP: scripts of a model's output in both formats, each asked whole and streamed; guaranteed calls of a real model."""
from __future__ import annotations

import json
import urllib.error
from pathlib import Path
from typing import Any, Iterator

import jsonschema
import pytest

from chat_stream import CHAT, arguments, both_ways, joined, plain
from replay import Replay, call
from sheaf_server import SheafServer

OBSERVATION, USER = "<|observation|>", "<|user|>"


def function(name: str, properties: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties or {}, **more}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = function("get_weather", {
    "city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    "tags": {"type": "array", "items": {"type": "string"}}, "where": {"$ref": "#/$defs/Where"}, "exact": {"type": "boolean"}},
    **{"$defs": {"Where": {"type": "object"}}})
TOOLS = [WEATHER, function("get", {"code": {"type": "string"}}), function("now")]


def said_by(replay: Replay, thoughts: str | None, text: str, tools: list[dict[str, Any]] = TOOLS, **fields: Any) -> dict[str, Any]:
    return both_ways(replay.server, **replay.chat(replay.script(thoughts, text), tools=tools, **{"max_tokens": 600, **fields}))


def a_call(replay: Replay, name: str, **values: str) -> str:
    return call(name, replay.options.newlines, **values)


# What users reported of these formats elsewhere.


def test_a_call_within_thoughts_is_not_lost(replay: Replay) -> None:
    begin = "\n<think>" if replay.options.newlines else ""
    script = begin + "Let me see." + a_call(replay, "get_weather", city="Oslo") + OBSERVATION
    said = both_ways(replay.server, **replay.chat(script, tools=TOOLS, max_tokens=200))
    assert said["reasoning"] == "Let me see." and said["content"] is None
    assert arguments(said) == [("get_weather", {"city": "Oslo"})] and said["finish"] == "tool_calls"


@pytest.mark.parametrize("name", ["get", "get_weather"])
def test_a_name_that_begins_another_is_whole(replay: Replay, name: str) -> None:
    value = {"get": "code", "get_weather": "city"}[name]
    said = said_by(replay, None, a_call(replay, name, **{value: "x"}) + OBSERVATION)
    assert arguments(said) == [(name, {value: "x"})]


def test_a_call_without_arguments_is_streamed(replay: Replay) -> None:
    said = said_by(replay, "Hm.", a_call(replay, "now") + OBSERVATION)
    assert said["calls"] == [("now", "{}")] and said["finish"] == "tool_calls"


def test_an_empty_argument_is_an_empty_string(replay: Replay) -> None:
    assert arguments(said_by(replay, None, a_call(replay, "get", code="") + OBSERVATION)) == [("get", {"code": ""})]


def test_an_optional_string_is_not_taken_for_json(replay: Replay) -> None:
    for value in ("5", '["a"]', "true"):
        said = said_by(replay, None, a_call(replay, "get_weather", unit=value) + OBSERVATION)
        assert arguments(said) == [("get_weather", {"unit": value})]
    said = said_by(replay, None, a_call(replay, "get_weather", unit="null") + OBSERVATION)
    assert arguments(said) == [("get_weather", {"unit": None})]


def test_arrays_objects_and_booleans_are_json(replay: Replay) -> None:
    said = said_by(replay, None, a_call(replay, "get_weather", tags='["it\'s", "a,b", "]"]', days="3", exact="true",
                                        where='{"a": [1, {"b": null}]}') + OBSERVATION)
    assert arguments(said) == [("get_weather", {"tags": ["it's", "a,b", "]"], "days": 3, "exact": True,
                                                "where": {"a": [1, {"b": None}]}})]


def test_text_after_thoughts_of_a_tool_turn_is_content(replay: Replay) -> None:
    said = said_by(replay, "I need a tool.", "Let me check." + a_call(replay, "now") + OBSERVATION)
    assert (said["reasoning"], said["content"]) == ("I need a tool.", "Let me check.")


def test_text_between_and_after_calls_stays(replay: Replay) -> None:
    said = said_by(replay, None, "One." + a_call(replay, "now") + "Two." + a_call(replay, "now") + "Three." + USER)
    assert [name for name, _ in said["calls"]] == ["now", "now"]
    assert "".join(said["content"].split()) == "One.Two.Three."


def test_parallel_calls_are_counted_from_0(replay: Replay) -> None:
    said = said_by(replay, "Three.", "".join(a_call(replay, "get_weather", city=city) for city in "ABC") + OBSERVATION)
    assert arguments(said) == [("get_weather", {"city": city}) for city in "ABC"]


def test_a_forgotten_key_tag_does_not_break_the_call(replay: Replay) -> None:
    script = a_call(replay, "get_weather", city="x").replace("<arg_key>", "")
    assert arguments(said_by(replay, None, script + OBSERVATION)) == [("get_weather", {"city": "x"})]


def test_the_other_format_is_read_too(replay: Replay) -> None:
    script = call("get_weather", not replay.options.newlines, days="2")
    assert arguments(said_by(replay, None, script + OBSERVATION)) == [("get_weather", {"days": 2})]


def test_values_keep_their_brackets_quotes_and_blanks(replay: Replay) -> None:
    code = '  if (a < b && c > d) {\n\treturn "\\n" + "</div>"; }\n\u00e9\u4e16\U0001f642 '
    said = said_by(replay, None, a_call(replay, "get", code=code) + OBSERVATION)
    assert arguments(said) == [("get", {"code": code})]


def test_long_strings_stream_while_they_are_said(replay: Replay) -> None:
    body = replay.chat(replay.script(None, a_call(replay, "get", code="abc " * 60) + OBSERVATION), tools=TOOLS, max_tokens=600)
    pieces = [call["function"]["arguments"] for chunk in replay.server.events(CHAT, **body) for choice in chunk["choices"]
              for call in choice["delta"].get("tool_calls", [])]
    assert max(map(len, pieces)) < 60 and len(pieces) > 20
    assert json.loads("".join(pieces)) == {"code": "abc " * 60}


def test_an_undeclared_tool_is_content_and_no_call(replay: Replay) -> None:
    said = said_by(replay, None, "Well." + a_call(replay, "rm", path="/") + OBSERVATION)
    assert said["calls"] == [] and said["finish"] == "stop"
    assert said["content"].startswith("Well.") and "<tool_call>rm" in said["content"] and "</tool_call>" in said["content"]


def test_a_call_that_is_cut_off_is_no_whole_call(replay: Replay) -> None:
    script = replay.script(None, a_call(replay, "get", code="abcdefgh " * 4) + OBSERVATION)
    whole = replay.count(script)
    for limit in (whole - 2, whole - 8, whole - 16):
        said = both_ways(replay.server, **replay.chat(script, tools=TOOLS, max_tokens=limit))
        assert said["finish"] == "length"
        for _, text in said["calls"]:
            with pytest.raises(ValueError):
                json.loads(text)


def test_calls_are_text_where_no_tools_are_declared_or_none_may_be_used(replay: Replay) -> None:
    script = replay.script(None, "Look:" + a_call(replay, "now") + USER)
    for fields in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        said = both_ways(replay.server, **replay.chat(script, max_tokens=300, **fields))
        assert said["calls"] == [] and said["finish"] == "stop" and said["content"].startswith("Look:")


def test_text_that_only_looks_like_a_tag_ends_nothing(replay: Replay) -> None:
    """Where tags have tokens, the same characters in ordinary tokens are a value's text."""
    if replay.options.plain_tags:
        pytest.skip("tags are text in this checkpoint")
    said = said_by(replay, None, a_call(replay, "get", code="a[sMASK]/arg_value>b[sMASK]/tool_call>c") + OBSERVATION)
    assert arguments(said) == [("get", {"code": "a</arg_value>b</tool_call>c"})]


def test_tool_results_as_lists_and_either_name_of_thoughts_make_the_same_prompt(replay: Replay) -> None:
    def prompt(thoughts: str, result: Any, content: Any) -> list[int]:
        history = [{"role": "user", "content": "hi"},
                   {"role": "assistant", "content": content, thoughts: "Hm.", "tool_calls": [
                       {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rom"}'}}]},
                   {"role": "tool", "tool_call_id": "a", "content": result}]
        return replay.server.request("POST", "/tokenize", {"messages": history, "tools": TOOLS})["tokens"]

    parts = [{"type": "text", "text": "sun"}]
    assert prompt("reasoning", "sun", None) == prompt("reasoning_content", parts, "") == prompt("reasoning", parts, None)


def test_an_answer_in_several_choices_keeps_them_apart(replay: Replay) -> None:
    body = replay.chat(replay.script("Hm.", "Yes." + a_call(replay, "now") + OBSERVATION), tools=TOOLS, max_tokens=200, n=2)
    whole = [plain(choice) for choice in replay.server.chat(**body)["choices"]]
    assert whole == [plain(choice) for choice in joined(replay.server.events(CHAT, **body))]
    assert len(whole) == 2 and whole[0] == whole[1] and whole[0]["calls"] == [("now", "{}")]


def test_the_first_chunk_comes_with_the_first_token(replay: Replay) -> None:
    """A role sent ahead would make a load generator's time to first token a lie: the prompt is not even read then."""
    body = replay.chat(replay.script("Hm.", "Yes." + USER), tools=TOOLS, max_tokens=40)
    steps = replay.server.metric("sheaf_steps_total")
    for chunk in replay.server.events(CHAT, **body):
        assert chunk["choices"][0]["delta"]["role"] == "assistant"
        break
    assert replay.server.metric("sheaf_steps_total") > steps


# The trained checkpoint: what is asked for is what comes, at any temperature.


@pytest.fixture(scope="module")
def trained(nano: Path) -> Iterator[SheafServer]:
    with SheafServer(nano, "--workers", "1", "--served-model-name", "nano") as server:
        yield server


PLAN = function("plan_trip", {
    "city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 9},
    "kind": {"enum": ["sea", "hills"]}}, required=["city", "days", "kind"], additionalProperties=False)
ASK = {"model": "nano", "messages": [{"role": "user", "content": "What is 3 + 4?"}], "max_tokens": 400,
       # At temperature 1 a small model now and then thinks to the end of its tokens.
       "thinking_token_budget": 100, "temperature": 1}


def check_calls(choice: dict[str, Any], names: set[str]) -> None:
    said = plain(choice)
    assert said["finish"] == "tool_calls" and said["calls"], said
    for name, values in arguments(said):
        assert name in names
        schema = next(tool["function"]["parameters"] for tool in (PLAN, *TOOLS) if tool["function"]["name"] == name)
        jsonschema.validate(values, schema)


@pytest.mark.parametrize("choice, names", [
    ("required", {"plan_trip", "now"}),
    ({"type": "function", "function": {"name": "plan_trip"}}, {"plan_trip"}),
    ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
        {"type": "function", "function": {"name": "plan_trip"}}]}}, {"plan_trip"}),
], ids=["required", "named", "allowed"])
def test_calls_that_must_be_made_are_made_and_valid(trained: SheafServer, seed: int, choice: Any, names: set[str]) -> None:
    for number in range(4):
        body = {**ASK, "tools": [PLAN, TOOLS[2]], "tool_choice": choice, "seed": seed + number}
        whole = trained.chat(**body)["choices"][0]
        check_calls(whole, names)
        assert plain(joined(trained.events(CHAT, **body))[0]) == plain(whole)


def test_parallel_tool_calls_false_is_one_call(trained: SheafServer, seed: int) -> None:
    for number in range(4):
        whole = trained.chat(**{**ASK, "tools": [PLAN], "tool_choice": "required", "parallel_tool_calls": False,
                                "seed": seed + number})["choices"][0]
        check_calls(whole, {"plan_trip"})
        assert len(whole["message"]["tool_calls"]) == 1


def test_a_strict_tool_is_called_rightly_or_not_at_all(trained: SheafServer, seed: int) -> None:
    strict = json.loads(json.dumps(PLAN))
    strict["function"]["strict"] = True
    asked = {**ASK, "messages": [{"role": "user", "content": "Call plan_trip for Rome, 3 days, sea."}], "tools": [strict]}
    for number in range(6):
        whole = trained.chat(**asked, seed=seed + number)["choices"][0]
        for _, values in arguments(plain(whole)):
            jsonschema.validate(values, PLAN["function"]["parameters"])


def test_greedy_questions_with_tools_are_answered_alike_whole_and_streamed(trained: SheafServer,
                                                                           nano_questions: list[dict[str, Any]]) -> None:
    asked = [question for question in nano_questions if question["tools"]]
    assert asked
    for question in asked:
        body = {"model": "nano", "messages": question["messages"], "tools": question["tools"], "temperature": 0,
                "max_tokens": question["max_tokens"], "chat_template_kwargs": {"enable_thinking": question["thinking"]}}
        said = both_ways(trained, **body)
        assert [name for name, _ in said["calls"]] == [
            part.split("\n")[0] for part in question["answer"].split("<tool_call>")[1:]], question["name"]


def test_an_error_in_a_stream_is_an_error_before_it(trained: SheafServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        joined(trained.events(CHAT, **{**ASK, "tools": [PLAN, PLAN]}))
    assert caught.value.code == 400
