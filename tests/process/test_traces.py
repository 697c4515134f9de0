"""Traces: real requests over HTTP and gRPC, a real collector that reads what comes by the protocol's own numbers; collectors that
are away or slow cost counters and nothing else."""
from __future__ import annotations

import http.server
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

import pytest

import sheaf_grpc
from sheaf_grpc import pb
from sheaf_server import SheafServer, wait_for

trace_pb = sheaf_grpc._load("sheaf_test_trace_pb2", "sheaf/otlp/v1/trace_pb2.py")

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
KEPT, DROPPED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
SECRET = "xyzzy plugh"


def value_of(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(one) for one in value.array_value.values]
    return getattr(value, kind)


@dataclass
class Collected:
    name: str
    trace: str
    id: str
    parent: str
    state: str
    flags: int
    kind: int
    start: int
    end: int
    error: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Collector:
    """An OTLP/HTTP receiver on a free port."""
    hold: threading.Event = field(default_factory=threading.Event)  # set: answers wait for `release`
    release: threading.Event = field(default_factory=threading.Event)
    spans: list[Collected] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    posts: int = 0

    def __enter__(self) -> Collector:
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.posts += 1
                if collector.hold.is_set():
                    collector.release.wait(60)
                    return
                collector.take(self.path, self.headers["Content-Type"], body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, content_type: str, body: bytes) -> None:
        if (path, content_type) != ("/v1/traces", "application/x-protobuf"):
            self.wrong.append(f"{path} {content_type}")
            return
        request = trace_pb.ExportTraceServiceRequest.FromString(body)
        self.raw.append(body)
        batch = []
        for process in request.resource_spans:
            resource = {one.key: value_of(one.value) for one in process.resource.attributes}
            for library in process.scope_spans:
                for span in library.spans:
                    batch.append(Collected(
                        span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.trace_state, span.flags,
                        span.kind, span.start_time_unix_nano, span.end_time_unix_nano, span.status.code == 2,
                        {one.key: value_of(one.value) for one in span.attributes}, resource))
        self.spans.extend(batch)  # at once

    def trees(self) -> dict[str, list[Collected]]:
        """By trace, those whose request has come."""
        trees: dict[str, list[Collected]] = {}
        for span in list(self.spans):
            trees.setdefault(span.trace, []).append(span)
        return trees


