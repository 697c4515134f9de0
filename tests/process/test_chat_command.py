"""`sheaf chat`, `sheaf ask` and `sheaf inspect` as a user meets them: on a terminal, in a pipe, with Ctrl-C."""
from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from checkpoint_faults import read_header
from sheaf_server import BINARY, SheafServer, run_to_end, wait_for

ANSWER_SECONDS = 60.0
NAME, WHO = "My name is Velorin.", "What is my name?"


@pytest.fixture(scope="module")
def server(nano: Path) -> Any:
    with SheafServer(nano, "--workers", "0") as running:
        yield running


@pytest.fixture(scope="module")
def endless(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same model, but no answer ends: it never says a control token, and its context takes minutes to fill."""
    folder = tmp_path_factory.mktemp("endless") / "nano"
    shutil.copytree(nano, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1 << 18}), encoding="utf-8")
    tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    silence(folder, [token["id"] for token in tokens if token["special"]])
    with SheafServer(folder, "--workers", "0") as running:
        yield running


def silence(folder: Path, ids: list[int]) -> None:
    """Zeroes their rows of lm_head: whichever of them would end an answer, none is ever the most likely token."""
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    path = folder / index["weight_map"]["lm_head.weight"]
    header, data = read_header(path)
    rows = header["lm_head.weight"]["shape"][0]
    begin, end = header["lm_head.weight"]["data_offsets"]
    row_bytes = (end - begin) // rows
    changed = bytearray(data)
    for token in ids:
        changed[begin + token * row_bytes:begin + (token + 1) * row_bytes] = bytes(row_bytes)
    with open(path, "r+b") as file:
        file.seek(-len(data), os.SEEK_END)
        file.write(changed)


class Terminal:
    """A program on a pseudo terminal of its own: what a person would see and type."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(BINARY, [BINARY, *arguments])
        self.status: int | None = None
        self.seen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def _read(self, deadline: float, what: str) -> bool:
        """Appends what comes to `seen`; False at the program's end."""
        ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"no {what!r} in {self.seen!r}"
        try:
            got = os.read(self.fd, 4096)
        except OSError:  # the other side is closed
            got = b""
        self.seen += got.decode(errors="replace")
        return bool(got)

    def until(self, text: str) -> str:
        """What came up to and with `text`."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while text not in self.seen:
            assert self._read(deadline, text), f"ended without {text!r}: {self.seen!r}"
        at = self.seen.index(text) + len(text)
        before, self.seen = self.seen[:at], self.seen[at:]
        return before

    def say(self, text: str) -> str:
        """The answer to one turn, without the echo of what was typed."""
        self.type(text + "\n")
        self.until("\n")
        return self.until("\n> ")

    def wait(self) -> int:
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._read(deadline, "end"):
            pass
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status


def chat_terminal(server: SheafServer, *flags: str) -> Terminal:
    return Terminal("chat", "--grpc", server.grpc, "--temperature", "0", *flags)


def chat_pipe(server: SheafServer, text: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BINARY, "chat", "--grpc", server.grpc, "--temperature", "0", *flags], input=text,
                          capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)


def test_remembers_and_reset_forgets(server: SheafServer) -> None:
    with chat_terminal(server, "--no-thinking", "--max-tokens", "64") as terminal:
        terminal.until("> ")
        terminal.say(NAME)
        assert "Velorin" in terminal.say(WHO)
        terminal.say("/reset")
        assert "Velorin" not in terminal.say(WHO)
        terminal.type("/quit\n")
        assert terminal.wait() == 0


def test_ctrl_c_ends_the_answer_and_not_the_program(server: SheafServer) -> None:
    with chat_terminal(server, "--no-thinking", "--max-tokens", "64") as terminal:
        terminal.until("> ")
        terminal.say(NAME)
        terminal.type("\x03")
        terminal.until("again")
        terminal.until("> ")
        assert "Velorin" in terminal.say(WHO), "Ctrl-C at the prompt ends nothing the first time"
        terminal.type("\x03")
        terminal.until("> ")
        terminal.type("\x03")
        assert terminal.wait() == 0


def hears_of_cancels(server: SheafServer, count: int) -> None:
    wait_for(lambda: server.metric("sheaf_requests_total", face="grpc", outcome="cancelled") == count, 10,
             f"the server hears of {count} cancels")
    assert server.metric("sheaf_requests_total", face="grpc") == count, "nothing ended by itself"


def test_ctrl_c_in_mid_answer(endless: SheafServer) -> None:
    with chat_terminal(endless, "--no-thinking") as terminal:
        terminal.until("> ")
        terminal.type(f"{NAME}\n")
        terminal.until("\n")
        terminal.until("Velorin")
        terminal.type("\x03")
        terminal.until("\n> ")
        hears_of_cancels(endless, 1)
        # The conversation goes on. Not after what was cut off, which is longer or shorter each time.
        terminal.say("/reset")
        terminal.type(f"{NAME}\n")
        terminal.until("\n")
        terminal.until("Velorin")
        terminal.type("\x03")
        terminal.until("\n> ")
        hears_of_cancels(endless, 2)
        terminal.type("\x04")
        assert terminal.wait() == 0


def test_lines_go_on_after_a_backslash_and_ctrl_d_ends(server: SheafServer) -> None:
    with chat_terminal(server, "--no-thinking", "--max-tokens", "32") as terminal:
        terminal.until("> ")
        terminal.type("What is \\\n")
        terminal.until(". ")
        assert terminal.say("47 + 85?")
        terminal.type("\x04")
        assert terminal.wait() == 0


def test_thoughts_are_dimmed_on_a_terminal_and_absent_in_a_pipe(server: SheafServer) -> None:
    question = "What is 47 + 85?"
    with Terminal("ask", "--grpc", server.grpc, question) as terminal:
        assert terminal.wait() == 0
        thoughts, _, answer = terminal.seen.partition("\x1b[0m")
        assert thoughts.startswith("\x1b[2m") and len(thoughts) > 4 and "132" in answer
    piped = run_to_end("ask", "--grpc", server.grpc, question)
    assert piped.returncode == 0 and "132" in piped.stdout and "\x1b" not in piped.stdout
    thoughts = thoughts.removeprefix("\x1b[2m").replace("\r\n", "\n").strip()
    assert thoughts not in piped.stdout
    shown = run_to_end("ask", "--grpc", server.grpc, "--show-thoughts", question).stdout
    assert shown.startswith(thoughts) and shown.endswith(piped.stdout) and "\x1b" not in shown
    silent = run_to_end("ask", "--grpc", server.grpc, "--no-thinking", "--show-thoughts", question)
    assert silent.returncode == 0 and thoughts not in silent.stdout


def test_a_pipe_is_a_turn_a_line(server: SheafServer) -> None:
    flags = ("--no-thinking", "--max-tokens", "64")
    done = chat_pipe(server, f"{NAME}\n{WHO}\n/reset\n\n{WHO}", *flags)
    assert done.returncode == 0 and done.stderr == ""
    answers = done.stdout.splitlines()
    assert len(answers) == 3 and "Velorin" in answers[1] and "Velorin" not in answers[2]


def test_a_failed_turn_leaves_the_conversation_as_it_was(server: SheafServer) -> None:
    flags = ("--no-thinking", "--max-tokens", "64")
    too_long = "word " * 100_000
    done = chat_pipe(server, f"{NAME}\n{too_long}\n/nonsense\n{WHO}\n", *flags)
    assert done.returncode == 1
    assert "Velorin" in done.stdout.splitlines()[-1]
    assert server.grpc in done.stderr and "/nonsense" in done.stderr


def test_no_server(server: SheafServer) -> None:
    done = subprocess.run([BINARY, "chat", "--grpc", "127.0.0.1:1"], input="Hello\n", capture_output=True, text=True,
                          timeout=ANSWER_SECONDS, check=False)
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr


def test_inspect_says_which_parsers(nano: Path, tmp_path: Path) -> None:
    shown = run_to_end("inspect", str(nano))
    assert shown.returncode == 0
    assert "tool calls   auto -> glm45" in shown.stdout and "thoughts     auto -> glm45" in shown.stdout
    report = json.loads(run_to_end("inspect", str(nano), "--json").stdout)
    assert (report["tool_call_parser"], report["reasoning_parser"], report["servable"]) == ("glm45", "glm45", True)
    broken = tmp_path / "broken"
    shutil.copytree(nano, broken)
    (broken / "chat_template.jinja").write_text("{% if %}")
    remarked = json.loads(run_to_end("inspect", str(broken), "--json").stdout)
    assert remarked["servable"] is True and "chat_template.jinja:1" in json.dumps(remarked)
