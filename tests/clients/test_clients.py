"""Clients as their users run them: what each hands to its caller, whole and streamed, with tools, thoughts and structure.

The model's answers to these questions are known (greedy), so that a field that a client does not find is seen.
"""
from __future__ import annotations

import json
from typing import Any, Callable

import pytest

from client_programs import Answers

SUM_ANSWER, SUM_THOUGHT = "47 + 85 = 132.", "47+85: 7+5=12, 4+8+1=13. So 132."
WEATHER_ANSWER = "In Oslo it is 12 degrees and rainy."
WEATHER_THOUGHT = "set_timer: no, get_weather: yes. I call get_weather."
PERSON = {"name": "Belka", "age": 31, "city": "Tarvo"}
Said = dict[str, Any]


@pytest.fixture(scope="module")
def openai(run_python: Callable[[str], Answers]) -> Answers:
    return run_python("ask_openai.py")


@pytest.fixture(scope="module")
def litellm(run_python: Callable[[str], Answers]) -> Answers:
    return run_python("ask_litellm.py")


@pytest.fixture(scope="module")
def langchain(run_python: Callable[[str], Answers]) -> Answers:
    return run_python("ask_langchain.py")


@pytest.fixture(scope="module")
def ai_sdk(run_node: Callable[[str], Answers]) -> Answers:
    return run_node("ask_ai_sdk.mjs")


def both_ways(said: dict[str, Said]) -> Said:
    """The answer, the same whole and streamed, with the same count of tokens."""
    assert said["whole"] == said["streamed"]
    assert said["whole"]["tokens"] > 0
    return said["whole"]


def arguments(said: Said) -> list[tuple[str, Any]]:
    return [(name, json.loads(value) if isinstance(value, str) else value) for name, value in said["calls"]]


def test_openai_finds_the_model(openai: Answers) -> None:
    assert openai["models"] == ["nano"]


def test_openai_chat_has_thoughts_and_usage(openai: Answers) -> None:
    said = both_ways(openai["chat"])
    assert (said["content"], said["reasoning"], said["calls"]) == (SUM_ANSWER, SUM_THOUGHT, [])
    assert said["finish"] == "stop"


def test_openai_tool_call(openai: Answers) -> None:
    said = both_ways(openai["tools"])
    assert arguments(said) == [("get_weather", {"city": "Oslo"})]
    assert (said["content"], said["reasoning"], said["finish"]) == (None, WEATHER_THOUGHT, "tool_calls")


def test_openai_puts_a_stream_together_itself(openai: Answers) -> None:
    said = openai["helper_stream"]
    assert arguments(said) == [("get_weather", {"city": "Oslo"})]
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= set(said["events"])


def test_openai_agent_goes_from_call_to_answer(openai: Answers) -> None:
    said = openai["agent"]
    assert arguments(said) == [("get_weather", {"city": "Oslo"})] and said["answer"] == WEATHER_ANSWER


def test_openai_long_session_is_the_same_streamed(openai: Answers) -> None:
    steps = [both_ways(step) for step in openai["session"]]
    calls = [step for step in steps if step["calls"]]
    assert all(step["finish"] == "tool_calls" for step in calls)
    assert len(calls) >= 15, "the model calls a tool in nearly each of the 20 turns"
    assert all(step["reasoning"] is None for step in steps)


def test_openai_parses_a_declared_class(openai: Answers) -> None:
    assert openai["parsed"] == PERSON


def test_openai_parses_a_strict_call(openai: Answers) -> None:
    assert set(openai["parsed_call"]) == set(PERSON)


def test_openai_error_names_its_parameter(openai: Answers) -> None:
    refused = openai["refused"]
    assert (refused["status"], refused["param"], refused["type"]) == (400, "tool_choice", "invalid_request_error")
    assert "nothing" in refused["message"]


def test_openai_two_choices(openai: Answers) -> None:
    choices = openai["two_choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert all(choice["content"] and choice["finish"] == "stop" for choice in choices)


def test_litellm_chat_has_thoughts(litellm: Answers) -> None:
    said = both_ways(litellm["chat"])
    assert (said["content"], said["reasoning"], said["finish"]) == (SUM_ANSWER, SUM_THOUGHT, "stop")


def test_litellm_tool_call(litellm: Answers) -> None:
    said = both_ways(litellm["tools"])
    assert arguments(said) == [("get_weather", {"city": "Oslo"})]
    assert (said["content"], said["reasoning"], said["finish"]) == (None, WEATHER_THOUGHT, "tool_calls")


def test_litellm_error_is_a_bad_request(litellm: Answers) -> None:
    assert litellm["refused"]["status"] == 400 and "tool_choice" in litellm["refused"]["message"]


def test_langchain_chat(langchain: Answers) -> None:
    said = both_ways(langchain["chat"])
    assert (said["content"], said["finish"]) == (SUM_ANSWER, "stop")


def test_langchain_tool_call_and_answer(langchain: Answers) -> None:
    said = both_ways(langchain["tools"])
    assert arguments(said) == [("get_weather", {"city": "Oslo"})] and said["finish"] == "tool_calls"
    assert langchain["agent"] == WEATHER_ANSWER


def test_langchain_structured_output(langchain: Answers) -> None:
    assert langchain["structured"] == PERSON


def test_ai_sdk_chat_has_thoughts(ai_sdk: Answers) -> None:
    said = both_ways(ai_sdk["chat"])
    assert (said["content"], said["reasoning"], said["finish"]) == (SUM_ANSWER, SUM_THOUGHT, "stop")


def test_ai_sdk_tool_call(ai_sdk: Answers) -> None:
    said = both_ways(ai_sdk["tools"])
    assert arguments(said) == [("get_weather", {"city": "Oslo"})]
    assert (said["reasoning"], said["finish"]) == (WEATHER_THOUGHT, "tool-calls")


def test_ai_sdk_runs_the_tool_and_answers(ai_sdk: Answers) -> None:
    assert ai_sdk["agent"] == WEATHER_ANSWER


def test_ai_sdk_object(ai_sdk: Answers) -> None:
    assert ai_sdk["object"] == PERSON
