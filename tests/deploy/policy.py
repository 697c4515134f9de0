#!/usr/bin/env python3
"""What every manifest has to keep, checked by program: who a pod runs as, what it may do, whether its numbers fit.

    policy.py MANIFEST.yaml...      # a table of rules; exit status 1 when one is broken

A rule is a function of the objects of one rendering that yields the faults it finds, each naming object and field. The
command-line rule asks the binary ($SHEAF_BINARY) which flags there are.
"""
from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

from manifests import Object, binary, flags_of, load, pods_of, title, value_of  # noqa: F401  (tests ask here for all)

SHUTDOWN_MARGIN_SECONDS = 5
WORKER_LEAVES_SECONDS = 20  # others take over for up to 10 s, routers see it for up to 10 s
COMMANDS = {"router", "worker", "attention", "coordinator", "verify"}
COPY_SCRIPT = "/usr/libexec/sheaf/copy_checkpoint.sh"


# Rules. Each yields a line for each fault.

def no_root(objects: list[Object]) -> Iterator[str]:
    for pod in pods_of(objects):
        context = pod.spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser") or not context.get("runAsGroup"):
            yield f"{pod.where}: securityContext: wanted runAsNonRoot and a user and group other than 0, got {context}"
        for where, container in pod.containers():
            own = container.get("securityContext", {})
            if own.get("runAsUser", 1) == 0 or own.get("runAsNonRoot") is False:
                yield f"{where}: runs as root"


def read_only_root(objects: list[Object]) -> Iterator[str]:
    return _container_context(objects, "readOnlyRootFilesystem", True)


def no_escalation(objects: list[Object]) -> Iterator[str]:
    yield from _container_context(objects, "allowPrivilegeEscalation", False)
    yield from _container_context(objects, "privileged", False, absent=False)


def no_capabilities(objects: list[Object]) -> Iterator[str]:
    yield from _container_context(objects, "capabilities", {"drop": ["ALL"]})


def _container_context(objects: list[Object], field: str, wanted: Any, absent: Any = None) -> Iterator[str]:
    for pod in pods_of(objects):
        for where, container in pod.containers():
            got = container.get("securityContext", {}).get(field, absent)
            if got != wanted:
                yield f"{where}: securityContext.{field}: wanted {wanted}, got {got}"


def seccomp(objects: list[Object]) -> Iterator[str]:
    for pod in pods_of(objects):
        got = pod.spec.get("securityContext", {}).get("seccompProfile", {}).get("type")
        if got != "RuntimeDefault":
            yield f"{pod.where}: seccompProfile: wanted RuntimeDefault, got {got}"


def nothing_of_the_host(objects: list[Object]) -> Iterator[str]:
    """A hostPath volume is only for a checkpoint, and read-only."""
    for pod in pods_of(objects):
        for field in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
            if pod.spec.get(field):
                yield f"{pod.where}: {field}"
        host = {volume["name"] for volume in pod.spec.get("volumes", []) if "hostPath" in volume}
        for where, container in pod.containers():
            for port in container.get("ports", []):
                if "hostPort" in port:
                    yield f"{where}: hostPort {port['hostPort']}"
            for mount in container.get("volumeMounts", []):
                if mount["name"] in host and not (mount["name"] == "checkpoint" and mount.get("readOnly")):
                    yield f"{where}: hostPath volume {mount['name']} is not a checkpoint mounted read-only"


def no_token(objects: list[Object]) -> Iterator[str]:
    accounts = {thing["metadata"]["name"]: thing for thing in objects if thing["kind"] == "ServiceAccount"}
    for pod in pods_of(objects):
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.where}: automountServiceAccountToken: wanted false"
        account = accounts.get(pod.spec.get("serviceAccountName", ""))
        if account is None or account.get("automountServiceAccountToken") is not False:
            yield f"{pod.where}: wanted a ServiceAccount of its own without a token"
    for thing in objects:
        if thing["kind"].endswith(("Role", "RoleBinding")):
            yield f"{title(thing)}: nothing here needs rights"


def limits(objects: list[Object]) -> Iterator[str]:
    for pod in pods_of(objects):
        for where, container in pod.containers():
            resources = container.get("resources", {})
            for kind in ("requests", "limits"):
                for name in ("cpu", "memory"):
                    if name not in resources.get(kind, {}):
                        yield f"{where}: resources.{kind}.{name}: missing"
            if resources.get("requests") != resources.get("limits"):
                yield f"{where}: requests differ from limits: the pod is not Guaranteed"
            if pod.labels["app.kubernetes.io/component"] == "worker" and \
                    not re.fullmatch(r"[1-9][0-9]*", str(resources.get("limits", {}).get("cpu", ""))):
                yield f"{where}: wanted whole CPUs, for cores of its own"


