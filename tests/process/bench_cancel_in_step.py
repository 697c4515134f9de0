"""How soon a client that leaves in the middle of a long prompt's step is forgotten, and its blocks are free.

    bench_cancel_in_step.py [--checkpoint DIR] [--workers N] [--tokens N] [--rounds N]

Prints, for each round, the seconds of a whole prefill, and those from the client's leaving after a third of it until the
server has counted the cancel and until no KV block is in use. One step holds the prompt. What is left out: the time
until the server sees that the connection is closed is in all of them. Real dimensions:
tests/oracle/make_large_checkpoint.py.
"""
from __future__ import annotations

import argparse
import http.client
import json
import time

from sheaf_server import ROOT, SheafServer, wait_for


def send(server: SheafServer, **fields: object) -> http.client.HTTPConnection:
    host, port = server.ready["http"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=600)
    connection.request("POST", "/v1/completions", json.dumps(fields), {"Content-Type": "application/json"})
    return connection


def run(checkpoint: str, workers: int, tokens: int, rounds: int) -> None:
    flags = ["--workers", str(workers), "--max-num-batched-tokens", str(tokens), "--no-enable-prefix-caching"]
    prompt = [7 + 13 * i % 1000 for i in range(tokens)]
    with SheafServer(checkpoint, *flags) as server:
        server.patience_seconds = 600.0
        for _ in range(rounds):
            begin = time.monotonic()
            server.completion(prompt=prompt, max_tokens=1)
            whole = time.monotonic() - begin
            cancelled = server.metric("sheaf_requests_total", outcome="cancelled")
            connection = send(server, prompt=prompt, max_tokens=8)
            time.sleep(whole / 3)
            left = time.monotonic()
            connection.close()
            wait_for(lambda: server.metric("sheaf_requests_total", outcome="cancelled") > cancelled, 300, "the cancel")
            told = time.monotonic() - left
            wait_for(lambda: server.metric("sheaf_kv_blocks_used") == 0, 300, "its blocks")
            print(f"prefill of {tokens} tokens {whole:.3f} s; left after a third: known after {told:.3f} s, "
                  f"blocks free after {time.monotonic() - left:.3f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=str(ROOT / "checkpoints/sheaf-nano-120"))
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    run(arguments.checkpoint, arguments.workers, arguments.tokens, arguments.rounds)


if __name__ == "__main__":
    main()
