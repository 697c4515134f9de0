"""The committed manifests run, in namespaces, and requests go on while pods are killed, cut off and rolled."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import policy
from charts import EXAMPLE


@pytest.mark.skipif(not Path(policy.binary()).exists(), reason=f"no program at {policy.binary()}")
def test_requests_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("run_manifests.py")), str(EXAMPLE)], capture_output=True,
                          text=True, timeout=800, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    with capsys.disabled():
        print("\n" + done.stdout)
    assert done.returncode == 0, done.stderr
