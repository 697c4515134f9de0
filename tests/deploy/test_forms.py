"""Objects of other kinds have the form that their authors' definitions ask for, unknown fields refused, without a server."""
from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

import policy
from charts import TOOLS, VALUES, helm, render

CRDS = TOOLS / "crds"
pytestmark = [pytest.mark.skipif(helm() is None, reason="no helm: tests/deploy/build_kube_tools.sh build/kube-tools makes one"),
              pytest.mark.skipif(not list(CRDS.glob("*.yaml")), reason="no definitions: tests/deploy/build_kube_tools.sh fetches them")]
# Kinds that Kubernetes itself has; a server alone knows their form.
BUILT_IN = {"v1", "apps/v1", "policy/v1", "networking.k8s.io/v1", "autoscaling/v2"}


def strict(schema: Any) -> Any:
    """A definition's schema as JSON Schema that refuses unknown fields, as `--validate=strict` does."""
    if isinstance(schema, list):
        return [strict(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: strict(value) for key, value in schema.items() if key not in ("format", "x-kubernetes-validations")}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema \
            and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    return result


@pytest.fixture(scope="module")
def definitions() -> dict[tuple[str, str], Any]:
    """(apiVersion, kind) -> schema of `spec`."""
    found = {}
    for path in CRDS.glob("*.yaml"):
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # megabytes: a minute without the C library
        for definition in filter(None, yaml.load_all(path.read_text(encoding="utf-8"), Loader=loader)):
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_every_object_has_its_form(definitions: dict[tuple[str, str], Any], path: Any) -> None:
    faults = []
    for thing in policy.load(render(path)):
        if thing["apiVersion"] in BUILT_IN:
            continue
        schema = definitions[thing["apiVersion"], thing["kind"]]
        faults += [f"{policy.title(thing)}: {list(error.absolute_path)}: {error.message[:300]}"
                   for error in jsonschema.Draft7Validator(schema).iter_errors(thing["spec"])]
    assert not faults, "\n".join(faults)


def test_a_wrong_form_is_noticed(definitions: dict[tuple[str, str], Any]) -> None:
    objects = policy.load(render(next(path for path in VALUES if path.stem == "every_option")))
    for kind, field, value in (("InferencePool", "targetPorts", []), ("ScaledObject", "maxReplicas", 3),
                               ("Certificate", "issuerRef", {"nam": "x"}), ("PodMonitor", "podMetricsEndpoint", [])):
        [thing] = [thing for thing in objects if thing["kind"] == kind]
        spec = yaml.safe_load(yaml.safe_dump({**thing["spec"], field: value}))
        assert list(jsonschema.Draft7Validator(definitions[thing["apiVersion"], kind]).iter_errors(spec)), kind
