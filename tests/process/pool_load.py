"""Streams of tokens as clients see them: many at once, each token with its time, compared with a reference.

    questions = trained_questions(seed)
    wanted = Load([reference_http], questions, streams=4).each_once()
    load = Load([router.http], questions, streams=16, seed=1, requests_per_second=9.0)
    with load: ...                       # faults go here
    print(figures(load.records, wanted))

Every stream asks one question after another over HTTP (server-sent events) until the load ends; the running ones are
finished then. A stream that breaks is asked for again at the next address with what it has as prior_output, where
resume=True; else it has failed. With tls every question has a connection of its own, whose certificate must have the
name tls_name. One thread with an event loop reads everything, so a token's time is when it was read.
"""
from __future__ import annotations

import asyncio
import json
import random
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Sequence

Question = dict[str, Any]  # fields of /v1/completions
PATIENCE_SECONDS = 120.0   # between two events of a stream

_SAMPLING: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.9, "top_p": 0.95},
    {"temperature": 0, "logprobs": 2},
    {"temperature": 1.0, "top_k": 50, "frequency_penalty": 0.4, "presence_penalty": 0.3, "repetition_penalty": 1.1},
]


def _questions(prompts: Sequence[Any], count: int, rng: random.Random, tokens: tuple[int, int]) -> list[Question]:
    return [{"prompt": prompts[i % len(prompts)], "max_tokens": rng.randint(*tokens), "ignore_eos": True,
             "seed": rng.randrange(1 << 31), "return_token_ids": True, "return_tokens_as_token_ids": True,
             **_SAMPLING[i % len(_SAMPLING)]} for i in range(count)]


def trained_questions(seed: int, count: int = 40, tokens: tuple[int, int] = (32, 160)) -> list[Question]:
    """For the trained checkpoint: its questions, greedy and seeded, with penalties and log-probabilities."""
    asked = json.loads(Path(__file__).with_name("nano_questions.json").read_text(encoding="utf-8"))
    rng = random.Random(seed)
    prompts = [entry["prompt"] for entry in asked]
    rng.shuffle(prompts)
    return [{**question, "add_special_tokens": False} for question in _questions(prompts, count, rng, tokens)]


def random_questions(seed: int, count: int = 16, tokens: tuple[int, int] = (16, 80)) -> list[Question]:
    """For any checkpoint with 512 tokens or more."""
    rng = random.Random(seed)
    prompts = [[rng.randrange(512) for _ in range(rng.randint(1, 40))] for _ in range(count)]
    return _questions(prompts, count, rng, tokens)


@dataclass
class Record:
    """One question asked, and what came back."""
    question: int
    asked_at: float
    addresses: list[str] = field(default_factory=list)  # more than one: it was resumed
    token_times: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    finish: str = ""
    error: str = ""

    def difference(self, wanted: Record) -> str:
        """Empty: the same bytes."""
        if self.ids != wanted.ids:
            at = next((i for i, (a, b) in enumerate(zip(self.ids, wanted.ids)) if a != b),
                      min(len(self.ids), len(wanted.ids)))
            return (f"question {self.question}: token {at} of {len(wanted.ids)}: "
                    f"wanted {wanted.ids[at:at + 1]}, got {self.ids[at:at + 1]}")
        for name in ("logprobs", "finish", "text"):
            if getattr(self, name) != getattr(wanted, name):
                return f"question {self.question}: {name} differ"
        return ""


class _Broken(Exception):
    pass


async def _events(reader: asyncio.StreamReader) -> Any:
    """The data of each server-sent event of a chunked answer."""
    rest = b""
    while True:
        size = int(await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS) or b"x", 16)
        rest += await reader.readexactly(size)
        await reader.readexactly(2)
        while (end := rest.find(b"\n\n")) >= 0:
            event, rest = rest[:end], rest[end + 2:]
            if event.startswith(b"data: "):
                yield event[6:]
        if size == 0:
            return


async def _ask(address: str, question: Question, record: Record, **connection: Any) -> None:
    """Adds what comes to the record. Raises _Broken when it ends otherwise than with [DONE]. connection: as asyncio has it."""
    body = {**question, "stream": True}
    if record.ids:
        body["prior_output"] = record.ids
    data = json.dumps(body).encode()
    writer = None
    try:
        reader, writer = await asyncio.open_connection(*address.rsplit(":", 1), limit=1 << 22, **connection)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: sheaf\r\nConnection: close\r\n"
                     b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        status = head.split(b" ", 2)[1]
        if status != b"200":
            answer = await asyncio.wait_for(reader.read(2000), PATIENCE_SECONDS)
            raise _Broken(f"HTTP {status.decode()}: {answer.decode(errors='replace')}")
        async for event in _events(reader):
            if event == b"[DONE]":
                return
            now = time.monotonic()
            parsed = json.loads(event)
            if "error" in parsed:
                raise _Broken(f"error in the stream: {parsed['error']}")
            choice = parsed["choices"][0]
            if choice["token_ids"]:
                record.token_times.append(now)
                record.ids += choice["token_ids"]
            if choice.get("logprobs"):
                record.logprobs += choice["logprobs"]["token_logprobs"]
            record.text += choice["text"]
            record.finish = choice["finish_reason"] or record.finish
        raise _Broken("the stream ended without [DONE]")
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
        raise _Broken(f"{type(error).__name__}: {error}") from None
    finally:
        if writer is not None:
            writer.close()


