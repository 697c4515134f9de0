"""A chat stream put together again, held to the order and shape that clients rely on."""
from __future__ import annotations

import json
from typing import Any, Iterable

from answers import counts
from sheaf_server import SheafServer

CHAT = "/v1/chat/completions"


def joined(chunks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The choices of a whole answer. AssertionError where a chunk is not as clients expect."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        assert "error" not in chunk, chunk
        assert chunk["object"] == "chat.completion.chunk"
        for piece in chunk["choices"]:
            assert chunk.get("usage") is None or "prompt_tokens" in chunk["usage"]
            first = piece["index"] not in choices
            choice = choices.setdefault(piece["index"], {"message": {"content": None}, "finish_reason": None})
            assert choice["finish_reason"] is None, "a chunk after the finish reason"
            assert ("role" in piece["delta"]) == first, "the role comes once, first"
            _add(choice["message"], piece["delta"])
            choice["finish_reason"] = piece["finish_reason"]
    assert all(choice["finish_reason"] for choice in choices.values())
    return [choices[index] for index in sorted(choices)]


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    assert delta.get("reasoning") == delta.get("reasoning_content"), "thoughts have two names, and one text"
    for name in ("content", "reasoning"):
        if delta.get(name):
            message[name] = (message.get(name) or "") + delta[name]
    for piece in delta.get("tool_calls", []):
        calls = message.setdefault("tool_calls", [])
        function = piece["function"]
        assert isinstance(function["arguments"], str), "arguments are text, never null"
        if piece["index"] == len(calls):
            assert piece["id"] and piece["type"] == "function" and function["name"]
            calls.append({"id": piece["id"], "name": function["name"], "arguments": function["arguments"]})
        else:
            assert piece["index"] == len(calls) - 1, "calls come one after another, counted from 0"
            assert "id" not in piece and "name" not in function, "a call's id and name come once"
            calls[-1]["arguments"] += function["arguments"]


def plain(choice: dict[str, Any]) -> dict[str, Any]:
    """What a choice of either kind says, without ids: content, reasoning, calls as (name, arguments text), finish."""
    message = choice["message"]
    calls = [call.get("function", call) for call in message.get("tool_calls") or []]
    return {"content": message.get("content") or None, "reasoning": message.get("reasoning") or None,
            "calls": [(call["name"], call["arguments"]) for call in calls], "finish": choice["finish_reason"]}


def both_ways(server: SheafServer, **body: Any) -> dict[str, Any]:
    """plain() of the first choice, asked whole and streamed, which must be equal, tokens counted alike."""
    whole = server.chat(**body)
    chunks = list(server.events(CHAT, stream_options={"include_usage": True}, **body))
    assert chunks[-1]["choices"] == [] and counts(chunks[-1]["usage"]) == counts(whole["usage"])
    assert all(chunk["choices"] for chunk in chunks[:-1])
    said = [plain(choice) for choice in whole["choices"]]
    assert [plain(choice) for choice in joined(chunks)] == said
    ids = [call["id"] for choice in whole["choices"] for call in choice["message"].get("tool_calls") or []]
    assert len(set(ids)) == len(ids) and all(ids)
    return said[0]


def arguments(said: dict[str, Any]) -> list[tuple[str, Any]]:
    """The calls with their arguments parsed."""
    return [(name, json.loads(text)) for name, text in said["calls"]]
