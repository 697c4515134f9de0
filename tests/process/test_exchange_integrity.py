"""Between routers and workers over TCP: who records, replays, forges or changes bytes gets no link and no wrong token."""
from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

import pool_client
from exchange_relay import (ANSWER, HEADER, HELLO, PROOF, PROVE, REPLAYED, TO_ROUTER, TO_WORKER, WRONG_KEY, Between,
                            read_exactly, verdict)
from pool_harness import Pool
from pool_load import Load, Record, assert_nothing_lost, trained_questions
from sheaf_server import SheafServer, wait_for


@pytest.fixture(scope="module")
def questions(seed: int) -> list[dict[str, Any]]:
    return trained_questions(seed, count=16, tokens=(24, 60))


@pytest.fixture(scope="module")
def wanted(nano: Path, questions: list[dict[str, Any]]) -> list[Record]:
    """By one process without workers."""
    with SheafServer(nano, "--workers", "0", "--threads", "1") as alone:
        return Load([alone.ready["http"]], questions, 4).each_once()


def worker_metric(pool: Pool, name: str, **labels: str) -> float:
    return sum(pool_client.metric(worker.metrics_address, name, **labels) for worker in pool.status().workers)


def worker_log(pool: Pool) -> str:
    return "".join(worker.log() for worker in pool.workers)


def same(pool: Pool, questions: Any, wanted: list[Record]) -> None:
    records = Load([pool.routers[0].http], questions, 4).each_once()
    assert [record.difference(right) for record, right in zip(records, wanted)] == [""] * len(wanted)