class Load:
    """See the module. requests_per_second None: a stream asks again at once (saturation)."""

    def __init__(self, addresses: Sequence[str], questions: Sequence[Question], streams: int, seed: int = 0,
                 requests_per_second: float | None = None, resume: bool = False, tls: ssl.SSLContext | None = None,
                 tls_name: str = "") -> None:
        self.addresses, self.questions, self.streams = list(addresses), list(questions), streams
        self.records: list[Record] = []  # of questions whose answer ended, in that order
        self.running: dict[int, Record] = {}  # by stream
        self._seed, self._rate, self._resume = seed, requests_per_second, resume
        self._connection: dict[str, Any] = {"ssl": tls, "server_hostname": tls_name} if tls else {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Load:
        self._stop.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Returns when the running questions are answered."""
        self._stop.set()
        assert self._thread is not None
        self._thread.join()

    def run(self, seconds: float) -> list[Record]:
        """The load's own clock: that many seconds, and the end of what runs then."""
        with self:
            time.sleep(seconds)
        return self.records

    def each_once(self) -> list[Record]:
        """Asks every question once; their answers in order. Fails where one fails."""
        async def all_of_them() -> list[Record]:
            free = asyncio.Semaphore(self.streams)

            async def one(index: int) -> Record:
                async with free:
                    return await self._one(index, 0, None)

            return list(await asyncio.gather(*(one(i) for i in range(len(self.questions)))))

        records = asyncio.run(all_of_them())
        failed = [record.error for record in records if record.error]
        if failed:
            raise AssertionError(f"{len(failed)} of {len(records)} failed: {failed[0]}")
        return records

    async def _all(self) -> None:
        await asyncio.gather(*(self._stream(i) for i in range(self.streams)))

    async def _stream(self, index: int) -> None:
        rng = random.Random(self._seed * 10007 + index)
        period = self.streams / self._rate if self._rate else 0.0
        start = time.monotonic() + period * rng.random()
        while True:
            while not self._stop.is_set() and time.monotonic() < start:
                await asyncio.sleep(min(0.05, max(0.0, start - time.monotonic())))
            if self._stop.is_set():
                return
            start = max(start + period * rng.uniform(0.6, 1.4), time.monotonic() - period)
            self.records.append(await self._one(rng.randrange(len(self.questions)), index, index))
            self.running.pop(index, None)

    async def _one(self, question: int, first_address: int, stream: int | None) -> Record:
        record = Record(question, time.monotonic())
        if stream is not None:
            self.running[stream] = record
        attempts = 2 * len(self.addresses) if self._resume else 1
        for attempt in range(attempts):
            address = self.addresses[(first_address + attempt) % len(self.addresses)]
            if not record.addresses or record.addresses[-1] != address:
                record.addresses.append(address)
            try:
                await _ask(address, self.questions[question], record, **self._connection)
                record.error = ""
                break
            except _Broken as error:
                record.error = f"{address}: {error}"
                if self._resume and len(record.ids) == self.questions[question]["max_tokens"]:
                    record.error, record.finish = "", "length"  # nothing is left to ask for
                    break
        return record


@dataclass
class Figures:
    """Of finished records. Times in ms; a gap is the time between two events with tokens of one stream."""
    requests: int
    failed: int
    differ: int
    resumed: int
    tokens: int
    tokens_per_second: float
    in_flight: float  # streams, mean over time
    gap_p50: float
    gap_p99: float
    gap_max: float
    longest_p99: float  # of each stream's longest gap
    first_p99: float    # asked to first token
    first_max: float
    problems: list[str]


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def gaps_ms(record: Record) -> list[float]:
    return [1000 * (b - a) for a, b in zip(record.token_times, record.token_times[1:])]


def figures(records: Sequence[Record], wanted: Sequence[Record]) -> Figures:
    problems, differ = [r.error for r in records if r.error], []
    for record in records:
        if not record.error and (text := record.difference(wanted[record.question])):
            differ.append(text)
    gaps = [gap for record in records for gap in gaps_ms(record)]
    longest = [max(own) for record in records if (own := gaps_ms(record))]
    first = [1000 * (r.token_times[0] - r.asked_at) for r in records if r.token_times]
    ends = [r.token_times[-1] for r in records if r.token_times]
    seconds = max(ends) - min(r.asked_at for r in records) if ends else 1.0
    tokens = sum(len(r.ids) for r in records)
    return Figures(
        requests=len(records), failed=len(problems), differ=len(differ),
        resumed=sum(len(r.addresses) > 1 for r in records), tokens=tokens, tokens_per_second=tokens / seconds,
        in_flight=sum(r.token_times[-1] - r.asked_at for r in records if r.token_times) / seconds,
        gap_p50=percentile(gaps, 0.5), gap_p99=percentile(gaps, 0.99), gap_max=max(gaps, default=0.0),
        longest_p99=percentile(longest, 0.99), first_p99=percentile(first, 0.99), first_max=max(first, default=0.0),
        problems=(problems + differ)[:8])


def assert_nothing_lost(records: Sequence[Record], wanted: Sequence[Record], at_least: int = 1) -> Figures:
    result = figures(records, wanted)
    assert result.requests >= at_least, result
    assert result.failed == 0 and result.differ == 0, result
    return result
