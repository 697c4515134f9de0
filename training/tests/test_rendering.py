"""The template writes GLM-4.6's format, the tokenizer keeps text, and exactly the assistant's tokens are learnt."""
from __future__ import annotations

import pytest
from jinja2.exceptions import TemplateError

from corpus.conversation import Conversation, Split, assistant, system, tool_result, user
from corpus.mixture import PARTS, conversation
from tokenizer import ADDED_TOKENS, space_twins

TOOL = {"type": "function", "function": {"name": "now", "description": "Zeit é.", "parameters": {"type": "object", "properties": {}}}}


def text(renderer, messages, tools=(), thinking=True, prompt=True):
    return renderer.text(messages, list(tools), thinking, prompt)


@pytest.mark.parametrize("messages, thinking, expected", [
    ([user("Hi")], True, "[gMASK]<sop><|user|>\nHi<|assistant|>"),
    ([user("Hi")], False, "[gMASK]<sop><|user|>\nHi/nothink<|assistant|>\n<think></think>"),
    ([user("Hi/nothink")], False, "[gMASK]<sop><|user|>\nHi/nothink<|assistant|>\n<think></think>"),
    ([system("S"), user("Hi")], True, "[gMASK]<sop><|system|>\nS<|user|>\nHi<|assistant|>"),
    ([user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], True, "[gMASK]<sop><|user|>\nab<|assistant|>"),
    ([user("a"), assistant("b", "r"), user("c")], True,
     "[gMASK]<sop><|user|>\na<|assistant|>\n<think></think>\nb<|user|>\nc<|assistant|>"),
    ([user("a"), assistant("<think>\nr\n</think>\nb"), user("c")], True,
     "[gMASK]<sop><|user|>\na<|assistant|>\n<think></think>\nb<|user|>\nc<|assistant|>"),
    ([user("a"), assistant("", "r", [("now", {})]), tool_result("1"), tool_result("2")], True,
     "[gMASK]<sop><|user|>\na<|assistant|>\n<think>r</think>\n<tool_call>now\n</tool_call><|observation|>\n<tool_response>\n1\n"
     "</tool_response>\n<tool_response>\n2\n</tool_response><|assistant|>"),
    ([user("a"), {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {
        "s": "a\"b", "n": 1.5, "b": True, "l": [1, "é"], "o": {"k": "v"}}}}]}], True,
     "[gMASK]<sop><|user|>\na<|assistant|>\n<think></think>\n<tool_call>f\n<arg_key>s</arg_key>\n<arg_value>a\"b</arg_value>\n"
     "<arg_key>n</arg_key>\n<arg_value>1.5</arg_value>\n<arg_key>b</arg_key>\n<arg_value>true</arg_value>\n<arg_key>l</arg_key>\n"
     "<arg_value>[1, \"é\"]</arg_value>\n<arg_key>o</arg_key>\n<arg_value>{\"k\": \"v\"}</arg_value>\n</tool_call><|assistant|>"),
])
def test_messages(renderer, messages, thinking, expected):
    assert text(renderer, messages, thinking=thinking) == expected


def test_tools_come_first_as_json_lines(renderer):
    rendered = text(renderer, [system("S"), user("x")], [TOOL])
    assert rendered.startswith("[gMASK]<sop><|system|>\n# Tools\n\n")
    assert '<tools>\n{"type": "function", "function": {"name": "now", "description": "Zeit é.", ' in rendered
    assert rendered.endswith("</tool_call><|system|>\nS<|user|>\nx<|assistant|>")


def test_arguments_as_text_are_an_error(renderer):
    calls = [{"function": {"name": "f", "arguments": "{\"a\": 1}"}}]
    with pytest.raises(TemplateError, match="must be an object"):
        text(renderer, [user("x"), {"role": "assistant", "content": "", "tool_calls": calls}])


def test_learnt_tokens_are_the_assistants(renderer):
    made = Conversation("x", [user("a"), assistant("first", "r"), user("b"), assistant("second", "why", [("now", {})]),
                              tool_result("12"), assistant("Done.")], [TOOL])
    rendered = renderer.training_tokens(made)
    learnt = [token for token, wanted in zip(rendered.tokens, rendered.learnt) if wanted]
    assert renderer.tokenizer.decode(learnt, skip_special_tokens=False) == (
        "\n<think>why</think>\nsecond\n<tool_call>now\n</tool_call><|observation|>\n<think></think>\nDone.<|user|>")


def test_without_thinking_the_empty_thought_is_given(renderer):
    made = Conversation("x", [user("a"), assistant("b"), user("c"), assistant("d")], thinking=False)
    rendered = renderer.training_tokens(made)
    learnt = [token for token, wanted in zip(rendered.tokens, rendered.learnt) if wanted]
    assert renderer.tokenizer.decode(learnt, skip_special_tokens=False) == "\nb<|user|>\nd<|user|>"


def test_prompt_is_how_the_training_text_begins(renderer):
    for index in range(PARTS[0], PARTS[0] + 300):
        made = conversation(1, Split.TRAIN, index)
        whole, prompt = renderer.training_text(made), renderer.prompt(made)
        assert whole.startswith(prompt)
        ids = renderer.tokenizer.encode(whole, add_special_tokens=False).ids
        start = renderer.tokenizer.encode(prompt, add_special_tokens=False).ids
        assert ids[:len(start)] == start


@pytest.mark.parametrize("sample", ["Hello world", "a  b\n\n c", "get_lamp 1234 AX-77", "çà é 你好 🌾", "{\"a\": [1, 2.5]}",
                                    "it's I'LL\r\n", "\u200d\x00"])
def test_tokenizer_keeps_every_byte(tokenizer, sample):
    assert tokenizer.decode(tokenizer.encode(sample, add_special_tokens=False).ids, skip_special_tokens=False) == sample


def test_digits_are_single_and_words_are_cut_alike(tokenizer):
    def cut(sample):
        return [token.replace("Ġ", "") for token in tokenizer.encode(sample, add_special_tokens=False).tokens if token != "Ġ"]
    assert cut("1234") == list("1234")
    assert cut("get_lamp") == cut("get") + ["_"] + cut("lamp")
    for word in ("Zorvik", "lamp", "thosturtkai", "Unseen"):
        assert cut(" " + word) == cut(word)
    assert len(space_twins(tokenizer)) > 100


def test_added_tokens_have_glms_flags(tokenizer):
    decoder = tokenizer.get_added_tokens_decoder()
    flags = {token.content: token.special for token in decoder.values()}
    assert flags == dict(ADDED_TOKENS)
    ids = [tokenizer.token_to_id(token) for token, _ in ADDED_TOKENS]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_transformers_renders_and_encodes_the_same(renderer, tokenizer_folder):
    from transformers import AutoTokenizer
    theirs = AutoTokenizer.from_pretrained(tokenizer_folder)
    for index in range(PARTS[0], PARTS[0] + 50):
        made = conversation(1, Split.TRAIN, index)
        prompt = theirs.apply_chat_template(made.messages[:-1], tools=made.tools or None, tokenize=False,
                                            add_generation_prompt=True, enable_thinking=made.thinking)
        assert prompt == renderer.prompt(made)
        assert theirs.encode(prompt, add_special_tokens=False) == renderer.tokenizer.encode(prompt, add_special_tokens=False).ids
