"""A real Prometheus with this repository's rules over given targets, and what its alerts did.

    with WatchedPrometheus({"sheaf-router": ["127.0.0.1:8000"]}, hurry=20) as prometheus:
        prometheus.firing()    # names of the alerts that fire now
        prometheus.fired()     # of those that fired since the start

`hurry` divides every window and waiting time of the rules, so that an hour's story takes three minutes; scrapes come each second.
Thresholds stay. A job whose name ends with -tls is scraped over TLS, whatever the certificate. Needs the program prometheus (Debian package).
"""
from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from figures import MONITORING, ROOT

sys.path.insert(0, str(ROOT / "tests/process"))
from pool_harness import free_port  # noqa: E402  (found through the path above)
from sheaf_server import wait_for  # noqa: E402

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
OVER_TLS = {"scheme": "https", "tls_config": {"insecure_skip_verify": True}}
LEAST_WINDOW_SECONDS = 4  # a rate needs a few scrapes


def hurried(rules: dict[str, Any], hurry: float) -> dict[str, Any]:
    def shorter(match: re.Match[str]) -> str:
        seconds = int(match.group(2)) * SECONDS[match.group(3)] / hurry
        return f"{match.group(1)}{max(LEAST_WINDOW_SECONDS, round(seconds))}s"

    for group in rules["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"(\[|\boffset )(\d+)([smhd])\b", shorter, rule["expr"])
            if "for" in rule:
                number, unit = re.fullmatch(r"(\d+)([smhd])", rule["for"]).groups()
                rule["for"] = f"{max(1, round(int(number) * SECONDS[unit] / hurry))}s"
    return rules


class WatchedPrometheus:
    def __init__(self, targets: dict[str, list[str]], hurry: float = 1, scrape_seconds: float = 1) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sheaf-prometheus-")
        folder = Path(self._folder.name)
        for name in ("rules.yaml", "alerts.yaml"):
            (folder / name).write_text(yaml.safe_dump(hurried(yaml.safe_load((MONITORING / name).read_text()), hurry)))
        (folder / "prometheus.yaml").write_text(yaml.safe_dump({
            "global": {"scrape_interval": f"{round(scrape_seconds * 1000)}ms", "scrape_timeout": f"{round(scrape_seconds * 900)}ms", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml", "alerts.yaml"],
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": addresses}], **(OVER_TLS if job.endswith("-tls") else {})}
                               for job, addresses in targets.items()]}))
        self.address = f"http://127.0.0.1:{free_port()}"
        self._command = [shutil.which("prometheus") or "prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data",
                         f"--web.listen-address={self.address.removeprefix('http://')}", "--log.level=warn"]
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> WatchedPrometheus:
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            wait_for(self._ready, 30, f"prometheus is ready; it says: {self._log.read_text()}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)
        self._folder.cleanup()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=2) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def ask(self, expression: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.address}/api/v1/query?{query}", timeout=10) as response:
            return json.load(response)["data"]["result"]

    def firing(self) -> set[str]:
        return {one["metric"]["alertname"] for one in self.ask('ALERTS{alertstate="firing"}')}

    def fired(self) -> set[str]:
        return {one["metric"]["alertname"] for one in self.ask('max_over_time(ALERTS{alertstate="firing"}[1h])')}
