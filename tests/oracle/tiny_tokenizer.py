"""A small byte-level BPE tokenizer with GLM's pre-tokenizer and added tokens, for test checkpoints.

`build(base_vocab)` trains merges on the text below until the vocabulary has `base_vocab` entries
(256 bytes first), then the added tokens follow in GLM-4.6's order. `write_files` writes
tokenizer.json, tokenizer_config.json and chat_template.jinja. The result is the same every time.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

GLM_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
             r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
# The same without \p{..}, which Python's re lacks. Only the trainer uses it, so that the two may
# differ on rare characters.
_TRAINING_SPLIT = re.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\w]?[^\W\d_]+|\d{1,3}"
    r"| ?(?:[^\s\w]|_)+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

_SPECIAL = (
    "<|endoftext|> [MASK] [gMASK] [sMASK] <sop> <eop> <|system|> <|user|> <|assistant|> "
    "<|observation|> <|begin_of_image|> <|end_of_image|> <|begin_of_video|> <|end_of_video|> "
    "<|begin_of_audio|> <|end_of_audio|> <|begin_of_transcription|> <|end_of_transcription|> "
    "<|code_prefix|> <|code_middle|> <|code_suffix|>").split()
_VISIBLE = ("<think> </think> <tool_call> </tool_call> <tool_response> </tool_response> "
            "<arg_key> </arg_key> <arg_value> </arg_value>").split()
_VISIBLE_LAST = "<|begin_of_box|> <|end_of_box|> <|image|> <|video|>".split()
# (text, special): special tokens vanish when a decoder skips special tokens.
ADDED_TOKENS = ([(t, True) for t in _SPECIAL] + [(t, False) for t in _VISIBLE] +
                [("/nothink", True)] + [(t, False) for t in _VISIBLE_LAST])
EOS_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>")

TEXT = """
A sheaf is a bundle of reaped stalks. When the harvest is in, the farmers bind the stalks with
twine and stand the sheaves in the field, so that the wind can dry the grain. Each sheaf holds a
few of the many stalks, and together they hold all of the field. The mixture of experts works in
the same way: a router looks at every token and sends it to a few of the experts, and the answers
are added in a fixed order. What is the capital of France? The capital of France is Paris. How are
you today? I am well, thank you; it's a fine day and we're going to the river. They'll say that
the model has 96, 120 or 160 experts in 92 layers, and that 4-bit weights are small: 0.5 bytes.
The quick brown fox jumps over the lazy dog. Hello, world! Please answer the question in one
sentence, then explain your reasoning step by step. The weather in London is rainy and cold.

