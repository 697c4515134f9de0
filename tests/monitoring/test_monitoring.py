"""deploy/monitoring against the code's figures: every query reads what exists, every alert has a page and stories, and what a real
server exposes is what docs/metrics.md lists. promtool's own checks are skipped where it is missing (Debian package prometheus).
"""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Iterator

import pytest
import yaml

from figures import MONITORING, ROOT, RUNBOOKS, base_name, documented, problems

sys.path.insert(0, str(ROOT / "tests/process"))
from sheaf_server import BINARY, SheafServer, wait_for  # noqa: E402  (found through the path above)

FIGURES = documented()
RULES = [rule for group in yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]}
RECORDED = {rule["record"] for rule in RULES}
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))


def panels(path: Path) -> Iterator[dict]:
    yield from (panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row")


# --- queries


@pytest.mark.parametrize("rule", [*RULES, *ALERTS.values()], ids=lambda rule: rule.get("record") or rule["alert"])
def test_a_rule_reads_what_exists(rule: dict) -> None:
    if rule["expr"].startswith("vector("):
        return
    assert not problems(rule["expr"], FIGURES, RECORDED)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_reads_what_exists(path: Path) -> None:
    wrong = [f"{panel['title']}: {problem}" for panel in panels(path) for target in panel["targets"]
             for problem in problems(target["expr"], FIGURES, RECORDED)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("expression, says", [
    ("rate(sheaf_no_such_total[5m])", "not in docs"),
    ('sheaf_requests_total{cause="x"}', "no label cause"),
    ("sum by (worker) (sheaf_requests_running)", "grouped by worker"),
    ("rate(sheaf_queue_seconds[5m])", "a histogram"),
    ("sheaf:nothing:rate5m > 1", "no rule records"),
    ("vector(1)", "reads no figure"),
])
def test_a_wrong_query_is_found(expression: str, says: str) -> None:
    assert any(says in problem for problem in problems(expression, FIGURES, RECORDED))


def test_a_right_query_is_let_through() -> None:
    assert problems('sum by (face, instance) (rate(sheaf_requests_total{face=~"http|grpc"}[5m]))', FIGURES, RECORDED) == []


def test_dashboards_are_what_their_description_gives() -> None:
    assert len(DASHBOARDS) == 4
    subprocess.run([sys.executable, MONITORING / "dashboards.py", "--check"], check=True)


def test_dashboards_say_what_they_show() -> None:
    for path in DASHBOARDS:
        assert not [panel["title"] for panel in panels(path) if not panel["description"].endswith(".") or not panel["targets"]]


# --- alerts


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
        assert rule["labels"]["severity"] in ("page", "ticket")
        page = (RUNBOOKS / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n\nSeverity: {rule['labels']['severity']}.\n"), name
        for part in ("**What it means.**", "**What users see.**", "**Look at**", "**Do**"):
            assert part in page, f"{name}: {part}"


def test_pages_name_figures_that_exist() -> None:
    wrong = []
    for path in [*RUNBOOKS.glob("*.md"), ROOT / "docs/operations.md"]:
        for name in re.findall(r"(?<![\w:])(?:sheaf|process)_[a-z0-9_]+", path.read_text()):
            if base_name(name, FIGURES) is None:
                wrong.append(f"{path.name}: {name}")
    assert not wrong, wrong


def test_links_of_pages_lead_somewhere() -> None:
    for path in [*RUNBOOKS.glob("*.md"), ROOT / "docs/operations.md"]:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            assert link.startswith("http") or (path.parent / link).exists(), f"{path.name}: {link}"


def test_every_alert_has_stories_of_firing_and_of_silence() -> None:
    stories = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())["tests"]
    fired = {name for story in stories for check in story["promql_expr_test"] for sample in check["exp_samples"]
             for name in re.findall(r'alertname="(\w+)"', sample["labels"])}
    assert fired == set(ALERTS)
    # Silence: a story without any alert, whose series the alert reads.
    silent_series = {re.split(r"[{ ]", series["series"])[0] for story in stories
                     if not any(check["exp_samples"] for check in story["promql_expr_test"]) for series in story["input_series"]}
    for rule in [*RULES, *ALERTS.values()]:
        for name in re.findall(r"\b(?:sheaf_[a-z0-9_]+|up)\b", rule["expr"]):
            assert name in silent_series, f"{rule.get('alert') or rule['record']}: no story of silence has {name}"


# --- promtool and a real server


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is missing: Debian package prometheus (deploy/install_dependencies.sh --tests)")
    return found


def test_promtool_likes_the_rules(promtool: str) -> None:
    subprocess.run([promtool, "check", "rules", MONITORING / "rules.yaml", MONITORING / "alerts.yaml"], check=True)


def test_stories_of_the_alerts(promtool: str) -> None:
    result = subprocess.run([promtool, "test", "rules", MONITORING / "alerts_test.yaml"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def fetch(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        return response.read().decode()


def families(text: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))


@pytest.fixture(scope="session")
def pages() -> Iterator[dict[str, str]]:
    """/metrics of a router with a coordinator inside, of the same with vLLM's names, of a worker and of an attention rank, after a
    request."""
    if not Path(BINARY).exists():
        pytest.skip(f"no binary at {BINARY}: build the target sheaf, or set SHEAF_BINARY")
    checkpoint = ROOT / "checkpoints/sheaf-nano-120"
    made: dict[str, str] = {}
    for compat in ("none", "vllm"):
        with SheafServer(checkpoint, "--workers", "2", "--tensor-parallel-size", "2", "--metrics-compat", compat) as server:
            server.request("POST", "/v1/completions", {"prompt": "a", "max_tokens": 4})
            made[compat] = fetch(server.ready["http"])
            wait_for(lambda: "outcome=length" in server.log() or "outcome=stop" in server.log(), 10, "the access log's line")
            found = re.search(r"worker: metrics on (\S+)", server.log())
            assert found, "the worker says where its metrics are"
            made["worker"] = fetch(found.group(1))
            found = re.search(r"attention rank 1: metrics on (\S+)", server.log())
            assert found, "the rank says where its metrics are"
            made["rank"] = fetch(found.group(1))
    yield made


def test_a_server_exposes_what_the_page_lists(pages: dict[str, str]) -> None:
    wanted = {name for name, figure in FIGURES.items() if figure.sections & {"Router", "Coordinator", "Every process", "Traces"}}
    only_with_tls = {name for name in wanted if name.startswith("sheaf_tls_")}
    assert families(pages["none"]) | only_with_tls == wanted
    wanted = {name for name, figure in FIGURES.items() if figure.sections & {"Expert worker", "Every process"}}
    assert families(pages["worker"]) | only_with_tls == wanted
    wanted = {name for name, figure in FIGURES.items() if figure.sections & {"Attention rank", "Every process"}}
    assert families(pages["rank"]) == wanted


def test_promtool_likes_what_is_exposed(promtool: str, pages: dict[str, str]) -> None:
    for name in ("none", "worker", "rank"):
        result = subprocess.run([promtool, "check", "metrics"], input=pages[name], capture_output=True, text=True)
        assert (result.returncode, result.stdout + result.stderr) == (0, ""), name
    result = subprocess.run([promtool, "check", "metrics"], input=pages["vllm"], capture_output=True, text=True)
    complaints = [line for line in (result.stdout + result.stderr).splitlines() if not line.startswith("vllm:")]
    assert not complaints


def test_gateways_and_autoscalers_find_their_figures(pages: dict[str, str]) -> None:
    text = pages["vllm"]
    labels = '{model_name="sheaf-nano-120",engine="0"}'
    for name in ("vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"):
        assert re.search(rf"^{name}{re.escape(labels)} [0-9.e+-]+$", text, re.MULTILINE), name
    blocks = re.search(r'^vllm:cache_config_info\{.*block_size="16".*num_gpu_blocks="(\d+)".*\} 1$', text, re.MULTILINE)
    assert blocks and int(blocks.group(1)) > 0
    assert re.search(r'^vllm:generation_tokens_total\{.*\} [1-4]$', text, re.MULTILINE)
    assert not re.search("^vllm:", pages["none"], re.MULTILINE)
