"""Thoughts over HTTP: scripts in both formats, whole and streamed, and a budget for a model's thoughts."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chat_stream import CHAT, both_ways, plain
from replay import Replay
from sheaf_server import SheafServer

USER = "<|user|>"


def said_by(replay: Replay, script: str, **fields: Any) -> dict[str, Any]:
    return both_ways(replay.server, **replay.chat(script, **{"max_tokens": 200, **fields}))


def test_thoughts_and_answer_are_told_apart(replay: Replay) -> None:
    said = said_by(replay, replay.script("Let me think.", "\nHello." + USER))
    assert said == {"reasoning": "Let me think.", "content": "Hello.", "calls": [], "finish": "stop"} or \
        said == {"reasoning": "Let me think.", "content": "\nHello.", "calls": [], "finish": "stop"}


def test_thoughts_that_are_cut_off_are_never_content(replay: Replay) -> None:
    begin = "\n<think>" if replay.options.newlines else ""
    script = begin + "I think and think and think"
    said = said_by(replay, script, max_tokens=replay.count(script))
    assert said["reasoning"] == "I think and think and think"
    assert said["content"] is None and said["finish"] == "length"


def test_a_model_that_skips_its_thoughts_answers_in_content(replay: Replay) -> None:
    said = said_by(replay, replay.script(None, "Just so." + USER))
    assert (said["reasoning"], said["content"]) == (None, "Just so.")


def test_without_thinking_all_is_content(replay: Replay) -> None:
    said = said_by(replay, "Just so." + USER, chat_template_kwargs={"enable_thinking": False})
    assert (said["reasoning"], said["content"]) == (None, "Just so.")


def test_reasoning_tokens_are_counted(replay: Replay) -> None:
    def counted(script: str) -> int:
        usage = replay.server.chat(**replay.chat(script, max_tokens=200))["usage"]
        return usage["completion_tokens_details"]["reasoning_tokens"]

    thoughts = counted(replay.script("One two three four.", "Yes." + USER))
    assert counted(replay.script(None, "Yes." + USER)) < thoughts
    assert thoughts >= replay.count("One two three four.")


def test_include_reasoning_false_leaves_thoughts_out(replay: Replay) -> None:
    body = replay.chat(replay.script("Secret.", "Hello." + USER), max_tokens=100, include_reasoning=False)
    message = replay.server.chat(**body)["choices"][0]["message"]
    assert message["content"].strip() == "Hello."
    assert not message.get("reasoning") and not message.get("reasoning_content")
    assert not any("Secret" in str(chunk) for chunk in replay.server.events(CHAT, **body))


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_one_name_of_thoughts_can_be_turned_off(nano: Path, name: str) -> None:
    with SheafServer(nano, "--workers", "0", "--reasoning-fields", name) as server:
        body = {"messages": [{"role": "user", "content": "What is 3 + 4?"}], "temperature": 0, "max_tokens": 60}
        message = server.chat(**body)["choices"][0]["message"]
        deltas = [chunk["choices"][0]["delta"] for chunk in server.events(CHAT, **body)]
    other = {"reasoning", "reasoning_content"} - {name}
    assert message[name] and not other & message.keys()
    assert "".join(delta.get(name, "") for delta in deltas) == message[name]
    assert not any(other & delta.keys() for delta in deltas)


@pytest.fixture(scope="module")
def trained(nano: Path) -> Any:
    with SheafServer(nano, "--workers", "0", "--served-model-name", "nano") as server:
        yield server


ASK = {"model": "nano", "messages": [{"role": "user", "content": "What is 31 + 47?"}], "temperature": 0, "max_tokens": 200}


def test_a_thinking_budget_ends_the_thoughts(trained: SheafServer) -> None:
    free = trained.chat(**ASK)
    assert free["choices"][0]["message"]["reasoning"]
    thoughts = free["usage"]["completion_tokens_details"]["reasoning_tokens"]
    for budget in (0, 1, 4):
        whole = trained.chat(**ASK, thinking_token_budget=budget)
        assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] <= budget + 3 < thoughts
        assert whole["choices"][0]["message"]["content"]
        assert both_ways(trained, **ASK, thinking_token_budget=budget) == plain(whole["choices"][0])
    assert plain(trained.chat(**ASK, thinking_token_budget=10_000)["choices"][0]) == plain(free["choices"][0])


@pytest.mark.parametrize("off", [
    {"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}, {"enable_thinking": False},
    {"thinking": False}, {"thinking": {"type": "disabled"}},
], ids=["reasoning_effort", "template_kwargs", "enable_thinking", "thinking", "thinking_type"])
def test_every_way_to_turn_thoughts_off_does(trained: SheafServer, off: dict[str, Any]) -> None:
    said = both_ways(trained, **ASK, **off)
    assert said["reasoning"] is None and said["content"]