def probes(objects: list[Object]) -> Iterator[str]:
    for where, container in (server for pod in pods_of(objects) for server in pod.servers()):
        ports = {port["name"] for port in container.get("ports", [])} | \
                {port["containerPort"] for port in container.get("ports", [])}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(kind)
            if probe is None:
                yield f"{where}: no {kind}"
                continue
            port = (probe.get("httpGet") or probe.get("grpc") or {}).get("port")
            if port not in ports:
                yield f"{where}: {kind}: port {port} is not one of the container's"
            if "initialDelaySeconds" in probe:
                yield f"{where}: {kind}: initialDelaySeconds delays small models and kills large ones"
        paths = {kind: (container.get(kind) or {}).get("httpGet", {}).get("path") for kind in
                 ("livenessProbe", "readinessProbe")}
        if paths["readinessProbe"] != "/ready" or paths["livenessProbe"] not in (None, "/live"):
            yield f"{where}: wanted /ready for readiness and /live or gRPC health for liveness, got {paths}"


def flags_exist(objects: list[Object]) -> Iterator[str]:
    for pod in pods_of(objects):
        for where, container in pod.containers():
            if container.get("command") == [COPY_SCRIPT]:
                continue
            arguments = container.get("args", [])
            if container.get("command") != ["sheaf"] or not arguments or arguments[0] not in COMMANDS:
                yield f"{where}: wanted one of sheaf's commands, got {container.get('command')} {arguments[:1]}"
                continue
            for argument in arguments[1:]:
                flag = argument.split("=", 1)[0]
                if flag.startswith("--") and flag not in flags_of(arguments[0]):
                    yield f"{where}: sheaf {arguments[0]} has no flag {flag}"


def references_resolve(objects: list[Object]) -> Iterator[str]:
    """$(NAME) in arguments is an environment variable; every mount is a volume and every file in arguments is mounted."""
    claims = {claim["metadata"]["name"] for thing in objects for claim in _claims(thing)}
    for pod in pods_of(objects):
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])} | claims
        for where, container in pod.containers():
            names = {variable["name"] for variable in container.get("env", [])} | {"LWS_LEADER_ADDRESS"}
            mounts = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{where}: no volume {mount['name']}"
            for argument in container.get("args", []):
                for name in re.findall(r"\$\((\w+)\)", argument):
                    if name not in names:
                        yield f"{where}: {argument}: no variable {name}"
                path = argument.split("=", 1)[-1]
                if path.startswith("/") and not any(path.startswith(mount + "/") or path == mount for mount in mounts):
                    yield f"{where}: {path} is in no volume"


def _claims(thing: Object) -> Iterator[Object]:
    spec = thing.get("spec", {})
    yield from spec.get("volumeClaimTemplates", [])
    groups = [spec] if thing["kind"] == "LeaderWorkerSet" else [role["spec"] for role in spec.get("roles", [])]
    for group in groups:
        yield from group["leaderWorkerTemplate"].get("volumeClaimTemplates", [])


def services_fit(objects: list[Object]) -> Iterator[str]:
    """A Service selects pods, its named ports are theirs, and headless ones for peers publish what is not ready yet."""
    pods = pods_of(objects)
    for service in (thing for thing in objects if thing["kind"] == "Service"):
        chosen = [pod for pod in pods if service["spec"]["selector"].items() <= pod.labels.items()]
        if not chosen:
            yield f"{title(service)}: selects no pod"
        for pod in chosen:
            ports = pod.ports()
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in ports:
                    yield f"{title(service)}: port {port['targetPort']}: {pod.where} has {sorted(ports)}"
                elif port["port"] != ports[port["targetPort"]]:
                    yield f"{title(service)}: port {port['port']}: {pod.where} listens on {ports[port['targetPort']]}"
        if service["metadata"]["name"].endswith(("-coordinator", "-worker")):
            if service["spec"].get("clusterIP") != "None" or not service["spec"].get("publishNotReadyAddresses"):
                yield f"{title(service)}: wanted a headless one that publishes what is not ready yet"
    names = {thing["metadata"]["name"] for thing in objects if thing["kind"] == "Service"}
    for thing in objects:
        if thing["kind"] == "StatefulSet" and thing["spec"]["serviceName"] not in names:
            yield f"{title(thing)}: no Service {thing['spec']['serviceName']}"
    for pod in pods:
        coordinator = value_of(pod.main()["args"], "--coordinator")
        if coordinator and "$(" not in coordinator and coordinator.rsplit(":", 1)[0] not in names:
            yield f"{pod.where}: --coordinator={coordinator} is no Service"


