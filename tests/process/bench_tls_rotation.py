"""Certificates that change under load: what fails, and how long a new one takes to be shown.

    bench_tls_rotation.py [--rotations 1000] [--seconds-between 0.2] [--checkpoint FOLDER]

`sheaf serve` with two workers, clients and cluster over TLS. Clients ask over HTTP and gRPC, each request on a connection
of its own, while certificate and key of both faces are written again and again. Prints one line of figures as JSON.
"""
from __future__ import annotations

import argparse
import json
import ssl
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from certificates import Authority
from sheaf_server import wait_for
from tls_harness import TlsServer, over_grpc, over_https, presented

PROMPT, TOKENS = [4, 5, 6], 12


@dataclass
class Result:
    rotations: int = 0
    seconds: float = 0.0
    answers: dict[str, int] = field(default_factory=lambda: {"http": 0, "grpc": 0})
    failures: list[str] = field(default_factory=list)
    shown_after: list[float] = field(default_factory=list)  # seconds, of those that were looked for
    taken_up: dict[str, int] = field(default_factory=dict)  # by listener, as the log tells


def rotate_under_load(server: TlsServer, rotations: int, seconds_between: float, look_every: int) -> Result:
    """Each LOOK_EVERY-th certificate is waited for on both ports: that they are taken up, not only that nothing breaks."""
    result = Result(rotations)
    wanted = over_grpc(server, PROMPT, TOKENS)
    stop = threading.Event()

    def load(face: str) -> None:
        while not stop.is_set():
            try:
                if face == "grpc":
                    assert over_grpc(server, PROMPT, TOKENS) == wanted
                else:
                    assert over_https(server, PROMPT, TOKENS) == wanted[1]
                result.answers[face] += 1
            except Exception as error:  # whatever it is, it is told
                result.failures.append(f"{face}: {error!r}")

    threads = [threading.Thread(target=load, args=(face,)) for face in result.answers]
    for thread in threads:
        thread.start()
    begin = time.monotonic()
    try:
        for number in range(1, rotations + 1):
            server.rotate()
            if number % look_every:
                stop.wait(seconds_between)
                continue
            new = ssl.PEM_cert_to_DER_cert(server.pair.cert.read_text())
            written = time.monotonic()
            for port in (server.ready["http"], server.grpc):
                wait_for(lambda: presented(port) == new, 20, "the new certificate")  # pylint: disable=W0640
            result.shown_after.append(time.monotonic() - written)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    result.seconds = time.monotonic() - begin
    for listener in ("clients", "cluster"):
        result.taken_up[listener] = server.log().count(f"TLS: {listener}: another certificate")
    return result


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rotations", type=int, default=1000)
    options.add_argument("--seconds-between", type=float, default=0.2)
    options.add_argument("--checkpoint", type=Path,
                         default=Path(__file__).resolve().parents[2] / "checkpoints/sheaf-nano-120")
    told = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="sheaf-tls-") as folder:
        with TlsServer(told.checkpoint, Authority(Path(folder)), "--workers", "2", "--no-access-log") as server:
            result = rotate_under_load(server, told.rotations, told.seconds_between, look_every=20)
    shown = sorted(result.shown_after)
    print(json.dumps({"rotations": result.rotations, "seconds": round(result.seconds, 1), **result.answers,
                      "failed": len(result.failures), "first_failures": result.failures[:3],
                      "shown_after_s_median": round(shown[len(shown) // 2], 2) if shown else None,
                      "shown_after_s_max": round(shown[-1], 2) if shown else None, "taken_up": result.taken_up}))
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
