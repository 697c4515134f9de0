"""What the client programs share: the model's name, questions whose answers are known, and how a program runs its cases.

A program prints {"case": {"value": ...}} with {"error": traceback} in place of a case that raised, so that one does not hide the
others.
"""
from __future__ import annotations

import json
import sys
import traceback
from typing import Any, Callable

MODEL = "nano"
SUM = [{"role": "user", "content": "What is 47 + 85?"}]
PERSON_QUESTION = [{"role": "user", "content": "Write a person as JSON with name Belka, age 31 and city Tarvo."}]
WEATHER_QUESTION = [{"role": "user", "content": "What is the weather in Oslo?"}]
WEATHER_RESULT = '{"temperature": 12, "sky": "rainy"}'


def _function(name: str, description: str, argument: str, kind: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {argument: {"type": kind}}, "required": [argument]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [_function("set_timer", "Start a timer.", "minutes", "integer"),
         _function("get_weather", "Current weather in a city.", "city", "string")]


def _outcome(case: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": case()}
    except Exception:  # whatever a package raises is the test's finding
        return {"error": traceback.format_exc()}


def print_cases(cases: Callable[[str], dict[str, Callable[[], Any]]]) -> None:
    """cases(URL of the command line), run in their order."""
    print(json.dumps({name: _outcome(case) for name, case in cases(sys.argv[1]).items()}))
