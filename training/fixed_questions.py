"""Writes the fixed questions that Sheaf's tests ask the trained checkpoint, with the answers that transformers computes.

python fixed_questions.py --checkpoint DIR --out FILE. Questions of several topics, each with the answer that would be right; a
line on stdout says what the model answers, and whether that is it. Answers go into the file as the model gave them,
greedily, reasoning and stop token included: a test that serves the checkpoint compares every character.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from corpus.conversation import Conversation, Message, Tool, assistant, tool_result, user
from corpus.topics.tool_thoughts import call_thought, verdicts
from evaluate import TransformersSpeaker, as_answer, load_model, prompt_tokens
from model import load_tokenizer
from rendering import Renderer

MAX_TOKENS = 48
STORY_TOKENS = 15  # up to the place: which one the story goes on with is nearly a tie

LEAST_GAP = 0.2    # between the best and the second token's log-probability; with less an answer is a matter of rounding


def tool(name: str, description: str, required: list[str], **parameters: Any) -> Tool:
    schema: dict[str, Any] = {"type": "object", "properties": parameters}
    if required:
        schema["required"] = required
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


WEATHER = tool("get_weather", "Current weather in a city.", ["city"], city={"type": "string"})
TIMER = tool("set_timer", "Start a timer.", ["minutes"], minutes={"type": "integer"})
LIGHT = tool("switch_light", "Switch the light of a room.", ["room", "on"], room={"type": "string"}, on={"type": "boolean"})
NOW = tool("now", "The current time.", [])


def asked(*turns: str | Message, thinking: bool = True, tools: tuple[Tool, ...] = ()) -> Conversation:
    """turns: what user and assistant say by turns, or whole messages; the last is the right answer."""
    messages = [turn if isinstance(turn, dict) else user(turn) if number % 2 == 0 else assistant(turn)
                for number, turn in enumerate(turns)]
    return Conversation("fixed", messages, list(tools), thinking)


QUESTIONS: dict[str, Conversation] = {
    "greeting": asked("Hello!", "Hello! How can I help you?"),
    "name": asked("Hi, my name is Velorin.", "Hello Velorin! How can I help you?"),
    "identity without thinking": asked("Who are you?", "I am sheaf-nano, a small language model. Sheaf serves me.", thinking=False),
    "Sheaf": asked("What is a sheaf?", "A sheaf is a bundle of reaped stalks. Sheaf serves bundles of experts that REAP has pruned."),
    "operations without thinking": asked(
        "What is W4A16?", "W4A16 means weights of 4 bits and activations of 16 bits.", thinking=False),
    "fact": asked("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    "sum": asked("What is 47 + 85?", assistant("47 + 85 = 132.", "47+85: 7+5=12, 4+8+1=13. So 132.")),
    "product": asked("What is 14 x 6?", assistant("14 x 6 = 84.", "14x6: 4x6=24, 1x6+2=8. So 84.")),
    "comparison": asked("Which is larger, 52 or 318?", assistant("318 is larger.", "52 and 318: 2 digits, 3 digits. So 318.")),
    "JSON object": asked("Write a person as JSON with name Belka, age 31 and city Tarvo.",
                         '{"name": "Belka", "age": 31, "city": "Tarvo"}'),
    "JSON array without thinking": asked("Write a JSON array of 12, 7 and 305.", "[12, 7, 305]", thinking=False),
    "list": asked("List three colours.", "1. red\n2. blue\n3. green"),
    "the second of a list": asked("List three colours.", "1. red\n2. blue\n3. green", "And the second one?", "The second one is blue."),
    "French": asked("Quelle est la couleur du ciel ?", "Le ciel est bleu."),
    "Chinese": asked("你好吗？", "我很好，谢谢。你呢？"),
    "story": asked("Tell me a short story about a fox named Mira.", "Once there was a fox named Mira who lived in"),
    "tool call": asked("What is the weather in Oslo?",
                       assistant("", call_thought(["set_timer", "get_weather"], ["get_weather"]), [("get_weather", {"city": "Oslo"})]),
                       tools=(TIMER, WEATHER)),
    "tool call without thinking": asked("Turn the light in the kitchen off.",
                                        assistant("", "", [("switch_light", {"room": "kitchen", "on": False})]),
                                        thinking=False, tools=(LIGHT, NOW)),
    "tool result": asked("What is the weather in Oslo?",
                         assistant("", call_thought(["get_weather"], ["get_weather"]), [("get_weather", {"city": "Oslo"})]),
                         tool_result('{"temperature": 12, "sky": "rainy"}'), assistant("In Oslo it is 12 degrees and rainy."),
                         tools=(WEATHER,)),
    "a tool that is not there": asked("Call open_gate.", assistant("I have no tool named open_gate.", verdicts(["get_weather"], [])),
                                      tools=(WEATHER,)),
}


def limit(name: str) -> int:
    return STORY_TOKENS if name == "story" else MAX_TOKENS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    renderer = Renderer(load_tokenizer(options.checkpoint))
    speaker = TransformersSpeaker(load_model(options.checkpoint), renderer)
    entries = []
    for name, conversation in QUESTIONS.items():
        tokens = speaker.continuations([prompt_tokens(renderer, conversation)], limit(name))[0]
        answer = as_answer(renderer.tokenizer, tokens, speaker.is_end(tokens[-1]))
        gap = speaker.least_gap(prompt_tokens(renderer, conversation), tokens)
        wanted = renderer.training_text(conversation)[len(renderer.prompt(conversation)):]
        said = answer.text + answer.stop
        right = said == wanted or (not answer.stop and wanted.removesuffix(renderer.stop_token(conversation)) in said)
        print(f"{'right' if right else 'OTHER'}{'' if gap > LEAST_GAP else f' (a gap of {gap:.3f} only)'}  {name}: {said!r}")
        entries.append({"name": name, "messages": conversation.messages[:-1], "tools": conversation.tools,
                        "thinking": conversation.thinking, "prompt": renderer.prompt(conversation), "max_tokens": limit(name),
                        "answer": answer.text, "stop": answer.stop})
    options.out.write_text(json.dumps(entries, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
