"""The generated tokenizer and chat template. What needs the real libraries (tokenizers, jinja2)
is checked where they are installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import make_checkpoint
import tiny_tokenizer


@pytest.mark.parametrize("base_vocab", [256, 300, 512, 900, 8029])
def test_vocabulary_is_complete_and_merges_are_possible(base_vocab: int) -> None:
    tokenizer = tiny_tokenizer.build(base_vocab)
    assert sorted(tokenizer.vocab.values()) == list(range(base_vocab))
    assert list(tokenizer.vocab)[:256] == list(tiny_tokenizer.byte_alphabet()[b]
                                               for b in range(256))
    known = set(list(tokenizer.vocab)[:256])
    for left, right in tokenizer.merges:
        assert left in known and right in known and left + right not in known
        known.add(left + right)
    assert known == set(tokenizer.vocab)


def test_added_tokens_follow_the_base_in_glm_order() -> None:
    tokenizer = tiny_tokenizer.build(512)
    glm_base = 151329
    for text, glm_id in (("<|endoftext|>", 151329), ("[gMASK]", 151331), ("<sop>", 151333),
                         ("<|system|>", 151335), ("<|user|>", 151336), ("<|assistant|>", 151337),
                         ("<|observation|>", 151338), ("<think>", 151350),
                         ("<tool_call>", 151352), ("/nothink", 151360), ("<|video|>", 151364)):
        assert tokenizer.added[text] - 512 == glm_id - glm_base, text
    assert tokenizer.eos_ids == [512, 519, 521]


def test_flags_match_the_published_list(reference_data: Path) -> None:
    published = json.loads((reference_data / "special_tokens_GLM-4.5_4.6.json").read_text())
    written = tiny_tokenizer.tokenizer_json(tiny_tokenizer.build(512))["added_tokens"]
    keys = ("content", "special", "lstrip", "rstrip", "normalized", "single_word")
    assert [[t[k] for k in keys] for t in written] == [[t[k] for k in keys]
                                                       for t in published["added_tokens"]]
    assert [t["id"] - 512 for t in written] == [t["id"] - published["base_vocab"]
                                                for t in published["added_tokens"]]


def test_byte_alphabet_is_printable_and_one_to_one() -> None:
    alphabet = tiny_tokenizer.byte_alphabet()
    assert len(set(alphabet.values())) == 256
    assert alphabet[ord(" ")] == "Ġ" and alphabet[ord("\n")] == "Ċ" and alphabet[ord("A")] == "A"
    assert all(c.isprintable() and not c.isspace() for c in alphabet.values())


def test_tokenizer_for_leaves_unused_ids() -> None:
    for vocab in (600, 640, 8192):
        size = make_checkpoint.tokenizer_for(vocab).size
        assert vocab * 0.9 < size < vocab


@pytest.mark.parametrize("pairs", [False, True])
def test_real_library_reads_it(tmp_path: Path, pairs: bool) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    ours = tiny_tokenizer.build(512)
    tiny_tokenizer.write_files(ours, tmp_path, 4096, merges_as_pairs=pairs)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.get_vocab_size() == ours.size
    for text in ("Hello, it's 12345 \n\n x", "你好🌾", "[gMASK]<sop><|user|>\nHi/nothink"):
        encoded = theirs.encode(text, add_special_tokens=False)
        assert theirs.decode(encoded.ids, skip_special_tokens=False) == text
    ids = theirs.encode("<|user|>\n<think>x</think>/nothink", add_special_tokens=False).ids
    assert theirs.decode(ids) == "\n<think>x</think>"
    assert theirs.encode("the", add_special_tokens=False).tokens == ["the"]


def render_cases(folder: Path) -> list[dict]:
    return json.loads((folder / "golden_chat" / "golden_glm46.json").read_text())["cases"]


def test_template_renders_the_published_format(reference_data: Path) -> None:
    """Byte for byte where no tools are offered; after the tool list where they are (its preamble
    is our own text). Left out: the cases in which the published template prints an accident."""
    sandbox = pytest.importorskip("jinja2.sandbox")
    environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    source = (Path(__file__).parent / "chat_template.jinja").read_text()
    template = environment.from_string(source)
    accidents = {"tool_round_trip_none_content", "tool_content_parts", "tool_content_output_list"}
    checked = 0
    for case in render_cases(reference_data):
        if case["case"] in accidents or "rendered" not in case:
            continue
        got, want = template.render(**case["input"]), case["rendered"]
        if case["input"].get("tools"):
            assert got.startswith("[gMASK]<sop><|system|>\n# Tools\n\n")
            marks = [m for m in ("<|system|>\nBe brief.", "<|user|>") if m in want]
            got, want = (text[text.index(marks[0]):] for text in (got, want))
        assert got == want, case["case"]
        checked += 1
    assert checked >= 25
