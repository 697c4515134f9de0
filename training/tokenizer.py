"""Trains and saves sheaf-nano's tokenizer: byte-level BPE behind GLM's pre-tokenizer expression.

python tokenizer.py --out DIR writes tokenizer.json, tokenizer_config.json and chat_template.jinja. The corpus and the result
depend on --seed alone.

Three choices make copying easy for a small model: no merge holds a digit, so numbers are single digits; no merge holds an
underscore, so get_lamp is get, _, lamp; and merges with a leading space come last, so that a word is cut the same way with
and without a space before it (" Zorvik" is " Zor" + "vik" exactly when "Zorvik" is "Zor" + "vik").
"""
from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from corpus.conversation import Split
from corpus.mixture import PARTS, conversation
from rendering import TEMPLATE_FILE, load_template

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

# In GLM-4.6's order; True: a special token, which disappears from decoded text.
ADDED_TOKENS: tuple[tuple[str, bool], ...] = (
    ("<|endoftext|>", True), ("[MASK]", True), ("[gMASK]", True), ("[sMASK]", True), ("<sop>", True), ("<eop>", True),
    ("<|system|>", True), ("<|user|>", True), ("<|assistant|>", True), ("<|observation|>", True),
    ("<|begin_of_image|>", True), ("<|end_of_image|>", True), ("<|begin_of_video|>", True), ("<|end_of_video|>", True),
    ("<|begin_of_audio|>", True), ("<|end_of_audio|>", True), ("<|begin_of_transcription|>", True),
    ("<|end_of_transcription|>", True), ("<|code_prefix|>", True), ("<|code_middle|>", True), ("<|code_suffix|>", True),
    ("<think>", False), ("</think>", False), ("<tool_call>", False), ("</tool_call>", False), ("<tool_response>", False),
    ("</tool_response>", False), ("<arg_key>", False), ("</arg_key>", False), ("<arg_value>", False), ("</arg_value>", False),
    ("/nothink", True), ("<|begin_of_box|>", False), ("<|end_of_box|>", False), ("<|image|>", False), ("<|video|>", False),
)
VOCABULARY = 4096
END_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>")


def split_words() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def count_pieces(seed: int, conversations: int) -> Counter[str]:
    """How often each pre-token (in byte-level letters) stands in the corpus, added tokens cut out."""
    added = [token for token, _ in ADDED_TOKENS]
    template, splitter, pieces = load_template(), split_words(), Counter()
    for index in range(PARTS[0], PARTS[0] + conversations):
        made = conversation(seed, Split.TRAIN, index)
        text = template.render(messages=made.messages, tools=made.tools or None, enable_thinking=made.thinking)
        for token in added:
            text = text.replace(token, "\x00")
        for part in text.split("\x00"):
            pieces.update(piece for piece, _ in splitter.pre_tokenize_str(part))
    return pieces


def learn_merges(pieces: Counter[str], size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Plain BPE over pieces without space, underscore and digits first; then space + token, the most frequent first.

    size: tokens in all, the 256 bytes included. About three in five are word pieces; the rest are their spaced twins.
    """
    space = "Ġ"
    bare: Counter[str] = Counter()
    for piece, count in pieces.items():
        for part in piece.replace("_", " ").replace(space, " ").split():
            if not any(letter.isdigit() and letter.isascii() for letter in part):
                bare[part] += count
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=256 + (size - 256) * 3 // 5, min_frequency=2, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    words = sorted(bare.items())
    plain.train_from_iterator((" ".join([word] * min(count, 2000)) for word, count in words), trainer)
    learnt = json.loads(plain.to_str())["model"]
    merges = [tuple(merge) for merge in learnt["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(alphabet)}
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))

    cutter = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    after_space: Counter[str] = Counter()
    for piece, count in pieces.items():
        if piece.startswith(space) and len(piece) > 1:
            after_space[cutter.encode(piece[1:]).tokens[0]] += count
    for token, _ in sorted(after_space.items(), key=lambda item: (-item[1], item[0])):
        if len(vocabulary) == size:
            break
        if not token.isdigit() and space not in token and token != "_":
            merges.append((space, token))
            vocabulary[space + token] = len(vocabulary)
    return vocabulary, merges


def build(seed: int, conversations: int = 30_000) -> Tokenizer:
    vocabulary, merges = learn_merges(count_pieces(seed, conversations), VOCABULARY - len(ADDED_TOKENS))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = split_words()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    for token, special in ADDED_TOKENS:
        added = AddedToken(token, normalized=False, special=special)
        if special:
            tokenizer.add_special_tokens([added])
        else:
            tokenizer.add_tokens([added])
    return tokenizer


def space_twins(tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """(id of " x", id of "x") for every such pair, by bytes."""
    vocabulary = tokenizer.get_vocab()
    return sorted((index, vocabulary[token[1:]]) for token, index in vocabulary.items()
                  if token.startswith("Ġ") and token[1:] in vocabulary)


def save(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = {token: tokenizer.token_to_id(token) for token, _ in ADDED_TOKENS}
    config = {
        "added_tokens_decoder": {str(ids[token]): {"content": token, "lstrip": False, "normalized": False, "rstrip": False,
                                                   "single_word": False, "special": special}
                                 for token, special in ADDED_TOKENS},
        "additional_special_tokens": [token for token, special in ADDED_TOKENS if special],
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "model_max_length": context,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copyfile(TEMPLATE_FILE, folder / "chat_template.jinja")


def load(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--context", type=int, default=4096, help="model_max_length, in tokens")
    options = parser.parse_args()
    tokenizer = build(options.seed)
    save(tokenizer, options.out, options.context)
    print(f"{tokenizer.get_vocab_size()} tokens, {len(space_twins(tokenizer))} with a twin after a space, in {options.out}")


if __name__ == "__main__":
    main()
