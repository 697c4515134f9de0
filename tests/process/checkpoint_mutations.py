"""Random damage to a checkpoint's files, for `sheaf inspect` and `sheaf serve` to agree on.

mutate(folder, random) spoils one to three things of config.json, the safetensors headers, the index, tokenizer.json,
tokenizer_config.json, the chat template, generation_config.json or the quantizer's side file, and says what it did. The
values of tensors stay as they are, so that what headers allow can be loaded. The same random state gives the same damage.
"""
from __future__ import annotations

import json
import struct
from pathlib import Path
from random import Random
from typing import Any, Callable

from checkpoint_faults import replace

Mutation = Callable[[Path, Random], str]

NUMBERS = [0, 1, -1, 2, 3, 7, 127, 255, 4096, 65536, 2**31 - 1, 2**31, -2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, 0.5, -0.0,
           1e-300, 1e308, -1e308]
WORDS = ["", " ", "a\nb", "\x00", "\x7f\x1b[0m", "é", "\u2028", "glm4_moe", "gptq", "auto", "true", "12", "-3", "1e9", "x" * 70000,
         "..", "/", "re:(((", "F16", "BF16", "<|user|>", "{{ x", "None", "\ufeff"]


def any_value(random: Random) -> Any:
    kind = random.randrange(9)
    if kind < 3:
        return random.choice(NUMBERS)
    if kind < 5:
        return random.choice(WORDS)
    if kind == 5:
        return None
    if kind == 6:
        return random.random() < 0.5
    if kind == 7:
        return [any_value(random) for _ in range(random.randrange(4))]
    return {random.choice(WORDS)[:20]: any_value(random) for _ in range(random.randrange(4))}


def nested(depth: int, random: Random) -> Any:
    value: Any = any_value(random)
    for _ in range(depth):
        value = [value] if random.random() < 0.5 else {"a": value}
    return value


def walk_to_a_container(root: Any, random: Random) -> tuple[list[str], Any]:
    """A dict or list that is not empty, reached by a short random walk, and the way there."""
    at, way = root, []
    while True:
        inner = [key for key in (at if isinstance(at, dict) else range(len(at))) if isinstance(at[key], (dict, list)) and at[key]]
        if not inner or random.random() < 0.6:
            return way, at
        key = random.choice(inner[:200])
        way.append(str(key))
        at = at[key]


def change_json(root: Any, random: Random) -> str:
    """Changes the tree in place; what it did."""
    way, at = walk_to_a_container(root, random)
    key = random.choice(list(at)) if isinstance(at, dict) else random.randrange(len(at))
    where = "/".join([*way, str(key)])[:120]
    old = at[key]
    action = random.choice(["delete", "replace", "replace", "null", "retype", "negate", "huge", "nest", "rename", "swap", "add"])
    if action == "delete":
        del at[key]
    elif action == "replace":
        at[key] = any_value(random)
    elif action == "null":
        at[key] = None
    elif action == "retype":
        at[key] = str(old) if isinstance(old, (int, float)) else [old] if isinstance(old, str) else len(str(old))
    elif action == "negate":
        at[key] = -old if isinstance(old, (int, float)) else not old
    elif action == "huge":
        at[key] = random.choice(NUMBERS[-13:])
    elif action == "nest":
        at[key] = nested(random.choice([2, 20, 300]), random)
    elif action == "rename" and isinstance(at, dict):
        at[random.choice([key + "_", key.upper(), random.choice(WORDS)[:30]])] = at.pop(key)
    elif action == "swap":
        other = random.choice(list(at)) if isinstance(at, dict) else random.randrange(len(at))
        at[key], at[other] = at[other], at[key]
    elif isinstance(at, dict):
        at[random.choice(WORDS)[:30]] = any_value(random)
    else:
        at.insert(key, any_value(random))
    return f"{action} {where}"


def dump(root: Any, random: Random) -> bytes:
    text = json.dumps(root, ensure_ascii=random.random() < 0.5)
    return text.encode(errors="surrogatepass")


def json_file(name: str) -> Mutation:
    def apply(folder: Path, random: Random) -> str:
        root = json.loads((folder / name).read_text())
        said = change_json(root, random)
        replace(folder / name, dump(root, random))
        return f"{name}: {said}"
    return apply


def duplicate_key(name: str) -> Mutation:
    """The same key twice in the text, with another value first or last."""
    def apply(folder: Path, random: Random) -> str:
        root = json.loads((folder / name).read_text())
        key = random.choice(list(root))
        extra = f"{json.dumps(key)}: {json.dumps(any_value(random))}"
        text = json.dumps(root)
        text = "{" + extra + ", " + text[1:] if random.random() < 0.5 else text[:-1] + ", " + extra + "}"
        replace(folder / name, text.encode())
        return f"{name}: twice {key}"
    return apply


def side_file(folder: Path, random: Random) -> str:
    """The quantizer's file speaks where config.json does not."""
    path = folder / "config.json"
    root = json.loads(path.read_text())
    quantization = root.pop("quantization_config", {"bits": 4})
    replace(path, json.dumps(root).encode())
    said = change_json(quantization, random)
    name = random.choice(["quantize_config.json", "quantization_config.json"])
    replace(folder / name, dump(quantization, random))
    return f"{name}: {said}"


