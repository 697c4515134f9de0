"""GET /sheaf/v1/pool of a router whose coordinator is another process, with and without it."""
from __future__ import annotations

import base64
import json
import signal
import urllib.request
from typing import Any

from pool_harness import Pool
from sheaf_server import ROOT, wait_for


def get(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
        return json.load(response)


def test_a_coordinator_elsewhere_is_asked_and_may_be_gone() -> None:
    with Pool(ROOT / "checkpoints/sheaf-nano-120", workers=2, replicas=2, coordinator_outside=True, token="secret") as pool:
        address = pool.routers[0].http

        def when(condition: Any, what: str) -> Any:
            def look() -> Any:
                answer = get(address, "/sheaf/v1/pool")
                return answer if condition(answer["pool"]) else None
            return wait_for(look, 20, what)

        answer = when(lambda p: p["coordinator"] and all(w["member"] and w["member"]["state"] == "ready" for w in p["workers"]), "what the coordinator says")
        assert answer["state"] == "ready" and answer["pool"]["experts_in"] == "workers"
        assert [worker["id"] for worker in answer["pool"]["workers"]] == [0, 1]
        assert [worker["member"]["pid"] for worker in answer["pool"]["workers"]] == [worker.pid for worker in pool.workers]
        assert answer["pool"]["coordinator"]["replicas"] == 2 and answer["pool"]["coordinator"]["routers"] == 1

        experts = get(address, "/sheaf/v1/pool/experts")
        assert (experts["first_layer"], experts["layers"], experts["experts"]) == (1, 3, 120)
        for worker in experts["workers"]:
            assert sum(byte.bit_count() for byte in base64.b64decode(worker["held"])) == 360

        assert pool.coordinator is not None
        pool.coordinator.restarts = False
        pool.coordinator.signal(signal.SIGKILL)
        gone = when(lambda p: p["coordinator"] is None, "that the coordinator is silent")
        assert gone["state"] == "ready", "nothing is taken away"
        assert [worker["member"] for worker in gone["pool"]["workers"]] == [None, None]
        assert gone["pool"]["live_links"] == 2 and all(worker["link"]["live"] for worker in gone["pool"]["workers"])
        pool.coordinator.restarts = True
        pool.coordinator.start()
        when(lambda p: p["coordinator"] and p["workers"][0]["member"], "the coordinator again")
