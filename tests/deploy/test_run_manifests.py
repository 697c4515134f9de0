"""The committed manifests run, in namespaces, and requests go on while pods are killed, cut off and rolled."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import policy
from charts import EXAMPLE, EXAMPLE_TLS


# Two minutes; run_manifests.py --load-seconds goes on for longer.
@pytest.mark.skipif(not Path(policy.binary()).exists(), reason=f"no program at {policy.binary()}")
@pytest.mark.parametrize("manifests, flags", [
    (EXAMPLE_TLS, ["--events", "kill-worker", "node", "roll-worker", "roll-coordinator", "roll-router"]),
    (EXAMPLE, ["--events", "kill-worker", "kill-coordinator"]),
], ids=lambda value: value.parent.name if isinstance(value, Path) else "")
def test_requests_go_on(manifests: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("run_manifests.py")), str(manifests), *flags],
                          capture_output=True, text=True, timeout=400, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    with capsys.disabled():
        print("\n" + done.stdout)
    assert done.returncode == 0, done.stderr