def main(argc, argv):
    for i in range(10):
        print("value", i, argv[i] if i < argc else None)
    return {"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}

Une gerbe est une botte de tiges coupées. Après la moisson, les paysans lient les tiges et dressent
les gerbes dans le champ pour que le vent sèche le grain. Où est la bibliothèque ? Elle est près de
la gare, à côté de l'hôtel. Les élèves étudient la géométrie et la poésie française; ça va bien.
Le modèle répond à la question, puis il s'arrête. Voilà ce que nous avons trouvé à Noël.

收割以后，农民把麦秆捆成一束，立在田里，让风吹干麦粒。每一束只有几根麦秆，所有的麦束合起来就是整片田地。
模型也是这样：路由器看每一个词，把它送给几个专家，然后按固定的顺序把答案加起来。你好，今天天气怎么样？
今天天气很好，我们去河边散步。中国的首都是北京，法国的首都是巴黎。请回答下面的问题。🌾🌾
"""


def byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte in a byte-level vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {b: chr(b) for b in printable}
    others = [b for b in range(256) if b not in alphabet]
    alphabet.update({b: chr(256 + i) for i, b in enumerate(others)})
    return alphabet


@dataclass(frozen=True)
class TinyTokenizer:
    vocab: dict[str, int]  # byte-level base vocabulary
    merges: list[tuple[str, str]]  # in rank order

    @property
    def added(self) -> dict[str, int]:
        return {text: len(self.vocab) + i for i, (text, _) in enumerate(ADDED_TOKENS)}

    @property
    def size(self) -> int:
        return len(self.vocab) + len(ADDED_TOKENS)

    @property
    def eos_ids(self) -> list[int]:
        return [self.added[t] for t in EOS_TOKENS]


def _train(count: int) -> list[tuple[str, str]]:
    """The first `count` merges: the most frequent neighbour pair each time, ties by text."""
    alphabet = byte_alphabet()
    counts = Counter(_TRAINING_SPLIT.findall(TEXT))
    words = [([alphabet[b] for b in w.encode()], n) for w, n in counts.items()]
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, n in words:
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        for symbols, _ in words:
            i = 0
            while i + 1 < len(symbols):
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i:i + 2] = [best[0] + best[1]]
                i += 1
    return merges


@functools.lru_cache(maxsize=None)
def build(base_vocab: int = 512) -> TinyTokenizer:
    """A tokenizer with exactly `base_vocab` tokens before the added ones (256 or more). Where the
    text has no more pairs, letter combinations fill the vocabulary."""
    if base_vocab < 256:
        raise ValueError(f"base_vocab {base_vocab}: a byte-level vocabulary has at least 256")
    vocab = {c: b for b, c in sorted(byte_alphabet().items())}
    merges: list[tuple[str, str]] = []

    def add(left: str, right: str) -> None:
        if len(vocab) < base_vocab and left + right not in vocab:
            vocab[left + right] = len(vocab)
            merges.append((left, right))

    # Beyond this many, pairs occur once or twice and training costs more than it tells.
    for left, right in _train(min(base_vocab - 256, 600)):
        add(left, right)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    stems = [t for t in vocab if t.isascii() and t.isalpha() and t.islower()]
    for left in stems:
        for right in letters:
            add(left, right)
    for left in [t for t in vocab if t.isascii() and t.isalpha() and len(t) >= 2]:
        for right in letters:
            add(left, right)
    if len(vocab) != base_vocab:
        raise ValueError(f"base_vocab {base_vocab} is more than the filler makes ({len(vocab)})")
    return TinyTokenizer(vocab, merges)


def _added_entry(text: str, special: bool) -> dict[str, object]:
    return {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": special}


def tokenizer_json(tokenizer: TinyTokenizer, merges_as_pairs: bool = False) -> dict[str, object]:
    """tokenizer.json; merges as "a b" strings (older files) or as pairs (newer files)."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                  "use_regex": False}
    merges: list[object] = [list(m) if merges_as_pairs else " ".join(m) for m in tokenizer.merges]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": tokenizer.added[t], **_added_entry(t, s)}
                         for t, s in ADDED_TOKENS],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": GLM_SPLIT}, "behavior": "Isolated",
             "invert": False},
            {**byte_level, "trim_offsets": True}]},
        "post_processor": byte_level,
        "decoder": {**byte_level, "trim_offsets": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": tokenizer.vocab, "merges": merges},
    }


def tokenizer_config(tokenizer: TinyTokenizer, max_length: int) -> dict[str, object]:
    return {
        "added_tokens_decoder": {str(tokenizer.added[t]): _added_entry(t, s)
                                 for t, s in ADDED_TOKENS},
        "additional_special_tokens": [t for t, s in ADDED_TOKENS if s and t != "/nothink"],
        "clean_up_tokenization_spaces": False, "do_lower_case": False,
        "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "extra_special_tokens": {},
        "model_max_length": max_length, "padding_side": "left", "remove_space": False,
        "tokenizer_class": "PreTrainedTokenizer",
    }


def write_files(tokenizer: TinyTokenizer, folder: Path, max_length: int,
                merges_as_pairs: bool = False, chat_template: str = "chat_template.jinja") -> None:
    def write(name: str, value: object) -> None:
        (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")

    write("tokenizer.json", tokenizer_json(tokenizer, merges_as_pairs))
    write("tokenizer_config.json", tokenizer_config(tokenizer, max_length))
    shutil.copyfile(Path(__file__).parent / chat_template, folder / "chat_template.jinja")