def file_bytes(name: str) -> Mutation:
    """Damage that knows nothing of the format."""
    def apply(folder: Path, random: Random) -> str:
        path = folder / name
        raw = path.read_bytes()
        action = random.choice(["cut", "empty", "noise", "mark", "crlf", "utf16", "latin1", "tail", "gone", "zeros", "deep", "directory"])
        if action == "cut":
            raw = raw[:random.randrange(len(raw) + 1)]
        elif action == "empty":
            raw = b""
        elif action == "noise":
            damaged = bytearray(raw)
            for _ in range(random.choice([1, 4, 64])):
                damaged[random.randrange(len(damaged))] = random.randrange(256)
            raw = bytes(damaged)
        elif action == "mark":
            raw = b"\xef\xbb\xbf" + raw
        elif action == "crlf":
            raw = raw.replace(b"\n", b"\r\n")
        elif action == "utf16":
            raw = raw.decode(errors="replace").encode("utf-16")
        elif action == "latin1":
            raw = raw + "é".encode("latin-1")
        elif action == "tail":
            raw = raw + random.choice([b"\n\n  ", b"}", b"\x00", b"null"])
        elif action == "zeros":
            raw = bytes(len(raw))
        elif action == "deep":
            raw = random.choice([b"[" * 100000, b'{"a":' * 100000, b'{"a":' + b"[" * 100000 + b"]" * 100000 + b"}"])
        path.unlink()
        if action == "directory":
            path.mkdir()
        elif action != "gone":
            path.write_bytes(raw)
        return f"{name}: {action}"
    return apply


def header(folder: Path, random: Random) -> str:
    """The header of one shard; the bytes behind it stay."""
    path = random.choice(sorted(folder.glob("*.safetensors")))
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    data = raw[8 + length:]
    tensors = json.loads(raw[8:8 + length])
    name = random.choice([n for n in tensors if n != "__metadata__"])
    entry = tensors[name]
    action = random.choice(["dtype", "shape", "offsets", "rename", "drop", "tree", "tree", "length", "noise", "metadata", "order"])
    declared = None
    if action == "dtype":
        entry["dtype"] = random.choice(["F64", "F8_E4M3", "I8", "U8", "BOOL", "I64", "f16", "F3", "", "U32", "I32"])
    elif action == "shape":
        shape = entry["shape"]
        entry["shape"] = random.choice([shape[::-1], [*shape, 1], [1, *shape], shape[:-1], [-s for s in shape], [2**62, 4], [2**64],
                                        [s * 2 for s in shape], [], None, [str(s) for s in shape], [0], [1.0 * s for s in shape]])
    elif action == "offsets":
        begin, end = entry["data_offsets"]
        entry["data_offsets"] = random.choice([[begin + 1, end + 1], [end, begin], [begin, end + 8], [begin], [begin, end, end],
                                               [-1, end], [2**63, 2**64 - 1], [begin, begin], None, ["0", "1"], [begin, len(data) + 8]])
    elif action == "rename":
        tensors[random.choice([name + "\n", name.upper(), "model.layers.99.mlp.gate.weight", "model.layers.1.mlp.experts.900.x.weight",
                               "", "é\x00", name.replace(".1.", ".0."), "mtp." + name])] = tensors.pop(name)
    elif action == "drop":
        tensors.pop(name)
    elif action == "tree":
        change_json(tensors, random)
    elif action == "length":
        declared = random.choice([0, 1, length - 1, length + 1, length * 2, len(raw), len(raw) - 8, 2**40, 2**63, 2**64 - 1])
    elif action == "metadata":
        tensors["__metadata__"] = random.choice([None, 5, {"a": 1}, {"format": "tf"}, [], {"a": {"b": "c"}}])
    elif action == "order":
        shuffled = list(tensors.items())
        random.shuffle(shuffled)
        tensors = dict(shuffled)
    text = bytearray(dump(tensors, random))
    if action == "noise":
        for _ in range(random.choice([1, 3])):
            text[random.randrange(len(text))] = random.randrange(256)
    replace(path, struct.pack("<Q", len(text) if declared is None else declared) + bytes(text) + data)
    return f"{path.name}: {action} of {name}"


def template_text(folder: Path, random: Random) -> str:
    path = folder / "chat_template.jinja"
    text = path.read_text()
    at = random.randrange(len(text) + 1)
    piece = random.choice(["{%", "%}", "{{", "}}", "{% endfor %}", "{% generation %}", "{{ raise_exception('no') }}", "{{ 1/0 }}",
                           "{{ messages[99].content.x.y }}", "{% for i in range(100000000) %}{% endfor %}", "{{ 'a' * 10 ** 9 }}",
                           "{{ strftime_now('%d') }}", "{% include 'x' %}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "\r\n",
                           "{{ tools.append(1) }}", "{#"])
    replace(path, (text[:at] + piece + text[at:]).encode())
    return f"chat_template.jinja: {piece!r} at {at}"


MUTATIONS: list[tuple[int, Mutation]] = [
    (8, json_file("config.json")), (2, duplicate_key("config.json")), (2, file_bytes("config.json")),
    (3, side_file),
    (2, json_file("generation_config.json")), (1, file_bytes("generation_config.json")),
    (5, json_file("tokenizer.json")), (1, duplicate_key("tokenizer.json")), (1, file_bytes("tokenizer.json")),
    (4, json_file("tokenizer_config.json")), (1, file_bytes("tokenizer_config.json")),
    (3, template_text), (1, file_bytes("chat_template.jinja")),
    (9, header),
]
INDEX_MUTATIONS: list[tuple[int, Mutation]] = [
    (6, json_file("model.safetensors.index.json")), (2, duplicate_key("model.safetensors.index.json")),
    (2, file_bytes("model.safetensors.index.json")),
]


def mutate(folder: Path, random: Random) -> str:
    """What was done to the folder."""
    done = []
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        choices = list(MUTATIONS)
        if (folder / "model.safetensors.index.json").is_file():
            choices += INDEX_MUTATIONS
        (mutation,) = random.choices([m for _, m in choices], weights=[weight for weight, _ in choices])
        try:
            done.append(mutation(folder, random))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError, RecursionError):
            # An earlier one left nothing that this one could change.
            continue
    return "; ".join(done)
