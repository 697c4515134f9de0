"""The HTTP face of a real server, as OpenAI clients use it."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

from answers import counts
from sheaf_server import SheafServer


@pytest.fixture(scope="module")
def server(tiny: Path) -> Any:
    with SheafServer(tiny, "--workers", "2", "--served-model-name", "tiny") as running:
        yield running


FIELDS = {"model": "tiny", "temperature": 0, "max_tokens": 12, "ignore_eos": True}
CHAT = {**FIELDS, "messages": [{"role": "system", "content": "short"}, {"role": "user", "content": "Ça va, 世界?"}]}


def test_a_stream_adds_up_to_the_answer(server: SheafServer) -> None:
    whole = server.completion(prompt="hello", **FIELDS)["choices"][0]
    chunks = list(server.events("/v1/completions", prompt="hello", **FIELDS))
    assert "".join(c["choices"][0]["text"] for c in chunks) == whole["text"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"] == "length"


def test_a_chat_stream_has_the_order_that_clients_expect(server: SheafServer) -> None:
    whole = server.chat(**CHAT)
    assert whole["object"] == "chat.completion" and whole["choices"][0]["message"]["role"] == "assistant"
    chunks = list(server.events("/v1/chat/completions", stream_options={"include_usage": True}, **CHAT))
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"] == [] and counts(chunks[-1]["usage"]) == counts(whole["usage"])
    assert whole["usage"]["completion_tokens"] == 12


def test_prompts_of_every_form_and_n(server: SheafServer) -> None:
    ids = server.request("POST", "/tokenize", {"model": "tiny", "prompt": "hello"})["tokens"]
    texts = [server.completion(prompt=prompt, **FIELDS)["choices"] for prompt in ("hello", ["hello"], ids, [ids])]
    assert all(choices[0]["text"] == texts[0][0]["text"] for choices in texts)
    many = server.completion(prompt=["hello", "world"], n=2, **{**FIELDS, "temperature": 1, "seed": 3})["choices"]
    assert [choice["index"] for choice in many] == [0, 1, 2, 3]
    assert many[0]["text"] != many[1]["text"], "the choices of one prompt have different seeds"


def test_echo_and_logprobs(server: SheafServer) -> None:
    choice = server.completion(prompt="hello", echo=True, logprobs=2, **FIELDS)["choices"][0]
    assert choice["text"].startswith("hello")
    logprobs = choice["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(logprobs["text_offset"])
    assert logprobs["token_logprobs"][0] is None and all(v <= 0 for v in logprobs["token_logprobs"][1:])


def test_stop_strings_and_stop_ids(server: SheafServer) -> None:
    free = server.completion(prompt="hello", return_token_ids=True, **FIELDS)["choices"][0]
    stop = free["text"][3:6]
    stopped = server.completion(prompt="hello", stop=stop, **FIELDS)["choices"][0]
    assert stopped["text"] == free["text"][:free["text"].index(stop)] and stopped["finish_reason"] == "stop"
    token = free["token_ids"][4]
    first = free["token_ids"].index(token)
    by_id = server.completion(prompt="hello", stop_token_ids=[token], return_token_ids=True, **FIELDS)["choices"][0]
    assert by_id["finish_reason"] == "stop" and by_id["stop_reason"] == token
    assert by_id["token_ids"][:first] == free["token_ids"][:first]


def test_the_small_endpoints(server: SheafServer) -> None:
    models = server.get("/v1/models")["data"]
    assert models[0]["id"] == "tiny" and models[0]["max_model_len"] > 0
    assert server.get("/version")["version"]
    assert server.get("/health") == ""
    tokens = server.request("POST", "/tokenize", {"model": "tiny", "prompt": "Voilà 你好"})
    assert tokens["count"] == len(tokens["tokens"])
    text = server.request("POST", "/detokenize", {"model": "tiny", "tokens": tokens["tokens"]})["prompt"]
    assert "Voilà 你好" in text
    metrics = server.get("/metrics")
    for name in ("sheaf_steps_total", "sheaf_kv_blocks_used", "sheaf_time_to_first_token_seconds_count"):
        assert name in metrics


def test_a_chat_that_begins_inside_its_reasoning(make: Callable[..., Path]) -> None:
    """GLM-5's format: the prompt ends in <think>, or in </think> where thinking is off."""
    with SheafServer(make(arch="glm_moe_dsa", format="gptq", experts=21), "--workers", "0",
                     "--served-model-name", "tiny") as sparse:
        def prompt_of(**fields: Any) -> list[int]:
            body = sparse.request("POST", "/v1/chat/completions", {
                "model": "tiny", "messages": [{"role": "system", "content": "short"}, {"role": "user", "content": "hi"}],
                "max_tokens": 1, "return_token_ids": True, **fields})
            return body["prompt_token_ids"]

        def tokens_of(text: str) -> list[int]:
            body = {"model": "tiny", "prompt": text, "add_special_tokens": False}
            return sparse.request("POST", "/tokenize", body)["tokens"]

        asked = "[gMASK]<sop><|system|>short<|user|>hi<|assistant|>"
        assert prompt_of() == tokens_of(asked + "<think>")
        assert prompt_of(chat_template_kwargs={"enable_thinking": False}) == tokens_of(asked + "</think>")
