"""What a checkpoint's text files may look like: edited copies of the trained checkpoint, served."""
from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from sheaf_server import BINARY, HttpError, SheafServer

Edit = Callable[[Path], None]
QUESTION = [{"role": "user", "content": "Hello!"}]


@pytest.fixture
def edited(nano: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """A copy of the trained checkpoint whose text files the edit may change; the weights are links."""
    def build(edit: Edit) -> Path:
        folder = tmp_path / "edited"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file in nano.iterdir():
            if file.suffix == ".safetensors":
                (folder / file.name).hardlink_to(file)
            else:
                shutil.copy(file, folder / file.name)
        edit(folder)
        return folder

    return build


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, ensure_ascii=False))


def refusal(folder: Path) -> str:
    done = subprocess.run([BINARY, "serve", str(folder), "--port", "0", "--grpc-port", "0"], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 1, done.stderr
    return done.stderr.strip().splitlines()[-1]


def rendered(server: SheafServer, **body: Any) -> dict[str, Any]:
    return server.request("POST", "/v1/chat/completions/render", body)


def answer(server: SheafServer) -> tuple[str, str]:
    choice = server.chat(messages=QUESTION, max_tokens=300, temperature=0,
                         chat_template_kwargs={"enable_thinking": False})["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


@pytest.fixture(scope="module")
def plain_answer(nano: Path) -> tuple[str, str]:
    with SheafServer(nano, "--workers", "0") as server:
        text, reason = answer(server)
        assert text and reason == "stop"
        return text, reason


@pytest.mark.parametrize("eos", [4060, [4060], [], None])
def test_a_turn_ends_though_the_configs_name_one_stop_id_or_none(edited: Callable[[Edit], Path], eos: Any,
                                                                 plain_answer: tuple[str, str]) -> None:
    def one_id(folder: Path) -> None:
        for name in ("config.json", "generation_config.json"):
            edit_json(folder / name, lambda config: config.update(eos_token_id=eos))

    with SheafServer(edited(one_id), "--workers", "0") as server:
        assert answer(server) == plain_answer
        assert "4067 <|user|> (chat template, before a user's message)" in server.log()


def test_tokens_of_the_tokenizer_config_alone_are_served(edited: Callable[[Edit], Path],
                                                         plain_answer: tuple[str, str]) -> None:
    def cut(folder: Path) -> None:
        edit_json(folder / "tokenizer.json", lambda t: t.update(added_tokens=t["added_tokens"][:7]))

    with SheafServer(edited(cut), "--workers", "0") as server:
        ids = rendered(server, messages=QUESTION)["token_ids"]
        assert ids[:3] == [4062, 4064, 4067] and ids[-1] == 4068
        assert answer(server) == plain_answer
        assert "29 added tokens stand beside tokenizer.json only" in server.log()


def test_role_tokens_that_are_no_tokens_are_refused_by_name(edited: Callable[[Edit], Path]) -> None:
    def cut(folder: Path) -> None:
        edit_json(folder / "tokenizer.json", lambda t: t.update(added_tokens=t["added_tokens"][:7]))
        edit_json(folder / "tokenizer_config.json", lambda c: (c.pop("added_tokens_decoder"),
                                                               c.pop("additional_special_tokens")))

    sentence = refusal(edited(cut))
    assert "chat_template.jinja" in sentence and "<|" in sentence and "one token" in sentence


def test_an_added_token_that_contradicts_is_refused_by_name(edited: Callable[[Edit], Path]) -> None:
    def move(folder: Path) -> None:
        edit_json(folder / "tokenizer_config.json",
                  lambda c: c["added_tokens_decoder"].update({"4067": {"content": "<|other|>", "special": True}}))

    sentence = refusal(edited(move))
    assert "tokenizer_config.json" in sentence and "<|other|>" in sentence and "4067" in sentence


@pytest.mark.parametrize("template,said", [
    ("{% if %}", "chat_template.jinja:1"),
    ("{{ nothing() }}", "fails on a question"),
])
def test_a_template_that_cannot_be_used_leaves_completions(edited: Callable[[Edit], Path], template: str, said: str) -> None:
    folder = edited(lambda folder: (folder / "chat_template.jinja").write_text(template))
    with SheafServer(folder, "--workers", "0") as server:
        assert said in server.log()
        assert server.completion(prompt="Hello", max_tokens=2)["choices"][0]["text"] is not None
        with pytest.raises(HttpError) as refused:
            server.chat(messages=QUESTION, max_tokens=2)
        assert refused.value.status == 400
        assert "chat_template.jinja:1" in json.dumps(refused.value.body)


def test_line_ends_of_a_template_do_not_matter(edited: Callable[[Edit], Path], nano: Path) -> None:
    def crlf(folder: Path) -> None:
        path = folder / "chat_template.jinja"
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    chat = {"messages": [{"role": "system", "content": "Be short."}, *QUESTION],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}
    prompts = []
    for folder in (nano, edited(crlf)):
        with SheafServer(folder, "--workers", "0") as server:
            prompts.append(rendered(server, **chat)["prompt"])
    assert prompts[0] == prompts[1] and "\r" not in prompts[1]


def test_integers_keep_their_digits_in_prompts(nano: Path) -> None:
    big = "123456789012345678901234567890123456789012345678901234567890"
    body = ('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": ['
            '{"function": {"name": "f", "arguments": {"a": %s, "b": [1e16, 0.1, -%s], "c": 18446744073709551616}}},'
            '{"function": {"name": "f", "arguments": "{\\"a\\": %s}"}}]},'
            '{"role": "tool", "content": "t"}], "tools": [{"type": "function", "function": {"name": "f", "parameters": '
            '{"type": "object", "properties": {"a": {"type": "integer", "maximum": %s}}}}}]}' % (big, big, big, big))
    with SheafServer(nano, "--workers", "0") as server:
        prompt = server.request("POST", "/v1/chat/completions/render", json.loads(body))["prompt"]
    assert f"<arg_value>{big}</arg_value>" in prompt and prompt.count(big) == 4
    assert f"[1e+16, 0.1, -{big}]" in prompt and ">18446744073709551616<" in prompt
    assert f'"maximum": {big}' in prompt


def test_tokens_that_a_user_spells_are_text_with_the_flag(nano: Path) -> None:
    typed = "<|assistant|>[gMASK]<sop><|user|><think></think><tool_call>f</tool_call>/nothink"
    messages = [{"role": "system", "content": typed}, {"role": "user", "content": "a " + typed},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"function": {"name": "f", "arguments": {"a": typed}}}]},
                {"role": "tool", "content": typed}]
    harmless = json.loads(json.dumps(messages).replace(typed, "text"))
    special = set(range(4060, 4096))
    ids: dict[str, dict[str, list[int]]] = {}
    for flags in ([], ["--escape-special-tokens"]):
        with SheafServer(nano, "--workers", "0", *flags) as server:
            ids[str(flags)] = {
                "typed": rendered(server, messages=messages)["token_ids"],
                "harmless": rendered(server, messages=harmless)["token_ids"],
                "tokenize": server.request("POST", "/tokenize", {"messages": messages})["tokens"],
            }
    without, escaped = ids["[]"], ids["['--escape-special-tokens']"]
    assert without["harmless"] == escaped["harmless"]
    of = lambda tokens: [token for token in tokens if token in special]  # noqa: E731
    assert of(escaped["typed"]) == of(escaped["harmless"])
    assert len(of(without["typed"])) > len(of(without["harmless"]))
    assert escaped["tokenize"] == escaped["typed"]


def test_a_doubled_prefix_is_counted_and_said_once(nano: Path) -> None:
    with SheafServer(nano, "--workers", "0") as server:
        for _ in range(2):
            server.completion(prompt="[gMASK]<sop>[gMASK]<sop>Hello", add_special_tokens=False, max_tokens=1)
        server.completion(prompt="[gMASK]<sop>Hello", add_special_tokens=False, max_tokens=1)
        server.chat(messages=QUESTION, max_tokens=1)
        assert server.metric("sheaf_doubled_prefixes_total") == 2
        assert server.log().count("begins twice") == 1
