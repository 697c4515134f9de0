"""The openai package against a server: python ask_openai.py URL prints what it was given, one JSON value for each case."""
from __future__ import annotations

import json
from typing import Any, Callable

import openai
from pydantic import BaseModel

from cases import MODEL, PERSON_QUESTION, SUM, TOOLS, WEATHER_QUESTION, WEATHER_RESULT, print_cases

TURNS = 20
CITIES = ("Oslo", "Paris", "Rome", "Madrid", "Berlin")
NO_THOUGHTS = {"chat_template_kwargs": {"enable_thinking": False}}
Message = dict[str, Any]


class Person(BaseModel):
    name: str
    age: int
    city: str


def plain(message: Any) -> Message:
    return {"content": message.content or None, "reasoning": getattr(message, "reasoning_content", None) or None,
            "calls": [[call.function.name, call.function.arguments] for call in message.tool_calls or []]}


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(model=MODEL, temperature=0, max_tokens=200, **fields)


def streamed(client: openai.OpenAI, **fields: Any) -> Message:
    """A stream put together as users of the package do it."""
    said: Message = {"content": None, "reasoning": None, "calls": []}
    for chunk in ask(client, stream=True, stream_options={"include_usage": True}, **fields):
        for choice in chunk.choices:
            delta = choice.delta
            for name, text in (("content", delta.content), ("reasoning", getattr(delta, "reasoning_content", None))):
                if text:
                    said[name] = (said[name] or "") + text
            for call in delta.tool_calls or []:
                if call.id:
                    said["calls"].append([call.function.name, ""])
                said["calls"][call.index][1] += call.function.arguments
            said["finish"] = choice.finish_reason or said.get("finish")
        if chunk.usage:
            said["tokens"] = chunk.usage.completion_tokens
    return said


def whole(client: openai.OpenAI, **fields: Any) -> Message:
    answer = ask(client, **fields)
    return {**plain(answer.choices[0].message), "finish": answer.choices[0].finish_reason,
            "tokens": answer.usage.completion_tokens}


def both(client: openai.OpenAI, **fields: Any) -> dict[str, Message]:
    return {"whole": whole(client, **fields), "streamed": streamed(client, **fields)}


def helper_stream(client: openai.OpenAI) -> Message:
    """The package's own putting together of a stream."""
    with client.chat.completions.stream(model=MODEL, temperature=0, max_tokens=200, messages=WEATHER_QUESTION,
                                        tools=TOOLS) as stream:
        kinds = sorted({event.type for event in stream})
        return {**plain(stream.get_final_completion().choices[0].message), "events": kinds}


def agent(client: openai.OpenAI) -> Message:
    """A call, its result, the answer: the assistant's message goes back as the package gave it."""
    first = ask(client, messages=WEATHER_QUESTION, tools=TOOLS).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": WEATHER_RESULT} for call in first.tool_calls]
    second = ask(client, messages=[*WEATHER_QUESTION, first, *results], tools=TOOLS)
    return {"calls": plain(first)["calls"], "answer": second.choices[0].message.content}


def session(client: openai.OpenAI) -> list[Message]:
    """An agent's long talk; each step asked whole and streamed, and the whole answer is what goes on."""
    messages: list[Any] = []
    steps: list[Message] = []

    def step() -> Message:
        said = both(client, messages=list(messages), tools=TOOLS, extra_body=NO_THOUGHTS)
        steps.append(said)
        return said["whole"]

    for turn in range(TURNS):
        city = CITIES[turn % len(CITIES)]
        text = f"What is the weather in {city}?" if turn % 2 == 0 else f"Set a timer for {turn + 2} minutes."
        messages.append({"role": "user", "content": text})
        said = step()
        calls = [{"id": f"call_{turn}_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
                 for index, (name, arguments) in enumerate(said["calls"])]
        if not calls:
            messages.append({"role": "assistant", "content": said["content"]})
            continue
        messages.append({"role": "assistant", "content": said["content"], "tool_calls": calls})
        result = json.dumps({"temperature": 10 + turn, "sky": "rainy"}) if turn % 2 == 0 else '{"ok": true}'
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": result} for call in calls]
        messages.append({"role": "assistant", "content": step()["content"]})
    return steps


def parsed(client: openai.OpenAI) -> dict[str, Any]:
    answer = client.chat.completions.parse(model=MODEL, messages=PERSON_QUESTION, response_format=Person,
                                           temperature=0, max_tokens=200)
    return answer.choices[0].message.parsed.model_dump()


def parsed_call(client: openai.OpenAI) -> dict[str, Any]:
    tool = openai.pydantic_function_tool(Person, name="add_person")
    answer = client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "Call add_person."}], tools=[tool], temperature=1, seed=1,
        max_tokens=400, tool_choice={"type": "function", "function": {"name": "add_person"}})
    return answer.choices[0].message.tool_calls[0].function.parsed_arguments.model_dump()


def refused(client: openai.OpenAI) -> dict[str, Any]:
    try:
        ask(client, messages=SUM, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "nothing"}})
    except openai.BadRequestError as error:
        return {"status": error.status_code, "param": error.param, "type": error.type, "message": error.message}
    return {"status": 200}


def two_choices(client: openai.OpenAI) -> list[Message]:
    answer = client.chat.completions.create(model=MODEL, messages=SUM, n=2, temperature=1, seed=7, max_tokens=100)
    return [{**plain(choice.message), "index": choice.index, "finish": choice.finish_reason} for choice in answer.choices]


def cases(url: str) -> dict[str, Callable[[], Any]]:
    client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=60)
    return {
        "models": lambda: [model.id for model in client.models.list()],
        "chat": lambda: both(client, messages=SUM),
        "tools": lambda: both(client, messages=WEATHER_QUESTION, tools=TOOLS),
        "helper_stream": lambda: helper_stream(client),
        "agent": lambda: agent(client),
        "session": lambda: session(client),
        "parsed": lambda: parsed(client),
        "parsed_call": lambda: parsed_call(client),
        "refused": lambda: refused(client),
        "two_choices": lambda: two_choices(client),
    }


if __name__ == "__main__":
    print_cases(cases)
