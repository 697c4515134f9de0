"""The committed manifests keep every rule, and every rule finds what breaks it."""
from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Callable

import pytest

import policy
from charts import EXAMPLE, EXAMPLE_TLS

Object = dict[str, Any]

needs_binary = pytest.mark.skipif(not Path(policy.binary()).exists(), reason=f"no program at {policy.binary()}")


@pytest.fixture(scope="module")
def example() -> list[Object]:
    return policy.load(EXAMPLE.read_text(encoding="utf-8"))


@needs_binary
@pytest.mark.parametrize("path", [EXAMPLE, EXAMPLE_TLS], ids=lambda path: path.parent.name)
def test_the_committed_manifests_keep_every_rule(path: Path) -> None:
    results = policy.check(policy.load(path.read_text(encoding="utf-8")))
    print(policy.table({path.parent.name: results}))
    assert not [fault for _, faults in results for fault in faults]


def test_everything_that_should_be_there_is(example: list[Object]) -> None:
    kinds = sorted(thing["kind"] for thing in example)
    assert kinds == ["Deployment"] * 2 + ["NetworkPolicy"] * 3 + ["PodDisruptionBudget"] * 3 + ["Service"] * 4 + \
        ["ServiceAccount", "StatefulSet"]


def thing(objects: list[Object], name: str) -> Object:
    kind, _, called = name.partition("/")
    [found] = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == called]
    return found


def pod(objects: list[Object], name: str) -> Object:
    return thing(objects, name)["spec"]["template"]["spec"]


def container(objects: list[Object], name: str) -> Object:
    return pod(objects, name)["containers"][0]


def replace_argument(of: Object, old: str, new: str) -> None:
    assert any(old in argument for argument in of["args"]), old
    of["args"] = [argument.replace(old, new) for argument in of["args"]]


WORKER, ROUTER, COORDINATOR = "StatefulSet/sheaf-worker", "Deployment/sheaf-router", "Deployment/sheaf-coordinator"

# What is done to the manifests, and the rule that must notice.
BREAKS: list[tuple[str, Callable[[list[Object]], Any]]] = [
    ("runs as a user other than root", lambda o: pod(o, WORKER)["securityContext"].update(runAsNonRoot=False)),
    ("runs as a user other than root", lambda o: container(o, ROUTER)["securityContext"].update(runAsUser=0)),
    ("root file system is read-only", lambda o: container(o, ROUTER)["securityContext"].pop("readOnlyRootFilesystem")),
    ("no privilege escalation", lambda o: container(o, COORDINATOR)["securityContext"].update(privileged=True)),
    ("all capabilities dropped", lambda o: container(o, WORKER)["securityContext"].update(capabilities={"add": ["IPC_LOCK"]})),
    ("seccomp RuntimeDefault", lambda o: pod(o, ROUTER)["securityContext"].pop("seccompProfile")),
    ("nothing of the host", lambda o: pod(o, WORKER).update(hostNetwork=True)),
    ("nothing of the host", lambda o: pod(o, WORKER)["volumes"][1].update(hostPath={"path": "/"})),
    ("no service account token, no rights", lambda o: pod(o, WORKER).pop("automountServiceAccountToken")),
    ("no service account token, no rights", lambda o: o.append({"kind": "ClusterRole", "metadata": {"name": "x"}})),
    ("requests and limits set and equal", lambda o: container(o, ROUTER)["resources"]["limits"].pop("memory")),
    ("requests and limits set and equal", lambda o: [container(o, WORKER)["resources"][k].update(cpu="500m")
                                                     for k in ("requests", "limits")]),
    ("startup, liveness, readiness probes", lambda o: container(o, ROUTER).pop("startupProbe")),
    ("startup, liveness, readiness probes", lambda o: container(o, WORKER)["livenessProbe"]["httpGet"].update(port="http")),
    ("startup, liveness, readiness probes", lambda o: container(o, WORKER)["livenessProbe"]["httpGet"].update(path="/ready")),
    ("variables, volumes, paths resolve", lambda o: container(o, WORKER).update(env=[])),
    ("variables, volumes, paths resolve", lambda o: container(o, ROUTER)["volumeMounts"].pop()),
    ("Services fit pods", lambda o: thing(o, "Service/sheaf")["spec"]["ports"][0].update(targetPort="web")),
    ("Services fit pods", lambda o: thing(o, "Service/sheaf-coordinator")["spec"].pop("publishNotReadyAddresses")),
    ("Services fit pods", lambda o: o.remove(thing(o, "Service/sheaf-worker"))),
    ("ports are those of the flags", lambda o: replace_argument(container(o, ROUTER), "--port=8000", "--port=8001")),
    ("attention ranks beside their router", lambda o: container(o, ROUTER)["args"].append("--tensor-parallel-size=2")),
    ("selectors are the pods' labels", lambda o: thing(o, ROUTER)["spec"]["selector"]["matchLabels"].update(x="y")),
    ("one disruption budget each", lambda o: o.remove(thing(o, "PodDisruptionBudget/sheaf-router"))),
    ("one disruption budget each", lambda o: thing(o, "PodDisruptionBudget/sheaf-worker")["spec"].update(maxUnavailable=0)),
    ("one network policy each, links for routers", lambda o: o.remove(thing(o, "NetworkPolicy/sheaf-worker"))),
    ("one network policy each, links for routers",
     lambda o: thing(o, "NetworkPolicy/sheaf-worker")["spec"]["ingress"][0].pop("from")),
    ("grace is longer than the drain", lambda o: pod(o, ROUTER).update(terminationGracePeriodSeconds=60)),
    ("grace is longer than the drain", lambda o: pod(o, WORKER).pop("terminationGracePeriodSeconds")
     and pod(o, WORKER).update(terminationGracePeriodSeconds=20)),
    ("no tag latest", lambda o: container(o, WORKER).update(image="sheaf:latest")),
    ("no tag latest", lambda o: container(o, WORKER).update(image="host:5000/sheaf")),
    ("joining needs the token, secrets are private",
     lambda o: replace_argument(container(o, WORKER), "--cluster-token-file=", "--no=")),
    ("certificates everywhere or nowhere", lambda o: container(o, ROUTER)["args"].append("--tls-cert=/etc/sheaf/tls/tls.crt")),
    ("certificates everywhere or nowhere", lambda o: container(o, WORKER)["args"].append("--cluster-tls-cert=/etc/sheaf/tls/tls.crt")),
    ("spread over nodes", lambda o: pod(o, ROUTER).pop("topologySpreadConstraints")),
]


@pytest.mark.parametrize("number", range(len(BREAKS)), ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(BREAKS)])
def test_a_broken_manifest_is_noticed(example: list[Object], number: int) -> None:
    rule, break_it = BREAKS[number]
    objects = copy.deepcopy(example)
    assert not list(dict(policy.RULES)[rule](objects))
    break_it(objects)
    assert list(dict(policy.RULES)[rule](objects)), rule


@needs_binary
@pytest.mark.parametrize("old, new", [("--late", "--latest"), ("--host=", "--hosts="), ("router", "rooter")])
def test_a_wrong_command_line_is_noticed(example: list[Object], old: str, new: str) -> None:
    objects = copy.deepcopy(example)
    arguments = container(objects, ROUTER)["args"]
    if old == "--late":
        arguments.append(new + "=1")
    else:
        replace_argument(container(objects, ROUTER), old, new)
    assert list(policy.flags_exist(objects))


def test_every_rule_is_broken_once_here() -> None:
    assert {rule for rule, _ in BREAKS} | {"every flag exists"} == {name for name, _ in policy.RULES}
