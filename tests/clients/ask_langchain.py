"""langchain-openai against a server: python ask_langchain.py URL prints what it was given, one JSON value for each case."""
from __future__ import annotations

from typing import Any, Callable

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from cases import MODEL, PERSON_QUESTION, SUM, TOOLS, WEATHER_QUESTION, WEATHER_RESULT, print_cases


class Person(BaseModel):
    """A person."""

    name: str
    age: int
    city: str


def plain(message: Any) -> dict[str, Any]:
    return {"content": message.content, "calls": [[call["name"], call["args"]] for call in message.tool_calls],
            "finish": message.response_metadata["finish_reason"], "tokens": message.usage_metadata["output_tokens"]}


def joined(chunks: Any) -> Any:
    """The package's own sum of a stream's chunks."""
    total = None
    for chunk in chunks:
        total = chunk if total is None else total + chunk
    return total


def cases(url: str) -> dict[str, Callable[[], Any]]:
    chat = ChatOpenAI(model=MODEL, base_url=url + "/v1", api_key="none", temperature=0, max_tokens=200, max_retries=0,
                      timeout=60, stream_usage=True)
    with_tools = chat.bind_tools(TOOLS)

    def agent() -> str:
        messages: list[Any] = [HumanMessage(WEATHER_QUESTION[0]["content"])]
        called: AIMessage = with_tools.invoke(messages)
        results = [ToolMessage(WEATHER_RESULT, tool_call_id=call["id"]) for call in called.tool_calls]
        return with_tools.invoke([*messages, called, *results]).content

    return {
        "chat": lambda: {"whole": plain(chat.invoke(SUM)), "streamed": plain(joined(chat.stream(SUM)))},
        "tools": lambda: {"whole": plain(with_tools.invoke(WEATHER_QUESTION)),
                          "streamed": plain(joined(with_tools.stream(WEATHER_QUESTION)))},
        "agent": agent,
        "structured": lambda: chat.with_structured_output(Person, method="json_schema").invoke(PERSON_QUESTION).model_dump(),
    }


if __name__ == "__main__":
    print_cases(cases)
