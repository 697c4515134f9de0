"""The chart and what is rendered of it; helm, where there is one."""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
KUBERNETES = REPOSITORY / "deploy/kubernetes"
CHART = KUBERNETES / "chart"
VALUES = sorted((KUBERNETES / "values").glob("*.yaml"))
EXAMPLE = KUBERNETES / "rendered/example/sheaf.yaml"
EXAMPLE_TLS = KUBERNETES / "rendered/example_tls/sheaf.yaml"
TOOLS = Path(os.environ.get("SHEAF_KUBE_TOOLS", REPOSITORY / "build/kube-tools"))
KUBERNETES_VERSION = "1.36.3"


def helm() -> str | None:
    """The one that build_kube_tools.sh built, or the one in PATH."""
    built = TOOLS / "bin/helm"
    return str(built) if built.exists() else shutil.which("helm")


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = helm()
    assert program is not None
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)


def render(values: Path, *settings: str) -> str:
    done = run_helm("template", "sheaf", str(CHART), "--namespace", "sheaf", "--kube-version", KUBERNETES_VERSION,
                    "--values", str(values), *(word for setting in settings for word in ("--set", setting)))
    assert done.returncode == 0, f"{values.name}: {done.stderr}"
    return done.stdout


def merged(values: Path) -> dict[str, Any]:
    """The chart's values with a file's laid over them, as helm does."""
    def over(base: Any, top: Any) -> Any:
        if isinstance(base, dict) and isinstance(top, dict):
            return {key: over(base.get(key), top[key]) if key in top else base[key] for key in {**base, **top}}
        return top

    return over(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")),
                yaml.safe_load(values.read_text(encoding="utf-8")))