def ports_match_flags(objects: list[Object]) -> Iterator[str]:
    flags = {"http": "--port", "grpc": "--grpc-port", "cluster": "--cluster-port", "metrics": "--metrics-port",
             "exchange": "--exchange-ports"}
    for pod in pods_of(objects):
        numbers = [port["containerPort"] for _, container in pod.servers() for port in container.get("ports", [])]
        if len(numbers) != len(set(numbers)) or len(numbers) != len(pod.ports()):
            yield f"{pod.where}: two ports of one name or number: {numbers}"
        for where, container in pod.servers():
            for port in container.get("ports", []):
                flag = flags["metrics" if port["name"] == container["name"] else port["name"]]
                got = value_of(container["args"], flag)
                if got not in (str(port["containerPort"]), f"{port['containerPort']}-{port['containerPort']}"):
                    yield f"{where}: port {port['name']} is {port['containerPort']}, but {flag} is {got}"


def ranks_join(objects: list[Object]) -> Iterator[str]:
    """Attention ranks are sidecars of their router: all of them, each once, and they know where it is."""
    for pod in pods_of(objects):
        arguments = pod.main()["args"]
        ranks = [container["args"] for container in pod.sidecars() if container["args"][0] == "attention"]
        wanted = [str(rank) for rank in range(1, int(value_of(arguments, "--tensor-parallel-size") or 1))]
        got = [value_of(rank, "--rank") for rank in ranks]
        if got != wanted:
            yield f"{pod.where}: --tensor-parallel-size wants ranks {wanted}, the pod has {got}"
        for rank in ranks:
            if value_of(rank, "--router") != f"127.0.0.1:{value_of(arguments, '--attention-port')}":
                yield f"{pod.where}: rank {value_of(rank, '--rank')} joins at {value_of(rank, '--router')}"
            for flag in ("--exchange-integrity", "--cluster-token-file"):
                if value_of(rank, flag) != value_of(arguments, flag):
                    yield f"{pod.where}: rank {value_of(rank, '--rank')} and its router differ in {flag}"


def selectors_match(objects: list[Object]) -> Iterator[str]:
    for thing in objects:
        if thing["kind"] in ("Deployment", "StatefulSet"):
            wanted = thing["spec"]["selector"]["matchLabels"]
            if not wanted.items() <= thing["spec"]["template"]["metadata"]["labels"].items():
                yield f"{title(thing)}: its selector is not its pods' labels"


def budgets(objects: list[Object]) -> Iterator[str]:
    """One for each kind of pod, which lets a node be drained and leaves holders of every expert where it can."""
    chosen = [thing["spec"]["selector"]["matchLabels"] for thing in objects if thing["kind"] == "PodDisruptionBudget"]
    for pod in pods_of(objects):
        count = sum(labels.items() <= pod.labels.items() for labels in chosen)
        if count != 1:
            yield f"{pod.where}: {count} PodDisruptionBudgets, wanted 1"
    for thing in objects:
        if thing["kind"] == "PodDisruptionBudget" and thing["spec"].get("maxUnavailable", 0) < 1:
            yield f"{title(thing)}: lets no node be drained"


def policies(objects: list[Object]) -> Iterator[str]:
    """Every pod is chosen by one, and workers' links are open to routers alone."""
    chosen = [thing for thing in objects if thing["kind"] == "NetworkPolicy"]
    for pod in pods_of(objects):
        of = [policy for policy in chosen
              if policy["spec"]["podSelector"].get("matchLabels", {}).items() <= pod.labels.items()]
        if len(of) != 1 or set(of[0]["spec"]["policyTypes"]) != {"Ingress", "Egress"}:
            yield f"{pod.where}: wanted one NetworkPolicy for both directions, got {len(of)}"
            continue
        if pod.labels["app.kubernetes.io/component"] != "worker":
            continue
        for rule in of[0]["spec"]["ingress"]:
            if {"port": "exchange"} in rule.get("ports", [{"port": "exchange"}]):
                peers = rule.get("from", [])
                components = [peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component")
                              for peer in peers]
                if components != ["router"] or any("namespaceSelector" in peer for peer in peers):
                    yield f"{title(of[0])}: links of workers are open to {peers}"


def grace(objects: list[Object]) -> Iterator[str]:
    for pod in pods_of(objects):
        arguments = pod.main()["args"]
        sleep = pod.main().get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drain = float(value_of(arguments, "--shutdown-timeout-ms") or 0) / 1000
        if arguments[0] == "router" and (not sleep or not drain):
            yield f"{pod.where}: wanted a preStop sleep and --shutdown-timeout-ms"
        if arguments[0] == "worker":
            drain = WORKER_LEAVES_SECONDS
        got = pod.spec.get("terminationGracePeriodSeconds", 30)
        if got < sleep + drain + SHUTDOWN_MARGIN_SECONDS:
            yield f"{pod.where}: terminationGracePeriodSeconds is {got}: preStop takes {sleep}, the drain {drain:g} and then some"


