"""A real kube-apiserver takes every manifest, strictly, in a namespace with restricted pod security, and refuses wrong ones."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

import policy
from api_server import ApiServer
from charts import EXAMPLE, EXAMPLE_TLS, KUBERNETES, TOOLS, VALUES, render

STRICT = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--namespace", "sheaf", "-f", "-")


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    if not (TOOLS / "stamp").exists() and "SHEAF_BUILD_KUBE_TOOLS" not in os.environ:
        pytest.skip("no kube-apiserver: tests/deploy/build_kube_tools.sh build/kube-tools builds one, as does SHEAF_BUILD_KUBE_TOOLS=1")
    done = subprocess.run([str(Path(__file__).with_name("build_kube_tools.sh")), str(TOOLS)], capture_output=True, text=True,
                          timeout=3000, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    with ApiServer(TOOLS) as running:
        made = running.kubectl("apply", "--server-side", "-f", str(KUBERNETES / "rendered/example/namespace.yaml"))
        assert made.returncode == 0, made.stderr
        made = running.kubectl("apply", "--server-side", "-f", str(TOOLS / "crds"))
        assert made.returncode == 0, made.stderr
        made = running.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        assert made.returncode == 0, made.stderr
        yield running


@pytest.mark.parametrize("folder", [EXAMPLE.parent, EXAMPLE_TLS.parent], ids=lambda path: path.name)
def test_the_committed_folders_are_taken(server: ApiServer, folder: Path) -> None:
    done = server.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-k", str(folder))
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    print(done.stdout)


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_manifest_is_taken(server: ApiServer, values: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = render(values)
    done = server.kubectl(*STRICT, stdin=text)
    with capsys.disabled():
        print(f"\n{values.stem}\n{done.stdout}{done.stderr}", end="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("serverside-applied") == len(policy.load(text))
    # A volume of the host is the one thing that restricted pod security warns of.
    warnings = [line for line in done.stderr.splitlines() if line.startswith("Warning")]
    hostpath = yaml.safe_load(values.read_text(encoding="utf-8")).get("checkpoint", {}).get("source") == "hostPath"
    assert all("hostPath" in line for line in warnings) and bool(warnings) == hostpath, warnings


@pytest.mark.parametrize("values", [path for path in VALUES if path.stem != "autoscaled"], ids=lambda path: path.stem)
def test_pods_pass_restricted_security(server: ApiServer, values: Path) -> None:
    """Of workloads the server only warns; a Pod it refuses."""
    for number, pod in enumerate(policy.pods_of(policy.load(render(values)))):
        spec = {**pod.spec, "serviceAccountName": "default"}
        volumes = {volume["name"] for volume in spec["volumes"]}
        mounts = {mount["name"] for _, container in pod.containers() for mount in container["volumeMounts"]}
        spec["volumes"] = spec["volumes"] + [{"name": name, "emptyDir": {}} for name in sorted(mounts - volumes)]
        one = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}", "labels": pod.labels}, "spec": spec}
        done = server.kubectl(*STRICT, stdin=yaml.safe_dump(one))
        assert done.returncode == 0 and "Warning" not in done.stderr, f"{pod.where}: {done.stderr}"


def change(objects: list[dict[str, Any]], kind: str, *path: Any, value: Any) -> str:
    [thing] = [o for o in objects if o["kind"] == kind][:1]
    at: Any = thing
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return yaml.safe_dump(thing)


@pytest.mark.parametrize("kind, path, value, says", [
    ("StatefulSet", ("spec", "replica"), 3, "replica"),
    ("StatefulSet", ("spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"), 0, "containerPort"),
    ("PodDisruptionBudget", ("spec", "maxUnavailable"), "some", "maxUnavailable"),
    ("NetworkPolicy", ("spec", "policyTypes"), ["Inwards"], "policyTypes"),
    ("Service", ("spec", "ports", 0, "port"), 70000, "port"),
])
def test_wrong_manifests_are_refused(server: ApiServer, kind: str, path: tuple[Any, ...], value: Any, says: str) -> None:
    objects = policy.load(render(KUBERNETES / "values/example.yaml"))
    done = server.kubectl(*STRICT, stdin=change(objects, kind, *path, value=value))
    assert done.returncode != 0 and says in done.stderr, done.stderr


@pytest.mark.parametrize("kind, path, value", [
    ("InferencePool", ("spec", "targetPorts"), []), ("ScaledObject", ("spec", "maxReplicas"), 3),
    ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "interval"), "often"), ("HTTPRoute", ("spec", "rules", 0, "timeouts", "request"), "never"),
    ("BackendTrafficPolicy", ("spec", "loadBalancer", "type"), "Luck"), ("Certificate", ("spec", "privateKey", "algorithm"), "ROT13"),
])
def test_wrong_forms_of_other_kinds_are_refused(server: ApiServer, kind: str, path: tuple[Any, ...], value: Any) -> None:
    objects = policy.load(render(KUBERNETES / "values/every_option.yaml"))
    done = server.kubectl(*STRICT, stdin=change(objects, kind, *path, value=value))
    assert done.returncode != 0, done.stdout
