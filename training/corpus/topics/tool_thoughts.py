"""What the assistant thinks where tools are declared: a verdict on each of them, then which it calls."""
from __future__ import annotations

from corpus import words


def call_thought(names: list[str], called: list[str]) -> str:
    """names: of all declared tools; called: in the order of the calls."""
    return f"{verdicts(names, called)} I call {words.join_words(called)}."


def verdicts(names: list[str], called: list[str]) -> str:
    if not names:
        return "There is no tool."
    return ", ".join(f"{name}: {'yes' if name in called else 'no'}" for name in names) + "."