def tags(objects: list[Object]) -> Iterator[str]:
    for pod in pods_of(objects):
        for where, container in pod.containers():
            name = container["image"].rsplit("/", 1)[-1]
            if "@sha256:" not in name and (":" not in name or name.endswith(":latest")):
                yield f"{where}: image {container['image']}: wanted a tag other than latest, or a digest"


def joining_is_guarded(objects: list[Object]) -> Iterator[str]:
    for pod in pods_of(objects):
        for where, container in pod.servers():
            if not value_of(container["args"], "--cluster-token-file"):
                yield f"{where}: no --cluster-token-file: anybody may join"
        for volume in pod.spec.get("volumes", []):
            if "secret" in volume and volume["secret"].get("defaultMode", 0o644) & 0o007:
                yield f"{pod.where}: secret {volume['name']} is readable by all"


def certificates(objects: list[Object]) -> Iterator[str]:
    """Where one process of the cluster has a certificate all have; probes speak TLS where their port does."""
    pods = pods_of(objects)
    flags = ("--cluster-tls-cert", "--cluster-tls-key", "--cluster-tls-ca", "--cluster-allowed-names")
    wanted = any(value_of(pod.main()["args"], flag) for pod in pods for flag in flags)
    for pod in pods:
        for where, container in pod.servers():
            missing = [flag for flag in flags if not value_of(container["args"], flag)]
            if wanted and missing:
                yield f"{where}: no {', '.join(missing)}, which other processes of the cluster have"
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = pod.main().get(kind, {}).get("httpGet", {})
            speaks = probe.get("scheme", "HTTP") == "HTTPS"
            if probe.get("port") == "http" and speaks != bool(value_of(pod.main()["args"], "--tls-cert")):
                yield f"{pod.where}: {kind}: its scheme is not that of the port"


def spread(objects: list[Object]) -> Iterator[str]:
    for pod in pods_of(objects):
        if pod.labels["app.kubernetes.io/component"] == "coordinator":
            continue
        keys = {constraint["topologyKey"] for constraint in pod.spec.get("topologySpreadConstraints", [])}
        if "kubernetes.io/hostname" not in keys or "podAntiAffinity" not in pod.spec.get("affinity", {}):
            yield f"{pod.where}: not spread over nodes"


RULES: list[tuple[str, Callable[[list[Object]], Iterator[str]]]] = [
    ("runs as a user other than root", no_root),
    ("root file system is read-only", read_only_root),
    ("no privilege escalation", no_escalation),
    ("all capabilities dropped", no_capabilities),
    ("seccomp RuntimeDefault", seccomp),
    ("nothing of the host", nothing_of_the_host),
    ("no service account token, no rights", no_token),
    ("requests and limits set and equal", limits),
    ("startup, liveness, readiness probes", probes),
    ("every flag exists", flags_exist),
    ("variables, volumes, paths resolve", references_resolve),
    ("Services fit pods", services_fit),
    ("ports are those of the flags", ports_match_flags),
    ("attention ranks beside their router", ranks_join),
    ("selectors are the pods' labels", selectors_match),
    ("one disruption budget each", budgets),
    ("one network policy each, links for routers", policies),
    ("grace is longer than the drain", grace),
    ("no tag latest", tags),
    ("joining needs the token, secrets are private", joining_is_guarded),
    ("certificates everywhere or nowhere", certificates),
    ("spread over nodes", spread),
]


def check(objects: list[Object]) -> list[tuple[str, list[str]]]:
    """(rule, its faults) for each rule."""
    return [(name, list(rule(objects))) for name, rule in RULES]


def table(results: dict[str, list[tuple[str, list[str]]]]) -> str:
    """A line a rule, a column a rendering, then the faults."""
    width = max(len(name) for name, _ in RULES)
    lines = [" " * width + "  " + "  ".join(results)]
    for i, (name, _) in enumerate(RULES):
        marks = ("  ".join(("ok" if not result[i][1] else str(len(result[i][1]))).ljust(len(column))
                           for column, result in results.items()))
        lines.append(f"{name.ljust(width)}  {marks}".rstrip())
    for column, result in results.items():
        lines += [f"{column}: {name}: {fault}" for name, faults in result for fault in faults]
    return "\n".join(lines)


def main(paths: list[str]) -> int:
    results = {f"{Path(path).parent.name}/{Path(path).stem}": check(load(Path(path).read_text(encoding="utf-8"))) for path in paths}
    print(table(results))
    return 1 if any(faults for result in results.values() for _, faults in result) else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