def post(server: SheafServer, path: str, body: dict[str, Any], **headers: str) -> Any:
    request = urllib.request.Request(server.http + path, data=json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.read()


def figure(server: SheafServer, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", server.get("/metrics"), re.MULTILINE)
    assert found, name
    return float(found.group(1))


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def server(nano: Path, collector: Collector) -> Iterator[SheafServer]:
    with SheafServer(nano, "--workers", "2", "--otlp-endpoint", collector.url, "--trace-sample-ratio", "0",
                     "--log-format", "json") as running:
        yield running
        assert SECRET not in running.log()
    assert not collector.wrong
    assert not [one for one in collector.raw if SECRET.encode() in one]


@pytest.fixture(autouse=True)
def fresh(collector: Collector) -> None:
    collector.spans.clear()


def tree_of(collector: Collector, trace: str = TRACE) -> list[Collected]:
    """Spans of a request come in one batch, its own first."""
    return wait_for(lambda: collector.trees().get(trace), 15, f"spans of {trace}")


def check_tree(tree: list[Collected], parent: str) -> Collected:
    root, rest = tree[0], tree[1:]
    assert root.kind == 2 and root.parent == parent
    ids = {span.id: span for span in tree}
    assert len(ids) == len(tree)
    for span in rest:
        above = ids[span.parent]
        assert above.start <= span.start <= span.end <= above.end, span.name
    assert [span.name for span in rest if span.parent == root.id] == ["prepare", "queue", "prefill", "decode"]
    phases = [span for span in rest if span.parent == root.id]
    assert phases[0].start == root.start and phases[-1].end == root.end
    assert all(one.end == next_.start for one, next_ in zip(phases, phases[1:])), "without gaps"
    return root


def test_a_chat_over_http(server: SheafServer, collector: Collector) -> None:
    before = time.time_ns()
    answer = json.loads(post(server, "/v1/chat/completions",
                             {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 12, "temperature": 0.5,
                              "top_p": 0.75, "ignore_eos": True, "n": 2},
                             traceparent=KEPT, tracestate="vendor=1, other=x"))
    tree = tree_of(collector)
    root = check_tree(tree, SPAN)
    assert before - 10**9 < root.start < root.end < time.time_ns() + 10**9
    assert (root.state, root.flags, root.error) == ("vendor=1,other=x", 0x301, False)
    assert root.name == f"chat {server.get('/v1/models')['data'][0]['id']}"
    got = root.attributes
    assert got["gen_ai.operation.name"] == "chat" and got["gen_ai.request.max_tokens"] == 12
    assert (got["gen_ai.request.temperature"], got["gen_ai.request.top_p"]) == (0.5, 0.75)
    assert (got["gen_ai.usage.input_tokens"], got["gen_ai.usage.output_tokens"]) == (
        answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"])
    assert got["gen_ai.response.finish_reasons"] == [one["finish_reason"] for one in answer["choices"]] == ["length"] * 2
    assert got["gen_ai.response.id"] == answer["id"] and got["gen_ai.request.choice.count"] == 2
    assert 0 <= got["gen_ai.latency.time_in_queue"] < got["gen_ai.latency.time_to_first_token"] < got["gen_ai.latency.e2e"]
    assert root.resource["service.name"] == "sheaf-router" and root.resource["process.pid"] > 0
    # Both workers hold half of the experts: both are asked in each phase.
    for phase in ("prefill", "decode"):
        above = next(span for span in tree if span.name == phase)
        asked = [span for span in tree if span.parent == above.id]
        assert sorted(span.name for span in asked) == ["dispatch worker 0", "dispatch worker 1"], phase
        for span in asked:
            assert span.attributes["sheaf.dispatch.answers"] > 0 and span.attributes["sheaf.dispatch.pairs"] > 0
            assert 0 < span.attributes["sheaf.dispatch.longest_seconds"] <= span.attributes["sheaf.dispatch.seconds"]
    line = wait_for(lambda: [json.loads(one) for one in server.log().splitlines() if TRACE in one], 10, "its line")[0]
    assert line["trace_id"] == TRACE and line["request_id"] == answer["id"]


def test_a_stream_over_http(server: SheafServer, collector: Collector) -> None:
    text = post(server, "/v1/completions", {"prompt": SECRET, "max_tokens": 5, "ignore_eos": True, "stream": True,
                                            "request_id": "my-own"}, traceparent=KEPT).decode()
    assert text.endswith("data: [DONE]\n\n")
    root = check_tree(tree_of(collector), SPAN)
    assert root.name.startswith("text_completion ") and root.attributes["gen_ai.usage.output_tokens"] == 5
    assert root.attributes["gen_ai.request.id"] == "my-own"
    assert root.attributes["gen_ai.response.id"] == json.loads(text.splitlines()[0][6:])["id"]


def test_a_call_over_grpc(server: SheafServer, collector: Collector) -> None:
    client = sheaf_grpc.Client(server.grpc)
    method = client.channel.unary_stream("/sheaf.v1.Inference/Generate", request_serializer=pb.GenerateRequest.SerializeToString,
                                         response_deserializer=pb.GenerateResponse.FromString)
    request = pb.GenerateRequest(text=SECRET, stop=pb.StopOptions(max_tokens=4, ignore_eos=True))
    list(method(request, timeout=60, metadata=(("traceparent", KEPT), ("tracestate", "a=1"), ("tracestate", "b=2"))))
    root = check_tree(tree_of(collector), SPAN)
    assert root.attributes["sheaf.face"] == "grpc" and root.state == "a=1,b=2"
    assert root.attributes["gen_ai.usage.output_tokens"] == 4
    client.close()


def test_what_is_refused_has_a_span(server: SheafServer, collector: Collector) -> None:
    with pytest.raises(urllib.error.HTTPError):
        post(server, "/v1/completions", {"prompt": SECRET, "max_tokens": -1}, traceparent=KEPT)
    tree = tree_of(collector)
    assert [span.attributes["error.type"] for span in tree] == ["invalid"] and not tree[0].error
    collector.spans.clear()
    with pytest.raises(urllib.error.HTTPError):
        post(server, "/v1/completions", {"no": "prompt"}, traceparent=KEPT)
    with pytest.raises(urllib.error.HTTPError):
        request = urllib.request.Request(server.http + "/v1/completions", data=b"no JSON",
                                         headers={"Content-Type": "application/json", "traceparent": KEPT})
        urllib.request.urlopen(request, timeout=60)
    wait_for(lambda: len(collector.spans) == 2, 15, "a span each")


def test_what_is_not_kept_is_not_sent(server: SheafServer, collector: Collector) -> None:
    body = {"prompt": "a", "max_tokens": 2}
    post(server, "/v1/completions", body)  # no trace of its own: the ratio is 0
    post(server, "/v1/completions", body, traceparent=DROPPED)
    post(server, "/v1/completions", body, traceparent=KEPT.upper())
    post(server, "/v1/completions", body, traceparent="ff" + KEPT[2:])
    other = TRACE.replace("0af7", "1bf7")
    post(server, "/v1/completions", body, traceparent=KEPT.replace(TRACE, other))  # behind the others
    tree_of(collector, other)
    assert list(collector.trees()) == [other]
    lines = [json.loads(one) for one in server.log().splitlines()]
    ids = [one.get("trace_id") for one in lines if one["message"] == "request ended"][-5:]
    assert ids == [None, TRACE, None, None, other]


def test_traces_that_begin_here(nano: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    """By the environment alone; the last ones are sent at the end."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url + "/")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-router")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "1")
    with SheafServer(nano, "--workers", "0") as server:
        for _ in range(5):
            server.completion(prompt="a", max_tokens=2, ignore_eos=True)
        traces = wait_for(lambda: re.findall(r"trace_id=([0-9a-f]{32})", server.log())[4:] and
                          re.findall(r"trace_id=([0-9a-f]{32})", server.log()), 10, "five lines")
    trees = collector.trees()
    assert set(trees) == set(traces) and len(set(traces)) == 5, "also those that the end found waiting"
    for tree in trees.values():
        root = check_tree(tree, parent="")
        assert root.resource["service.name"] == "my-router" and root.flags & 0xff == 3
        assert not [span for span in tree if span.name.startswith("dispatch")], "no workers here"


def durations(server: SheafServer, count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.monotonic()
        post(server, "/v1/completions", {"prompt": "a", "max_tokens": 1, "ignore_eos": True}, traceparent=KEPT)
        times.append(time.monotonic() - began)
    return times


def test_a_collector_that_is_away(nano: Path) -> None:
    with SheafServer(nano, "--workers", "0", "--otlp-endpoint", "http://127.0.0.1:1") as server:
        times = durations(server, 30)
        wait_for(lambda: figure(server, "sheaf_trace_failed_sends_total") >= 1, 15, "a failed send")
        assert figure(server, "sheaf_trace_spans_exported_total") == 0
        waiting = figure(server, "sheaf_trace_spans_queued")
        assert waiting == 30 * 5
        assert sorted(times)[15] < 1.0
        assert server.log().count("traces: http://127.0.0.1:1/v1/traces: ") == 1, "a line a minute"
        began = time.monotonic()
    assert time.monotonic() - began < 15, "the end waits for no collector"


def test_a_collector_that_is_slow(nano: Path) -> None:
    """It takes bytes and never answers: the queue has its bound, requests go on."""
    with Collector() as slow:
        slow.hold.set()
        with SheafServer(nano, "--workers", "0", "--otlp-endpoint", slow.url) as server:
            durations(server, 1)
            wait_for(lambda: slow.posts >= 1, 15, "a first batch")
            before = figure(server, "sheaf_trace_spans_queued")
            # A request has five spans, of any number of choices.
            times = durations(server, 60)
            assert figure(server, "sheaf_trace_spans_queued") == before + 60 * 5
            assert sorted(times)[30] < 1.0
            began = time.monotonic()
        assert time.monotonic() - began < 15


@pytest.mark.parametrize("flags, says", [
    (["--otlp-endpoint", "https://collector:4318"], "--otlp-endpoint: .*plaintext only"),
    (["--otlp-endpoint", "collector:4318"], "--otlp-endpoint: wanted a URL such as http://collector:4318"),
    (["--trace-sample-ratio", "1.5"], "--trace-sample-ratio"),
])
def test_a_wrong_flag_is_named(nano: Path, flags: list[str], says: str) -> None:
    result = subprocess.run(SheafServer(nano, *flags).command(), capture_output=True, text=True, timeout=30)
    assert result.returncode == 1 and re.search(says, result.stderr), result.stderr
