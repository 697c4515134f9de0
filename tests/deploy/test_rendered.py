"""What the chart renders: the committed manifests, byte for byte, and with every set of values here the rules hold."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

import policy
from charts import CHART, EXAMPLE, EXAMPLE_TLS, VALUES, helm, render, run_helm

pytestmark = pytest.mark.skipif(helm() is None, reason="no helm: tests/deploy/build_kube_tools.sh build/kube-tools makes one")


@pytest.mark.parametrize("committed", [EXAMPLE, EXAMPLE_TLS], ids=lambda path: path.parent.name)
def test_the_committed_manifests_are_what_the_chart_renders(committed: Path) -> None:
    wanted = render(CHART.parent / f"values/{committed.parent.name}.yaml")
    assert committed.read_text(encoding="utf-8") == wanted, "run deploy/kubernetes/render.sh"


def test_helm_finds_no_fault() -> None:
    done = run_helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not Path(policy.binary()).exists(), reason=f"no program at {policy.binary()}")
def test_every_set_of_values_keeps_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    results = {path.stem: policy.check(policy.load(render(path))) for path in VALUES}
    with capsys.disabled():
        print("\n" + policy.table(results))
    assert not [fault for result in results.values() for _, faults in result for fault in faults]


@pytest.mark.parametrize("setting", ["image.tag=latest", "workers.count=0", "router.surprise=1", "checkpoint.source=hostPath",
                                     "router.autoscaling.enabled=true,router.keda.enabled=true",
                                     "workers.kind=LeaderWorkerSet,router.keda.enabled=true",
                                     "router.tensorParallelSize=2,router.kvOffload=1Gi", "router.tensorParallelSize=0"])
def test_helm_refuses_wrong_values(setting: str) -> None:
    done = run_helm("template", "sheaf", str(CHART), "--set", setting)
    assert done.returncode != 0 and done.stderr, done.stdout[:500]


RANKS = CHART.parent / "values/attention_ranks.yaml"


def test_attention_ranks_are_sidecars_of_their_router() -> None:
    objects = policy.load(render(RANKS))
    [router] = [pod for pod in policy.pods_of(objects) if pod.labels["app.kubernetes.io/component"] == "router"]
    assert [container["name"] for container in router.sidecars()] == ["rank-1", "rank-2", "rank-3"]
    assert {name: number for name, number in router.ports().items() if name.startswith("rank")} == \
        {"rank-1": 9110, "rank-2": 9111, "rank-3": 9112}
    [rules] = [thing["spec"]["ingress"] for thing in objects
               if thing["kind"] == "NetworkPolicy" and thing["metadata"]["name"].endswith("-router")]
    # What they join at is open to nobody, their figures to those who read the others'.
    assert not [rule for rule in rules if {"port": 50053} in rule["ports"]]
    [open_to] = [rule["from"] for rule in rules if {"port": "rank-1"} in rule["ports"]]
    assert open_to == [{"namespaceSelector": {}}]
    [monitor] = [thing["spec"]["podMetricsEndpoints"] for thing in objects if thing["kind"] == "PodMonitor"]
    assert [endpoint["port"] for endpoint in monitor] == ["metrics", "http", "rank-1", "rank-2", "rank-3"]


@pytest.mark.parametrize("wrong", [
    lambda pod: pod["initContainers"].pop(),
    lambda pod: pod["initContainers"][1].pop("restartPolicy"),
    lambda pod: pod["initContainers"][0]["args"].append("--exchange-integrity=none"),
    lambda pod: pod["containers"][0].update(args=[a for a in pod["containers"][0]["args"] if "--attention-port" not in a]),
])
def test_a_router_without_its_ranks_is_noticed(wrong: Callable[[Any], Any]) -> None:
    objects = policy.load(render(RANKS))
    assert not list(policy.ranks_join(objects))
    [router] = [thing for thing in objects if thing["kind"] == "Deployment" and thing["metadata"]["name"] == "sheaf-router"]
    wrong(router["spec"]["template"]["spec"])
    assert list(policy.ranks_join(objects))


def test_another_name_renames_everything() -> None:
    done = run_helm("template", "second", str(CHART), "--namespace", "other")
    assert done.returncode == 0
    objects = policy.load(done.stdout)
    assert all(thing["metadata"]["name"].startswith("second") for thing in objects)
    for rule in (policy.services_fit, policy.selectors_match, policy.budgets, policy.policies, policy.no_token):
        assert not list(rule(objects))
