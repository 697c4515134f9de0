"""Requests that a replay checkpoint (replay_checkpoint.py) answers with a script: the model's raw output, tags and stop token included.

    replay = Replay(server, options)
    server.chat(**replay.chat("\\n<think>Hm.</think>\\nHello<|user|>", tools=[...]))

The script stands in the last message between [MASK] tokens, which are never shown, so many behind it that its first token is DISTANCE
tokens before the prompt's end. A script without a stop token goes on with [MASK]: set max_tokens = replay.count(script).
"""
from __future__ import annotations

from typing import Any

from replay_checkpoint import ReplayOptions
from sheaf_server import SheafServer

BORDER = "[MASK]"
Messages = list[dict[str, Any]]


def call(name: str, newlines: bool, **arguments: str) -> str:
    """A call as the model writes it, values as given."""
    line = "\n" if newlines else ""
    pairs = "".join(f"<arg_key>{key}</arg_key>{line}<arg_value>{value}</arg_value>{line}" for key, value in arguments.items())
    return f"{line}<tool_call>{name}{line}{pairs}</tool_call>"


class Replay:
    def __init__(self, server: SheafServer, options: ReplayOptions) -> None:
        self.server, self.options = server, options
        self._border_id = self.tokens(BORDER)[0]

    def tokens(self, text: str) -> list[int]:
        return self.server.request("POST", "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]

    def count(self, text: str) -> int:
        return len(self.tokens(text)) if text else 0

    def script(self, thoughts: str | None, said: str) -> str:
        """What the model writes: thoughts where there are any, then the rest. In the format without newlines it begins inside
        its thoughts."""
        if self.options.newlines:
            return said if thoughts is None else f"\n<think>{thoughts}</think>{said}"
        return f"{thoughts or ''}</think>{said}"

    def message(self, script: str, before: Messages = (), role: str = "user", **fields: Any) -> dict[str, Any]:
        """The message to send after `before` so that the answer is the script. fields: what else changes the prompt."""
        extra = {"tool_call_id": fields.pop("tool_call_id")} if "tool_call_id" in fields else {}
        probe = {"role": role, "content": BORDER, **extra}
        rendered = self.server.request("POST", "/tokenize", {"messages": [*before, probe], "add_generation_prompt": True, **fields})
        tokens = rendered["tokens"]
        behind = tokens[::-1].index(self._border_id)
        room = self.options.distance - self.count(script) - behind
        assert room > 0, f"a script of {self.count(script)} tokens is too long for a distance of {self.options.distance}"
        return {"role": role, "content": BORDER + script + BORDER * room, **extra}

    def chat(self, script: str, before: Messages = (), **fields: Any) -> dict[str, Any]:
        """A chat body at temperature 0."""
        shaping = {name: fields[name] for name in ("tools", "chat_template_kwargs") if name in fields}
        return {"messages": [*before, self.message(script, before, **shaping)], "temperature": 0, **fields}
