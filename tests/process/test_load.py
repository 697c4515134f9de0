"""Many streams with random cancels over both faces: no error, no leaked block, bounded memory.

SHEAF_LOAD_SECONDS (default 6) and SHEAF_LOAD_STREAMS (default 16) set its size.
"""
from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from pathlib import Path

import grpc
import pytest

from sheaf_grpc import Client, tokens_request
from sheaf_server import SheafServer, wait_for

SECONDS = float(os.environ.get("SHEAF_LOAD_SECONDS", "6"))
STREAMS = int(os.environ.get("SHEAF_LOAD_STREAMS", "16"))


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_streams_with_random_cancels(tiny: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # AddressSanitizer keeps 256 MB of freed memory by default: it would hide what is measured here.
    monkeypatch.setenv("ASAN_OPTIONS", ":".join(filter(None, (os.environ.get("ASAN_OPTIONS"), "quarantine_size_mb=8"))))
    errors: list[str] = []
    done = {"finished": 0, "cancelled": 0}
    with SheafServer(tiny, "--workers", "2", "--max-num-seqs", "48", "--max-num-queued-reqs", "256",
                     # The prefix cache keeps what was computed until its memory is full: soon, here.
                     "--kv-cache-memory-bytes", "16MiB") as server:
        client = Client(server.grpc)
        host, port = server.ready["http"].rsplit(":", 1)
        stop_at = time.monotonic() + SECONDS

        def over_grpc(rng: random.Random) -> None:
            call = client.generate(tokens_request([rng.randrange(500) for _ in range(rng.randint(1, 60))],
                                                  rng.randint(1, 80), temperature=1.0, seed=rng.randrange(1000)))
            leave_after = rng.randint(0, 60) if rng.random() < 0.4 else None
            try:
                for count, _ in enumerate(call):
                    if count == leave_after:
                        call.cancel()
                        break
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.CANCELLED:
                    raise
            done["finished" if leave_after is None else "cancelled"] += 1

        def over_http(rng: random.Random) -> None:
            body = {"prompt": [rng.randrange(500) for _ in range(rng.randint(1, 60))], "stream": True,
                    "max_tokens": rng.randint(1, 80), "ignore_eos": True, "seed": rng.randrange(1000)}
            connection = http.client.HTTPConnection(host, int(port), timeout=60)
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            leave_after = rng.randint(0, 60) if rng.random() < 0.4 else None
            last = b""
            for count, line in enumerate(response):
                last = line.strip() or last
                if count == leave_after:
                    break
            else:
                assert last == b"data: [DONE]", last
            connection.close()
            done["finished" if leave_after is None else "cancelled"] += 1

        def stream(index: int) -> None:
            rng = random.Random(seed * 1000 + index)
            while time.monotonic() < stop_at and not errors:
                try:
                    (over_grpc if index % 2 else over_http)(rng)
                except Exception as error:  # noqa: BLE001  (whatever it is, it is the finding)
                    errors.append(f"stream {index}: {error!r}")

        threads = [threading.Thread(target=stream, args=(i,)) for i in range(STREAMS)]
        for thread in threads:
            thread.start()
        time.sleep(SECONDS / 3)  # the load's own clock: memory is compared between two moments of it
        pids = [server.process.pid, *server.worker_pids()]
        before = [resident_bytes(pid) for pid in pids]
        for thread in threads:
            thread.join()
        after = [resident_bytes(pid) for pid in pids]
        client.close()
        assert not errors, errors
        assert done["finished"] and done["cancelled"], done
        wait_for(lambda: server.metric("sheaf_kv_blocks_used") == 0 and
                 server.metric("sheaf_requests_running") == 0, 15, "every block is free")
        print(done, "resident MB", [b >> 20 for b in before], "->", [a >> 20 for a in after])
        for first, last in zip(before, after):
            assert last <= first * 1.1 + (24 << 20), (before, after)
