#!/usr/bin/python3
"""Times innocent requests while hostile clients are at work, and the router's memory before, during and after.

    SHEAF_BINARY=... bench_hostile.py --checkpoint DIR [--attacks chats,allowed,flood,idle] [--seconds 8] [--flag=...]

Attacks, one after another:
  chats    five chats of 60 MB over gRPC and five of 15 MB over HTTP at once, again and again
  allowed  bodies of 16 MiB of allowed_token_ids with n = 128, four at a time
  flood    1,000 requests at once, until all are answered
  idle     5,000 connections that ask for a stream and read nothing, or send half a request
Innocents: one short completion after another, with a fairness key of their own, from a process of its own. Each row has
their median and 95th percentile against a quiet time of the same length just before, and what became of the hostile
requests. A row fails where the innocent median is more than twice the quiet one, an innocent failed, or memory has not
come back within 10 % (and 16 MB) of what it was, ten seconds after the attack.

Left out: the clients' own work is on the same cores as the server's; the hostile ones run with the lowest priority.
"""
from __future__ import annotations

import argparse
import collections
import http.client
import multiprocessing
import os
import socket
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sheaf_server import SheafServer  # noqa: E402

INNOCENT = b'{"prompt":"The sum of three and four is","max_tokens":8,"temperature":0,"ignore_eos":true}'


def rss_mb(pid: int, field: str = "VmRSS") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise ValueError(field)


def innocents(host: str, port: int, out: Any, stop: Any) -> None:
    """Sends (start, seconds, good) of each request until `stop`."""
    while not stop.is_set():
        start = time.monotonic()
        good = False
        try:
            connection = http.client.HTTPConnection(host, port, timeout=60)
            connection.request("POST", "/v1/completions", INNOCENT,
                               {"Content-Type": "application/json", "X-Fairness-Key": "innocent"})
            good = connection.getresponse().status == 200
            connection.close()
        except OSError:
            pass
        out.put((start, time.monotonic() - start, good))
        stop.wait(0.05)


