#!/usr/bin/python3
"""What Jinja2 makes of our own chat templates: renders that chat_renders_test.cc must repeat byte for byte.

    chat_renders.py --out tests/text/chat_renders.json

Needs jinja2 (Debian: python3-jinja2). The environment is that of transformers' apply_chat_template: sandboxed, blocks
trimmed, loop controls, a tojson that leaves characters as they are and raise_exception.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ("tests/oracle/chat_template.jinja", "tests/oracle/chat_template_latent.jinja", "training/chat_template.jinja")

Json = dict[str, Any]


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def call(name: str, arguments: Any, number: int = 0) -> Json:
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: Json, content: Any = "", **more: Any) -> Json:
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **more}


def answer(content: Any, number: int = 0) -> Json:
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": content}


TIDE: Json = {"type": "function", "function": {
    "name": "tide_at", "description": "Height of the tide, in metres – \"chart datum\"",
    "parameters": {"type": "object", "required": ["harbour"], "properties": {
        "harbour": {"type": "string"}, "hour": {"type": "integer", "minimum": 0, "maximum": 23}}}}}
BELL: Json = {"type": "function", "function": {"name": "ring_bell", "parameters": {"type": "object", "properties": {}}}}
SYSTEM: Json = {"role": "system", "content": "Answer in one line.\n"}
THOUGHT: Json = {"role": "assistant", "content": "Low water.", "reasoning_content": "\nebb since noon\n"}


def conversations() -> dict[str, Json]:
    """Name -> the variables of a render; add_generation_prompt is true where it is not given."""
    question = user("How high is the tide at Brest? 潮汐 🌊")
    return {
        "one question": {"messages": [question]},
        "a system message": {"messages": [SYSTEM, question]},
        "a system message in the middle": {"messages": [question, THOUGHT, SYSTEM, user("And now?")]},
        "no question at all": {"messages": [SYSTEM]},
        "an empty question": {"messages": [user("")]},
        "white space": {"messages": [user("  \n\tx \n ")]},
        "thinking off": {"messages": [question], "enable_thinking": False},
        "thinking on": {"messages": [question], "enable_thinking": True},
        "thinking off, said by the user": {"messages": [user("Ebb?/nothink")], "enable_thinking": False},
        "no generation prompt": {"messages": [question, THOUGHT], "add_generation_prompt": False},
        "a prefix to go on from": {"messages": [question, {"role": "assistant", "content": "The tide"}],
                                   "add_generation_prompt": False},
        "earlier thoughts": {"messages": [question, THOUGHT, user("Why?")]},
        "earlier thoughts are kept": {"messages": [question, THOUGHT, user("Why?")], "clear_thinking": False},
        "thoughts in the text": {"messages": [question, {"role": "assistant", "content": "<think>\nebb\n</think>\nLow."},
                                              user("Why?")], "clear_thinking": False},
        "tags in a question": {"messages": [user("<think>x</think> <tool_call>f</tool_call> {{ 7 * 7 }} {% raw %}")]},
        "parts": {"messages": [user([{"type": "text", "text": "How high "}, {"type": "text", "text": "is it?"}])]},
        "tools": {"messages": [question], "tools": [TIDE, BELL]},
        "tools and a system message": {"messages": [SYSTEM, question], "tools": [BELL]},
        "no tools": {"messages": [question], "tools": []},
        "a call": {"messages": [question, calling(call("tide_at", {"harbour": "Brest", "hour": 7}),
                                                  reasoning_content="which harbour: Brest")], "tools": [TIDE]},
        "a call and its answer": {"messages": [question, calling(call("tide_at", {"harbour": "Brest"})), answer("2.1 m")],
                                  "tools": [TIDE]},
        "text before a call": {"messages": [question, calling(call("ring_bell", {}), content="I ring first. "), answer("")],
                               "tools": [TIDE, BELL]},
        "two calls at once": {"messages": [question, calling(call("tide_at", {"harbour": "Brest"}),
                                                             call("tide_at", {"harbour": "Saint-Malo", "hour": 23}, 1)),
                                           answer("2.1"), answer("9.8", 1)], "tools": [TIDE]},
        "calls in a row": {"messages": [question, calling(call("ring_bell", {}), reasoning_content="one"), answer("ding"),
                                        calling(call("ring_bell", {}, 1), reasoning_content="two"), answer("dong", 1)],
                           "tools": [BELL]},
        "arguments of every kind": {"messages": [question, calling(call("f", {
            "text": "a \"b\"\n\\c <d> & 'e'", "number": -1.5e-7, "large": 12345678901234, "yes": True, "nothing": None,
            "list": [1, "é", [], {}], "object": {"k": {"l": False}}, "": "no name"}))], "tools": [BELL]},
        "arguments that are text": {"messages": [question, calling(call("f", "{\"a\": 1}"))], "tools": [BELL]},
        "an answer of parts": {"messages": [question, calling(call("ring_bell", {})), answer([{"type": "text", "text": "ding"}])],
                               "tools": [BELL]},
        "a question after calls": {"messages": [question, calling(call("ring_bell", {}), reasoning_content="one"), answer("ding"),
                                                {"role": "assistant", "content": "Rung.", "reasoning_content": "two"},
                                                user("Thanks")], "tools": [BELL]},
    }


def environment() -> Any:
    from jinja2 import ext, sandbox
    made = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[ext.loopcontrols])

    def raise_exception(message: str) -> None:
        raise ValueError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made.globals["raise_exception"] = raise_exception
    made.filters["tojson"] = tojson
    return made


def renders() -> list[Json]:
    """For each template and conversation its text; null where the template refuses it."""
    made = []
    for path in TEMPLATES:
        template = environment().from_string((ROOT / path).read_text())
        for name, variables in conversations().items():
            variables = {"add_generation_prompt": True, **variables}
            try:
                text = template.render(**variables)
            except Exception:  # whatever Jinja2 says, a render that ends so is refused
                text = None
            made.append({"template": path, "case": name, "variables": variables, "text": text})
    return made


def file_text() -> str:
    return "[\n" + ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in renders()) + "\n]\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.parse_args().out.write_text(file_text())


if __name__ == "__main__":
    main()
