"""A router whose clients speak TLS, beside those of a pool, with a certificate that ends when a test wants it to.

    router = TlsRouter(folder, days=3)
    scraped["sheaf-router-tls"] = [router.address]
    with pool, router.of(pool): ...
"""
from __future__ import annotations

import contextlib
import datetime
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Iterator

from figures import ROOT

sys.path.insert(0, str(ROOT / "tests/process"))
from certificates import Authority  # noqa: E402  (found through the path above)
from pool_harness import Pool, free_port  # noqa: E402
from sheaf_server import BINARY, wait_for  # noqa: E402


class TlsRouter:
    def __init__(self, folder: Path, days: float) -> None:
        pair = Authority(folder / "ca").issue("router", until=datetime.timedelta(days=days))
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._flags = ["--port", str(self._port), "--grpc-port", "0", "--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
        self._log = folder / "tls_router.log"

    def _answers(self) -> bool:
        try:
            return bool(ssl.get_server_certificate(("127.0.0.1", self._port), timeout=2))
        except OSError:
            return False

    @contextlib.contextmanager
    def of(self, pool: Pool) -> Iterator[None]:
        with open(self._log, "wb") as log:
            process = subprocess.Popen([BINARY, "router", pool.checkpoint, "--coordinator", pool.cluster, *self._flags], stdout=log, stderr=log)
        try:
            wait_for(self._answers, 30, f"the router with TLS answers; it says: {self._log.read_text(errors='replace')}")
            yield
        finally:
            process.terminate()
            process.wait(30)