def post_bytes(path: str, body: bytes, key: str) -> bytes:
    return (f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nX-Fairness-Key: {key}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def send_raw(address: tuple[str, int], data: bytes, outcomes: collections.Counter) -> None:
    try:
        with socket.create_connection(address, timeout=60) as client:
            try:
                client.sendall(data)
            except OSError:
                pass  # refused before it was read: the answer may be there all the same
            outcomes[client.recv(64)[9:12].decode() or "closed"] += 1
    except OSError as error:
        outcomes[type(error).__name__] += 1


def repeat(attack: Callable[[], None], threads: int, seconds: float) -> None:
    end = time.monotonic() + seconds

    def run() -> None:
        while time.monotonic() < end:
            attack()

    crew = [threading.Thread(target=run) for _ in range(threads)]
    for each in crew:
        each.start()
    for each in crew:
        each.join()


def attack_chats(server: SheafServer, seconds: float) -> collections.Counter:
    import sheaf_grpc
    outcomes: collections.Counter = collections.Counter()
    text = "Once upon a time, in 1234 lands; " * (60_000_000 // 33)
    message = sheaf_grpc.pb.GenerateRequest()
    message.chat.messages.add(role="user", content=text)
    big = message.SerializeToString()
    import grpc
    channel = grpc.insecure_channel(server.grpc, options=[("grpc.max_send_message_length", -1)])
    generate = channel.unary_stream("/sheaf.v1.Inference/Generate", request_serializer=lambda b: b,
                                    response_deserializer=lambda b: b)

    def over_grpc() -> None:
        try:
            for _ in generate(big, timeout=60):
                pass
            outcomes["grpc OK"] += 1
        except grpc.RpcError as error:
            outcomes["grpc " + error.code().name] += 1

    body = ('{"messages":[{"role":"user","content":"' + text[:15_000_000] + '"}]}').encode()
    data = post_bytes("/v1/chat/completions", body, "hostile")
    crew = [threading.Thread(target=repeat, args=(over_grpc, 5, seconds)),
            threading.Thread(target=repeat, args=(lambda: send_raw(address_of(server), data, outcomes), 5, seconds))]
    for each in crew:
        each.start()
    for each in crew:
        each.join()
    channel.close()
    return outcomes


def attack_allowed(server: SheafServer, seconds: float) -> collections.Counter:
    outcomes: collections.Counter = collections.Counter()
    body = b'{"prompt":"x","n":128,"max_tokens":1,"allowed_token_ids":[1' + b",1" * ((16 << 20) // 2 - 100) + b"]}"
    data = post_bytes("/v1/completions", body, "hostile")
    repeat(lambda: send_raw(address_of(server), data, outcomes), 4, seconds)
    return outcomes


def attack_flood(server: SheafServer, _seconds: float) -> collections.Counter:
    outcomes: collections.Counter = collections.Counter()
    data = post_bytes("/v1/completions", b'{"prompt":"Once upon","max_tokens":4,"ignore_eos":true}', "hostile")
    crew = [threading.Thread(target=send_raw, args=(address_of(server), data, outcomes)) for _ in range(1000)]
    for each in crew:
        each.start()
    for each in crew:
        each.join()
    return outcomes


def attack_idle(server: SheafServer, seconds: float) -> collections.Counter:
    outcomes: collections.Counter = collections.Counter()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{"
    stream = post_bytes("/v1/completions", b'{"prompt":"x","max_tokens":2,"stream":true}', "hostile")
    clients = []
    for i in range(5000):
        try:
            client = socket.create_connection(address_of(server), timeout=5)
            client.sendall(stream if i % 100 == 0 else head)
            clients.append(client)
            outcomes["open"] += 1
        except OSError as error:
            outcomes[type(error).__name__] += 1
    time.sleep(seconds)
    for client in clients:
        client.close()
    return outcomes


ATTACKS = {"chats": attack_chats, "allowed": attack_allowed, "flood": attack_flood, "idle": attack_idle}


def address_of(server: SheafServer) -> tuple[str, int]:
    host, port = server.ready["http"].rsplit(":", 1)
    return host, int(port)


def run_elsewhere(attack: Callable[[SheafServer, float], collections.Counter], server: SheafServer,
                  seconds: float) -> collections.Counter:
    """In a process that takes only what the server and the innocents leave of the cores: other machines attack."""
    out: Any = multiprocessing.Queue()

    def work() -> None:
        os.nice(19)
        out.put(attack(server, seconds))

    process = multiprocessing.Process(target=work)
    process.start()
    outcomes = out.get()
    process.join()
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--flag", action="append", default=[], help="further flag of `sheaf serve`, repeatable")
    arguments = parser.parse_args()
    failed = False
    with SheafServer(arguments.checkpoint, "--workers", "0", *arguments.flag) as server:
        print(f"{os.environ.get('SHEAF_BINARY', 'sheaf')}: {arguments.checkpoint}")
        for name in arguments.attacks.split(","):
            out, stop = multiprocessing.Queue(), multiprocessing.Event()
            process = multiprocessing.Process(target=innocents, args=(*address_of(server), out, stop))
            process.start()
            time.sleep(arguments.seconds)
            before = rss_mb(server.pid)
            Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # VmHWM begins anew
            begin = time.monotonic()
            outcomes = run_elsewhere(ATTACKS[name], server, arguments.seconds)
            end = time.monotonic()
            peak = rss_mb(server.pid, "VmHWM")
            time.sleep(2)
            stop.set()
            samples = []
            while process.is_alive() or not out.empty():
                try:
                    samples.append(out.get(timeout=0.5))
                except Exception:
                    pass
            process.join()
            after = rss_mb(server.pid)
            deadline = time.monotonic() + 10
            while after > before * 1.1 + 16 and time.monotonic() < deadline:
                time.sleep(0.5)
                after = rss_mb(server.pid)
            quiet = [s for start, s, _ in samples if start + s < begin]
            under = [s for start, s, _ in samples if start + s >= begin and start <= end]
            bad = sum(not good for _, _, good in samples)

            def p95(values: list[float]) -> float:
                return sorted(values)[int(0.95 * (len(values) - 1))]

            ratio = statistics.median(under) / statistics.median(quiet)
            ok = ratio <= 2 and bad == 0 and after <= before * 1.1 + 16
            failed |= not ok
            print(f"{name:8s} innocents {len(quiet)}+{len(under)}, failed {bad}: median {statistics.median(quiet):.3f} -> "
                  f"{statistics.median(under):.3f} s ({ratio:.2f}x), p95 {p95(quiet):.3f} -> {p95(under):.3f} s, "
                  f"worst {max(under):.3f} s | RSS {before:.0f} -> peak {peak:.0f} -> {after:.0f} MB | "
                  f"hostile in {end - begin:.1f} s: {dict(outcomes)} | {'ok' if ok else 'FAILS'}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
