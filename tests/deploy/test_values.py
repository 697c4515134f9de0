"""Which values the chart takes, and whether the sizes for published checkpoints are enough for them."""
from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import policy
from charts import CHART, KUBERNETES, REPOSITORY, VALUES, merged

sys.path.insert(0, str(REPOSITORY / "tests/oracle"))
sys.path.insert(0, str(REPOSITORY / "tests/process"))

import make_header_checkpoint  # noqa: E402  (found through the path above)
from sheaf_server import run_to_end  # noqa: E402

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
GIB = 1 << 30


def faults(values: dict[str, Any]) -> list[str]:
    return [f"{list(error.absolute_path)}: {error.message}" for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", [CHART / "values.yaml", *VALUES], ids=lambda path: path.stem)
def test_the_values_here_are_taken(path: Path) -> None:
    assert not faults(merged(path))


def test_every_value_is_explained_and_known() -> None:
    """values.yaml and the schema name the same values."""
    def names(node: Any, prefix: str = "") -> set[str]:
        if not isinstance(node, dict) or not node:
            return {prefix}
        return {name for key, value in node.items() for name in names(value, f"{prefix}.{key}" if prefix else key)}

    def declared(node: Any, prefix: str = "") -> set[str]:
        if not node.get("properties"):
            return {prefix}
        return {name for key, value in node["properties"].items() for name in declared(value, f"{prefix}.{key}" if prefix else key)}

    values = {re.sub(r"\.(resources|placement|labels|annotations)\..*", r".\1", name)
              for name in names(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")))}
    assert values == declared(SCHEMA) - {"global"}


@pytest.mark.parametrize("path, value", [
    ("image.tag", "latest"), ("image.digest", "sha256:12"), ("checkpoint.source", "s3"), ("checkpoint.name", "../x"),
    ("checkpoint.source", "hostPath"), ("checkpoint.source", "copy"), ("workers.count", 0), ("workers.kind", "DaemonSet"),
    ("workers.resources.cpu", "1500m"), ("workers.graceSeconds", 5), ("workers.extraArgs", ["rm -rf"]),
    ("router.replicas", "two"), ("router.httpPort", 70000), ("router.kvCacheDtype", "int4"), ("router.kvCacheMemory", "1 GB"),
    ("router.kvOffload", "64GB/s"), ("router.tensorParallelSize", 0), ("router.ranks", {"count": 2}), ("router.surprise", 1), ("surprise", 1), ("coordinator.expertReplicas", 0.5),
    ("log.level", "loud"), ("networkPolicy.monitoring", []), ("sharedMemory", "lots"), ("tls.certManager.enabled", True),
    ("clusterToken.existingSecret", ""), ("exchangeIntegrity", "crc"),
])
def test_a_wrong_value_is_refused(path: str, value: Any) -> None:
    values = merged(CHART / "values.yaml")
    at = values
    *folders, last = path.split(".")
    for folder in folders:
        at = at[folder]
    at[last] = value
    assert faults(values), f"{path}: {value} is taken"


def quantity(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([KMGT]i)B?", text).groups()  # type: ignore[union-attr]
    return int(number) << {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}[unit]


@pytest.mark.skipif(not Path(policy.binary()).exists(), reason=f"no program at {policy.binary()}")
@pytest.mark.parametrize("letter, name", [
    ("a", "glm-4.6-reap-268b-gptq"), ("b", "glm-4.6-reap-218b-autoround"), ("c", "glm-5.1-reap-555b-gptq"), ("d", "glm-4.6-awq")])
def test_a_published_checkpoint_fits(letter: str, name: str, tmp_path: Path) -> None:
    values = merged(KUBERNETES / f"values/{name}.yaml")
    make_header_checkpoint.make_header_checkpoint(tmp_path / "it", make_header_checkpoint.PUBLISHED[letter])
    done = run_to_end("inspect", str(tmp_path / "it"), "--workers", str(values["workers"]["count"]), "--json", timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    router, *workers = [process["bytes"] for process in report["processes"]]
    assert len(workers) == values["workers"]["count"]
    held = max(workers) * values["coordinator"]["expertReplicas"]
    lines = (KUBERNETES / f"values/{name}.yaml").read_text(encoding="utf-8")
    assert f"router {router / GIB:.1f} GiB, each worker {max(workers) / GIB:.1f} GiB" in lines
    # Placement is never exactly even, and experts come before others go; then what a process has beside weights.
    allowed = quantity(values["workers"]["memory"])
    assert held * 1.08 <= allowed <= quantity(values["workers"]["resources"]["memory"]) - 4 * GIB
    limit = quantity(values["router"]["resources"]["memory"])
    assert router + quantity(values["router"]["kvCacheMemory"]) + limit // 16 + 4 * GIB <= limit
    assert report["bytes"] <= quantity(values["checkpoint"]["copy"]["size"])
