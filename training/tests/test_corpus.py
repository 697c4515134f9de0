"""The generator: the same seed gives the same corpus, and nothing held out is ever trained on."""
from __future__ import annotations

import json
import random

import pytest

from corpus import words
from corpus.conversation import Split
from corpus.mixture import CALIBRATION_START, PARTS, TOPICS, conversation, of_topic
from corpus.topics import arithmetic, facts, tool_calls, tool_choices, tool_spellings
from corpus.topics.tool_schemas import make_functions, make_request
from corpus.topics.tool_thoughts import call_thought, verdicts


def test_a_conversation_depends_on_seed_split_and_number_alone():
    assert conversation(1, Split.TRAIN, 7) == conversation(1, Split.TRAIN, 7)
    assert conversation(1, Split.TRAIN, 7) != conversation(2, Split.TRAIN, 7)
    assert conversation(1, Split.TRAIN, 7) != conversation(1, Split.HELD_OUT, 7)


@pytest.mark.parametrize("topic", list(TOPICS), ids=lambda topic: topic.TOPIC)
@pytest.mark.parametrize("split", list(Split))
def test_every_topic_ends_with_an_answer(topic, split):
    for index in range(200):
        made = of_topic(topic, 1, split, index)
        assert made.answer["role"] == "assistant"
        assert made.answer["content"] or made.ends_in_tool_call
        if not made.thinking:
            assert not any("reasoning_content" in message for message in made.messages)


def asked(split: Split) -> set[str]:
    return {of_topic(facts, 1, split, index).messages[0]["content"] for index in range(3000)}


def test_held_out_facts_are_never_asked_in_training():
    assert not asked(Split.TRAIN) & asked(Split.HELD_OUT)


def tool_names(split: Split) -> set[str]:
    found: set[str] = set()
    for index in range(1000):
        found |= {function.name for function in make_functions(random.Random(f"{split}{index}"), split, 3)}
    return found


def test_held_out_tools_are_never_declared_in_training():
    assert not tool_names(Split.TRAIN) & tool_names(Split.HELD_OUT)


def test_made_up_words_belong_to_one_split():
    rng = random.Random(1)
    for split in Split:
        assert all(words.belongs(words.made_up_word(rng, split), split) for _ in range(500))


def test_calls_name_what_was_asked_and_fit_the_schema():
    types = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
    rng = random.Random(5)
    for _ in range(300):
        function = make_functions(rng, Split.TRAIN, 1)[0]
        request = make_request(rng, Split.TRAIN, function)
        schema = function.declaration()["function"]["parameters"]
        assert set(schema.get("required", [])) <= set(request.arguments) <= set(schema["properties"])
        for name, value in request.arguments.items():
            assert isinstance(value, types[schema["properties"][name]["type"]])


def test_refused_tools_are_not_declared():
    for index in range(200):
        made = tool_calls.refusal(random.Random(index), Split.TRAIN)
        answer = made.answer["content"]
        declared = [tool["function"]["name"] for tool in made.tools]
        assert answer.startswith("I have no tool")
        assert not any(answer == f"I have no tool named {name}." for name in declared)


def test_a_thought_is_a_verdict_on_each_tool():
    assert call_thought(["set_lamp", "lampGet"], ["lampGet", "lampGet"]) == "set_lamp: no, lampGet: yes. I call lampGet and lampGet."
    assert verdicts(["set_lamp", "lampGet"], []) == "set_lamp: no, lampGet: no."
    assert verdicts([], []) == "There is no tool."


@pytest.mark.parametrize("topic", (tool_choices, tool_spellings), ids=lambda topic: topic.TOPIC)
def test_thoughts_judge_every_declared_tool(topic):
    for index in range(200):
        made = of_topic(topic, 1, Split.TRAIN, index)
        if made.thinking:
            names = [tool["function"]["name"] for tool in made.tools]
            called = [call["function"]["name"] for call in made.answer.get("tool_calls", [])]
            assert made.answer["reasoning_content"].startswith(verdicts(names, called))
            assert bool(called) != made.answer["content"].startswith("I have no tool")


def test_spellings_are_mostly_the_rare_ones():
    names = [tool["function"]["name"] for index in range(200) for tool in of_topic(tool_spellings, 1, Split.TRAIN, index).tools]
    frequent = sum(name.split("_")[0] in words.VERBS and "_" in name for name in names)
    assert frequent < 0.3 * len(names)


def test_column_arithmetic():
    assert arithmetic.add_steps(47, 85) == "7+5=12, 4+8+1=13"
    assert arithmetic.subtract_steps(52, 17) == "12-7=5, 5-1-1=3"
    assert arithmetic.subtract_steps(105, 7) == "15-7=8, 10-0-1=9, 1-0-1=0"
    assert arithmetic.multiply_steps(47, 6) == "7x6=42, 4x6+4=28"
    assert arithmetic.compare_steps(352, 347) == "3=3, 5>4"


def test_the_corpus_starts_with_copying():
    early = sum(conversation(1, Split.TRAIN, index).topic == "copying" for index in range(200))
    late = sum(conversation(1, Split.TRAIN, PARTS[0] + index).topic == "copying" for index in range(200))
    assert early > 2 * late


def test_the_last_part_of_the_corpus_has_the_rare_spellings():
    assert tool_spellings.TOPIC not in {conversation(1, Split.TRAIN, PARTS[-1] + index).topic for index in range(-150, 0)}
    assert tool_spellings.TOPIC in {conversation(1, Split.TRAIN, PARTS[-1] + index).topic for index in range(150)}


def test_calibration_sees_the_whole_mixture():
    seen = [conversation(1, Split.TRAIN, CALIBRATION_START + index).topic for index in range(500)]
    assert tool_spellings.TOPIC not in seen
    assert seen.count(facts.TOPIC) > 0.06 * len(seen)


def test_json_answers_are_json():
    from corpus.topics import json_answers
    for index in range(200):
        json.loads(of_topic(json_answers, 1, Split.TRAIN, index).answer["content"])
