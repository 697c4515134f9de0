"""The repository's shape holds: include rule, every test registered, headers open with a contract."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

from include_rule import ALLOWED, check_file

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for folder in {name.split("/")[0] for name in ALLOWED} for path in (ROOT / folder).rglob("*")
    if path.suffix in {".h", ".cc"})


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_file_keeps_the_include_rule() -> None:
    errors = [error for path in SOURCES for error in check_file(relative(path), path.read_text())]
    assert not errors, "\n".join(errors)


@pytest.mark.parametrize("path, include", [
    ("worker/x.cc", "router/schedule/engine.h"),
    ("router/attention/x.cc", "worker/worker.h"),
    ("kernels/x.h", "model/config.h"),
    ("model/x.cc", "exchange/frame.h"),
    ("base/x.h", "kernels/linear/linear.h"),
    ("router/text/x.cc", "router/api/http/http_server.h"),
    ("router/api/openai/x.cc", "router/api/grpc/grpc_server.h"),
    ("router/api/request/x.cc", "router/api/http/http_message.h"),
])
def test_a_file_against_the_rule_is_found(path: str, include: str) -> None:
    assert check_file(path, f'#pragma once\n#include "{include}"\n')


def test_headers_open_with_a_contract_comment() -> None:
    bad = []
    for path in SOURCES:
        if path.suffix != ".h" or path.name.endswith("-inl.h") or "rust" in path.parts:
            continue
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        if not (lines[0] == "#pragma once" and lines[1].startswith("//")):
            bad.append(relative(path))
    assert not bad, f"no contract comment after #pragma once: {bad}"


def test_every_test_file_is_registered() -> None:
    bad = []
    for path in (ROOT / "tests").rglob("*"):
        if not re.search(r"(_test|_fuzz)\.cc$", path.name):
            continue
        cmake = path.parent / "CMakeLists.txt"
        text = cmake.read_text() if cmake.exists() else ""
        if path.name not in text and "*_test.cc" not in text:
            bad.append(relative(path))
    assert not bad, f"not named in the CMakeLists.txt of their folder: {bad}"


def test_no_folder_is_called_by_what_it_is_not() -> None:
    vague = {"utils", "util", "common", "helpers", "misc", "impl"}
    assert not [relative(path) for path in SOURCES if vague & {*path.parent.parts, path.stem}]


def too_wide(text: str) -> list[int]:
    """Lines over .clang-format's 100 columns; one that quotes data (a string, a raw string's inside) may be longer."""
    return [number for number, line in enumerate(text.splitlines(), start=1)
            if len(line) > 100 and ('"' not in line or line.lstrip().startswith("//"))]


def test_lines_end_within_100_columns() -> None:
    suffixes = {".h", ".cc", ".cu", ".cuh"}
    sources = {path for folder in ("tests", *(name.split("/")[0] for name in ALLOWED))
               for path in (ROOT / folder).rglob("*") if path.suffix in suffixes}
    bad = [f"{relative(path)}:{number}" for path in sorted(sources) for number in too_wide(path.read_text())]
    assert not bad, "\n".join(bad)
    assert too_wide("x;\n// " + 'a "word" ' * 12 + "\n" + "y" * 101 + '\nf(R"(' + "z" * 100 + ')");') == [2, 3]


def test_paths_that_documents_name_exist() -> None:
    files = {relative(path) for path in ROOT.rglob("*") if path.is_file() and "build" not in path.relative_to(ROOT).parts[:1]}
    folders = {parent.as_posix() for name in files for parent in Path(name).parents} - {"."}
    bad = []
    for document in sorted(name for name in files if name.endswith(".md")):
        for name in re.findall(r"`([\w./-]+)`", (ROOT / document).read_text()):
            name = name.rstrip("/")
            if "/" in name and name.split("/")[0] in folders and name.split("/")[0] != "build" and name not in files | folders:
                bad.append(f"{document}: {name}")
    assert not bad, "\n".join(bad)
