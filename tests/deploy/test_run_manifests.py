"""The committed manifests run, in namespaces, and requests go on while pods are killed, cut off and rolled."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import policy
from charts import EXAMPLE, EXAMPLE_TLS, helm, render


@pytest.mark.skipif(not Path(policy.binary()).exists(), reason=f"no program at {policy.binary()}")
@pytest.mark.skipif(helm() is None, reason="no helm: tests/deploy/build_kube_tools.sh build/kube-tools makes one")
def test_requests_go_on_without_an_attention_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two routers with a second rank each: one is killed, twice; then the routers are replaced, each with its ranks."""
    values = EXAMPLE.parents[2] / "values/example.yaml"
    manifests = tmp_path / "ranks.yaml"
    manifests.write_text(render(values, "router.tensorParallelSize=2", "workers.count=2",
                                "router.preStopSeconds=3", "router.drainSeconds=20"))
    run(manifests, ["--events", "kill-rank", "kill-rank", "roll-router"], capsys)


# Two minutes; run_manifests.py --load-seconds goes on for longer.
@pytest.mark.skipif(not Path(policy.binary()).exists(), reason=f"no program at {policy.binary()}")
@pytest.mark.parametrize("manifests, flags", [
    (EXAMPLE_TLS, ["--events", "kill-worker", "node", "roll-worker", "roll-coordinator", "roll-router"]),
    (EXAMPLE, ["--events", "kill-worker", "kill-coordinator"]),
], ids=lambda value: value.parent.name if isinstance(value, Path) else "")
def test_requests_go_on(manifests: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(manifests, flags, capsys)


def run(manifests: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("run_manifests.py")), str(manifests), *flags],
                          capture_output=True, text=True, timeout=400, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    with capsys.disabled():
        print("\n" + done.stdout)
    assert done.returncode == 0, done.stderr
