"""The log: a line for each request, with its numbers and without a word of it; libraries' lines in our format; strangers bounded."""
from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from sheaf_server import SheafServer, wait_for

SECRET = "xyzzy plugh"


def lines_of(server: SheafServer) -> list[dict]:
    return [json.loads(line) for line in server.log().splitlines()]


def test_a_line_for_each_request_as_json(nano: Path) -> None:
    with SheafServer(nano, "--log-format", "json") as server:
        server.request("POST", "/v1/completions", {"prompt": SECRET, "max_tokens": 5, "ignore_eos": True, "n": 2})
        with pytest.raises(Exception):
            server.request("POST", "/v1/completions", {"prompt": SECRET, "max_tokens": -1})
        server.request("GET", "/health")
        ended = wait_for(lambda: [one for one in lines_of(server) if one["message"] == "request ended"][1:] and
                         [one for one in lines_of(server) if one["message"] == "request ended"], 10, "two lines of requests")
        assert len(ended) == 2, "probes have none"
        good, refused = ended
        assert (good["outcome"], good["choices"], good["output_tokens"], good["face"], good["level"]) == ("length", 2, 10, "http", "info")
        assert good["request_id"].startswith("cmpl-") and good["model"] == nano.name and good["key"] == "none"
        assert good["prompt_tokens"] > 0 and good["text_bytes"] > 0
        assert 0 <= good["queue_seconds"] <= good["first_token_seconds"] <= good["total_seconds"]
        assert (refused["outcome"], refused["choices"], refused["output_tokens"]) == ("invalid", 0, 0)
        assert refused["request_id"].startswith("cmpl-") and "first_token_seconds" not in refused
        assert SECRET not in server.log()


def test_a_line_of_text_and_none_where_none_is_wanted(nano: Path) -> None:
    with SheafServer(nano) as server:
        server.request("POST", "/v1/completions", {"prompt": SECRET, "max_tokens": 3, "ignore_eos": True})
        line = wait_for(lambda: re.search(r"I \[\d+\] (request id=.*)", server.log()), 10, "the line").group(1)
        assert re.fullmatch(r"request id=cmpl-\S+ face=http key=none model=\S+ choices=1 in=\d+ cached=\d+ out=3 bytes=\d+ "
                            r"queue_s=[\d.]+ ttft_s=[\d.]+ total_s=[\d.]+ outcome=length", line)
    with SheafServer(nano, "--no-access-log") as server:
        server.request("POST", "/v1/completions", {"prompt": SECRET, "max_tokens": 3})
        server.request("POST", "/v1/completions", {"prompt": SECRET, "max_tokens": 3})
        assert "outcome=" not in server.log()


def test_strangers_cannot_fill_the_log(nano: Path) -> None:
    """Bytes that are no HTTP/2 on the gRPC port: whatever the library says is in our format, and there is a limit on it."""
    with SheafServer(nano) as server:
        host, port = server.grpc.rsplit(":", 1)
        before = len(server.log().splitlines())
        for _ in range(300):
            with socket.create_connection((host, int(port)), timeout=10) as stranger:
                stranger.sendall(b"GET / HTTP/1.0\r\n\r\n" + b"\0" * 64)
        server.request("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1})
        wait_for(lambda: "outcome=" in server.log(), 10, "the request's line")
        lines = server.log().splitlines()
        assert len(lines) - before < 60
        assert not [line for line in lines if not re.match(r"\d\d:\d\d:\d\d\.\d{3} [DIWEC] \[\d+\] ", line)]
