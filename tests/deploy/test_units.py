"""The systemd units: well-formed, hardened, with flags that exist and time enough to leave."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import policy
from charts import REPOSITORY

UNITS = sorted((REPOSITORY / "deploy/systemd").glob("*.service"))
MAX_EXPOSURE = 2.0  # of 10, by `systemd-analyze security`


def test_there_is_one_for_every_role() -> None:
    assert [path.name for path in UNITS] == ["sheaf-attention@.service", "sheaf-coordinator.service", "sheaf-router.service",
                                          "sheaf-worker@.service"]


def settings(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.skipif(not Path(policy.binary()).exists(), reason=f"no program at {policy.binary()}")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_the_command_exists(path: Path) -> None:
    program, command, *arguments = settings(path)["ExecStart"].split()
    assert program == "/usr/bin/sheaf" and command == re.split(r"[-@.]", path.name)[1]
    flags = [argument for argument in arguments if argument.startswith("--")]
    assert "--config" in flags and "--cluster-token-file" in flags
    assert not set(flags) - policy.flags_of(command)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_there_is_time_to_leave(path: Path) -> None:
    own = settings(path)
    drain = re.search(r"--shutdown-timeout-ms (\d+)", own["ExecStart"])
    needs = int(drain[1]) / 1000 if drain else policy.WORKER_LEAVES_SECONDS
    assert int(own["TimeoutStopSec"].removesuffix("s")) >= needs + policy.SHUTDOWN_MARGIN_SECONDS
    assert own["Restart"] == "always"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_takes_them(tmp_path: Path) -> None:
    copies = []
    for path in UNITS:
        copy = tmp_path / path.name.replace("@.", "@0.")
        copy.write_text(path.read_text(encoding="utf-8").replace("/usr/bin/sheaf", shutil.which("true") or "/bin/true"))
        copies.append(str(copy))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *copies], capture_output=True, text=True, check=False,
                          env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"})
    own = [line for line in done.stderr.splitlines() if "sheaf" in line]
    assert done.returncode == 0 and not own, done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_they_are_hardened(path: Path) -> None:
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", str(path)], capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= MAX_EXPOSURE, done.stdout


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_progress_is_watched(path: Path) -> None:
    own = settings(path)
    assert own["Type"] == "notify"
    assert int(own["WatchdogSec"].removesuffix("s")) >= 60 and int(own["TimeoutStartSec"].removesuffix("s")) >= 60
    assert "AF_UNIX" in own["RestrictAddressFamilies"].split(), "the notify socket cannot be reached"
