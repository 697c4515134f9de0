"""The trained checkpoint of this repository gives the fixed answers, to the letter.

nano_questions.json holds what transformers computes for each question (training/fixed_questions.py writes it).
"""
from __future__ import annotations

import concurrent.futures
from pathlib import Path
from typing import Any

import pytest

from sheaf_server import SheafServer

Question = dict[str, Any]
REQUESTS_AT_ONCE = 10


@pytest.fixture(scope="module", params=["auto", "int8"])
def server(nano: Path, request: pytest.FixtureRequest) -> Any:
    with SheafServer(nano, "--workers", "2", "--lm-head-dtype", request.param) as running:
        yield running


@pytest.fixture(scope="module")
def answers(server: SheafServer, nano_questions: list[Question]) -> dict[str, dict[str, Any]]:
    """What the server says to each rendered prompt, special tokens shown."""
    def ask(question: Question) -> dict[str, Any]:
        body = server.completion(prompt=question["prompt"], add_special_tokens=False, max_tokens=question["max_tokens"],
                                 temperature=0, skip_special_tokens=False, return_token_ids=True)
        return body["choices"][0]

    with concurrent.futures.ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return dict(zip((question["name"] for question in nano_questions), pool.map(ask, nano_questions)))


def test_the_answers_are_the_fixed_ones(nano_questions: list[Question], answers: dict[str, dict[str, Any]]) -> None:
    assert len(nano_questions) == 20
    said = {name: choice["text"] for name, choice in answers.items()}
    assert said == {question["name"]: question["answer"] for question in nano_questions}


def test_they_stop_where_they_should(server: SheafServer, nano_questions: list[Question],
                                     answers: dict[str, dict[str, Any]]) -> None:
    for question in nano_questions:
        choice = answers[question["name"]]
        assert choice["finish_reason"] == ("stop" if question["stop"] else "length"), question["name"]
        text = server.request("POST", "/detokenize", {"tokens": choice["token_ids"]})["prompt"]
        assert text == question["answer"] + question["stop"], question["name"]


def test_chat_renders_the_same_prompts(server: SheafServer, nano_questions: list[Question],
                                       answers: dict[str, dict[str, Any]]) -> None:
    def chat(question: Question) -> list[int]:
        body = server.chat(messages=question["messages"], max_tokens=question["max_tokens"], temperature=0,
                           chat_template_kwargs={"enable_thinking": question["thinking"]}, return_token_ids=True)
        return body["choices"][0]["token_ids"]

    without_tools = [question for question in nano_questions if not question["tools"]]
    with concurrent.futures.ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        for question, tokens in zip(without_tools, pool.map(chat, without_tools)):
            assert tokens == answers[question["name"]]["token_ids"], question["name"]
