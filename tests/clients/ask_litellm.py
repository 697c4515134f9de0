"""LiteLLM against a server, as its proxy would ask: python ask_litellm.py URL prints what it was given, one JSON value a case."""
from __future__ import annotations

import os
from typing import Any, Callable

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the import asks the network for a price list

import litellm  # noqa: E402

from cases import MODEL, SUM, TOOLS, WEATHER_QUESTION, print_cases  # noqa: E402

litellm.suppress_debug_info = True  # else an error prints advice among the output


def plain(answer: Any) -> dict[str, Any]:
    message = answer.choices[0].message
    return {"content": message.content or None, "reasoning": getattr(message, "reasoning_content", None),
            "calls": [[call.function.name, call.function.arguments] for call in message.tool_calls or []],
            "finish": answer.choices[0].finish_reason, "tokens": answer.usage.completion_tokens}


def cases(url: str) -> dict[str, Callable[[], Any]]:
    def ask(**fields: Any) -> Any:
        return litellm.completion(model="hosted_vllm/" + MODEL, api_base=url + "/v1", api_key="none", temperature=0,
                                  max_tokens=200, num_retries=0, timeout=60, **fields)

    def both(**fields: Any) -> dict[str, Any]:
        chunks = list(ask(stream=True, stream_options={"include_usage": True}, **fields))
        return {"whole": plain(ask(**fields)), "streamed": plain(litellm.stream_chunk_builder(chunks))}

    def refused() -> dict[str, Any]:
        try:
            ask(messages=SUM, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "nothing"}})
        except litellm.BadRequestError as error:
            return {"status": error.status_code, "message": str(error)}
        return {"status": 200}

    return {"chat": lambda: both(messages=SUM), "tools": lambda: both(messages=WEATHER_QUESTION, tools=TOOLS),
            "refused": refused}


if __name__ == "__main__":
    print_cases(cases)