@contextlib.contextmanager
def attacker(place: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(place, timeout=20) as connection:
        yield connection


def ended(connection: socket.socket) -> bool:
    """Whether the other side hangs up, and says nothing more."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_what_was_recorded_opens_nothing(nano: Path, questions: Any, wanted: Any) -> None:
    pool = Pool(nano, workers=1, transport="tcp")
    with Between(pool) as between, pool:
        same(pool, questions, wanted)
        recording = between.recordings[0]
        assert len(recording.to_worker) > HELLO + PROOF + 1000
        with attacker(recording.worker) as again:
            again.sendall(recording.to_worker[:20000])
            assert verdict(read_exactly(again, ANSWER)) == REPLAYED
            assert ended(again)
        wait_for(lambda: worker_metric(pool, "sheaf_worker_refused_hellos_total", cause="replay") == 1, 20, "counted")
        wait_for(lambda: "(replay): link " in worker_log(pool), 20, "a line in the worker's log")

        # The first bytes of a link that is being made: who may change them has no key all the same.
        with attacker(recording.worker) as reader:
            hello = bytearray(recording.to_worker[:HELLO])
            hello[48:64] = random.randbytes(16)
            reader.sendall(hello)
            assert verdict(read_exactly(reader, ANSWER)) == PROVE
            reader.sendall(recording.to_worker[HELLO:HELLO + PROOF])
            assert verdict(read_exactly(reader, ANSWER)) == WRONG_KEY
            assert ended(reader)
        wait_for(lambda: worker_metric(pool, "sheaf_worker_refused_hellos_total", cause="key") == 1, 20, "counted")
        assert "(key): link " in worker_log(pool)
        with attacker(recording.worker) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: sheaf\r\n\r\n".ljust(HELLO))
            assert ended(stranger)
        wait_for(lambda: worker_metric(pool, "sheaf_worker_refused_hellos_total", cause="malformed") == 1, 20, "counted")
        same(pool, questions, wanted)
        assert pool.routers[0].metric("sheaf_links_lost_total") == 0


@pytest.mark.parametrize("way", [TO_WORKER, TO_ROUTER])
@pytest.mark.parametrize("kind", ["forged", "repeated"])
def test_a_frame_from_between_ends_the_link(nano: Path, questions: Any, wanted: Any, way: str, kind: str) -> None:
    pool = Pool(nano, workers=2, replicas=2, transport="tcp")
    due = threading.Event()

    def add(passing: str, frame: bytes) -> bytes:
        if passing != way or not due.is_set():
            return frame
        due.clear()
        # A frame with a header as good as any and a tag of nobody's; or the very same once more.
        extra = frame if kind == "repeated" else frame[:HEADER] + random.randbytes(16) + frame[HEADER + 16:]
        return frame + extra if kind == "repeated" else extra + frame

    with Between(pool) as between, pool:
        between.on_frame = add
        load = Load([pool.routers[0].http], questions, 4)
        with load:
            for count in range(1, 4):
                due.set()
                wait_for(lambda: not due.is_set(), 60, "a frame passes")
                router, worker = (0, count) if way == TO_WORKER else (count, 0)
                wait_for(lambda: worker_metric(pool, "sheaf_worker_links_lost_total", cause="forged") >= worker
                         and pool.routers[0].metric("sheaf_links_lost_total", cause="forged") >= router, 60, "counted")
        assert_nothing_lost(load.records, wanted, 4)
        log = worker_log(pool) if way == TO_WORKER else pool.routers[0].log()
        assert "its tag is wrong: changed on the way, or not of this link" in log


def test_flipped_bits_cost_links_and_no_token(nano: Path, questions: Any, wanted: Any, seed: int) -> None:
    """Anywhere in a frame, in both directions, on every link: nothing lost, no byte differs."""
    pool = Pool(nano, workers=3, replicas=2, transport="tcp")
    rng, lock, flipped = random.Random(seed), threading.Lock(), [0]

    def flip(_: str, frame: bytes) -> bytes:
        with lock:
            if rng.random() > 1 / 300:
                return frame
            flipped[0] += 1
            at, bit = rng.randrange(len(frame)), rng.randrange(8)
        changed = bytearray(frame)
        changed[at] ^= 1 << bit
        return bytes(changed)

    with Between(pool) as between, pool:
        between.on_frame = flip
        load = Load([pool.routers[0].http], questions, 6)
        with load:
            wait_for(lambda: flipped[0] >= 30, 240, "30 bits are flipped")
        between.on_frame = lambda way, frame: frame
        assert_nothing_lost(load.records, wanted, 6)
        lost = pool.routers[0].metric("sheaf_links_lost_total", cause="forged")
        lost += worker_metric(pool, "sheaf_worker_links_lost_total", cause="forged")
        # Not every one: a length that grew makes its receiver wait, and what follows on a link that ends is not read.
        assert lost >= 10, (lost, flipped)
        assert pool.routers[0].metric("sheaf_links_lost_total", cause="nonsense") == 0
        pool.wait_whole()
        same(pool, questions, wanted)


def test_sides_that_differ_say_so(nano: Path) -> None:
    """Neither of them is asked anything; both logs name both."""
    pool = Pool(nano, workers=1, transport="tcp", router_flags=["--exchange-integrity", "none"])
    try:
        for process in (*pool.routers, *pool.workers):
            process.start()
        router, worker = pool.routers[0], pool.workers[0]
        wait_for(lambda: "--exchange-integrity: this router has none, the worker has mac" in router.log(), 60, "said")
        wait_for(lambda: "--exchange-integrity: the router has none, this worker has mac" in worker.log(), 20, "said")
        assert worker_metric(pool, "sheaf_worker_refused_hellos_total", cause="integrity") >= 1
        assert router.log().count("--exchange-integrity") == 1
        assert not router.healthy()
    finally:
        pool.__exit__(None, None, None)


def test_without_tags_it_answers_the_same(nano: Path, questions: Any, wanted: Any) -> None:
    flags = ["--exchange-integrity", "none"]
    pool = Pool(nano, workers=2, transport="tcp", router_flags=flags, worker_flags=flags)
    with Between(pool, integrity="none") as between, pool:
        same(pool, questions, wanted)
        frames = between.recordings[0].to_worker[HELLO + PROOF:]
        assert struct.unpack_from("<I", frames, 0)[0] == 0x32464853  # "SHF2"
