#!/usr/bin/env python3
"""Writes dashboards/*.json for Grafana (10 and newer) out of the descriptions below.

    deploy/monitoring/dashboards.py          writes them
    deploy/monitoring/dashboards.py --check  exit status 1 where a file is not what this would write

A panel is a title, what it says, a unit, and queries with their legends. In a query `$s` stands for the selector of the dashboard's
variables. tests/monitoring holds every query to the figures and labels of docs/metrics.md. Needs nothing but Python.
"""
from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SELECTOR = 'namespace=~"$namespace",instance=~"$instance"'
COLUMNS = 24


@dataclass
class Panel:
    title: str
    says: str
    queries: list[tuple[str, str]]  # expression, legend
    unit: str = "short"  # Grafana's: s, bytes, Bps, percentunit, reqps, short
    kind: str = "timeseries"  # timeseries, stacked, stat, heatmap, bars
    width: int = 8
    limits: list[float] = field(default_factory=list)  # drawn as lines: warning, then bad; [7, 1]: it is less that is bad


@dataclass
class Row:
    title: str
    panels: list[Panel]


@dataclass
class Dashboard:
    name: str
    title: str
    says: str
    rows: list[Row]


def quantiles(metric: str, by: str = "", of: tuple[float, ...] = (0.5, 0.9, 0.99)) -> list[tuple[str, str]]:
    legend = "{{%s}} " % by if by else ""
    return [(f"histogram_quantile({q}, sum by (le{', ' + by if by else ''}) (rate({metric}_bucket{{$s}}[$__rate_interval])))",
             f"{legend}p{round(q * 100)}") for q in of]


def mean(metric: str, legend: str) -> tuple[str, str]:
    return (f"sum(rate({metric}_sum{{$s}}[$__rate_interval])) / sum(rate({metric}_count{{$s}}[$__rate_interval]))", legend)


def rate(metric: str, by: str = "", more: str = "") -> str:
    selector = "$s" + ("," + more if more else "")
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({metric}{{{selector}}}[$__rate_interval]))"


CLUSTER = Dashboard("sheaf-cluster", "Sheaf: cluster", "What clients see: traffic, objectives, latency, queue.", [
    Row("Objectives", [
        Panel("Good requests, 1 h", "Share that ended well (rules.yaml says what counts). Objective: 99.9 %.",
              [("1 - max(sheaf:availability:bad_share_1h{namespace=~\"$namespace\"})", "good")], "percentunit", "stat", 4),
        Panel("First tokens in time, 1 h", "Share within 2.5 s. Objective: 95 %.",
              [("1 - max(sheaf:first_token:bad_share_1h{namespace=~\"$namespace\"})", "in time")], "percentunit", "stat", 4),
        Panel("Next tokens in time, 1 h", "Share within 0.5 s. Objective: 99 %.",
              [("1 - max(sheaf:next_token:bad_share_1h{namespace=~\"$namespace\"})", "in time")], "percentunit", "stat", 4),
        Panel("Burn rates, 1 h", "Error budgets spent, as multiples of what lasts a month. Above 14.4 somebody is paged.",
              [(f"max(sheaf:{slo}:bad_share_1h{{namespace=~\"$namespace\"}}) / scalar(sheaf:{slo}:error_budget)", legend)
               for slo, legend in (("availability", "requests"), ("first_token", "first tokens"), ("next_token", "next tokens"))],
              "short", "timeseries", 12, [1, 14.4]),
    ]),
    Row("Traffic", [
        Panel("Requests by outcome", "Ended requests a second.", [(rate("sheaf_requests_total", "outcome"), "{{outcome}}")], "reqps", "stacked"),
        Panel("Tokens", "Prompt tokens computed and taken from the prefix cache, tokens generated, a second.",
              [(rate("sheaf_prompt_tokens_total"), "prompt"), (rate("sheaf_prefix_cache_hits_total"), "prompt, cached"),
               (rate("sheaf_generated_tokens_total"), "generated")]),
        Panel("Connections", "Open HTTP connections, gRPC calls under way, and refused ones a second.",
              [("sum by (face) (sheaf_connections{$s})", "{{face}}"), (rate("sheaf_connections_refused_total", "face"), "refused {{face}}")]),
    ]),
    Row("Latency", [
        Panel("First token", "Arrival to a choice's first token.", quantiles("sheaf_time_to_first_token_seconds"), "s", limits=[2.5]),
        Panel("Next token", "From one token of a choice to the next.", quantiles("sheaf_inter_token_latency_seconds"), "s", limits=[0.5]),
        Panel("Whole request", "Arrival to end, refused ones included.", quantiles("sheaf_request_duration_seconds"), "s"),
    ]),
    Row("Queue and memory", [
        Panel("Sequences", "Running, and waiting to run.",
              [("sum(sheaf_requests_running{$s})", "running"), ("sum(sheaf_requests_queued{$s})", "waiting")], kind="stacked"),
        Panel("Time in the queue", "Submit of a choice to the first time that it runs.", quantiles("sheaf_queue_seconds"), "s"),
        Panel("Refused by the queue", "Requests a second, by cause.", [(rate("sheaf_requests_refused_total", "cause"), "{{cause}}")], "reqps"),
        Panel("KV cache in use", "Share of the blocks that sequences own, of each router.",
              [("sheaf_kv_blocks_used{$s} / sheaf_kv_blocks_capacity{$s}", "{{instance}}")], "percentunit", limits=[0.95]),
        Panel("Put back", "Sequences a second that lost their place: no KV blocks left, or another's turn.",
              [(rate("sheaf_preemptions_total"), "preempted"), (rate("sheaf_displacements_total"), "displaced")]),
        Panel("Prefix cache", "Share of the prompt tokens that had not to be computed.",
              [(f"{rate('sheaf_prefix_cache_hits_total')} / {rate('sheaf_prefix_cache_queries_total')}", "hits")], "percentunit"),
    ]),
    Row("Processes", [
        Panel("Alerts", "That fire now.", [('sum by (alertname) (ALERTS{alertstate="firing",alertname=~"Sheaf.*"})', "{{alertname}}")], kind="stacked"),
        Panel("CPU", "Cores in use.", [(rate("process_cpu_seconds_total", "job, instance"), "{{job}} {{instance}}")]),
        Panel("Resident memory", "Of each process. A router's grows until its KV cache has been in use once.", [("process_resident_memory_bytes{$s}", "{{job}} {{instance}}")], "bytes"),
    ]),
])

POOL = Dashboard("sheaf-pool", "Sheaf: pool of experts", "Who holds what, who computes how much, what was lost and what moves.", [
    Row("Members and placement", [
        Panel("Workers by state", "Members of the pool.", [("sum by (state) (sheaf_pool_workers{$s})", "{{state}}")], kind="stacked", width=6),
        Panel("Experts by holders", "(layer, expert) pairs held by 0, 1, 2, 3 or more members. Any with 0 make requests wait.",
              [("sum by (holders) (sheaf_pool_experts{$s})", "{{holders}} holders")], kind="stacked", width=6),
        Panel("Placement by layer", "Holders of the layer's expert that has the fewest. Dark: none.",
              [("max by (layer) (sheaf_pool_layer_fewest_holders{$s})", "{{layer}}")], kind="heatmap", width=12),
        Panel("Experts held", "By each worker; what routers may ask of it.",
              [("sheaf_worker_announced_experts{$s}", "worker {{instance}}")], kind="bars", width=12),
        Panel("Live links and coverage, as the routers see it", "Workers with a live link, and experts without a live holder.",
              [("sheaf_live_workers{$s}", "links {{instance}}"), ('sheaf_expert_coverage{$s,holders="0"}', "missing {{instance}}")], width=12),
    ]),
    Row("Load", [
        Panel("Pairs by worker", "(token, expert) pairs a second.", [(rate("sheaf_expert_tokens_total", "worker"), "worker {{worker}}")], kind="stacked"),
        Panel("Imbalance", "Most pairs on one worker / mean, in the last step. 1 is balanced.",
              [("sheaf_expert_imbalance_ratio{$s}", "{{instance}}")], limits=[1.5]),
        Panel("Workers' busy share", "Of each second, spent on dispatches.", [(rate("sheaf_worker_busy_seconds_total", "instance"), "{{instance}}")], "percentunit"),
        Panel("Answer time by worker", "From a dispatch to its answer, 90 of 100.", quantiles("sheaf_dispatch_seconds", "worker", (0.9,)), "s"),
        Panel("Of a step", "Mean seconds of a step, and of that sending to workers and waiting for them.",
              [mean("sheaf_step_duration_seconds", "step"), mean("sheaf_step_dispatch_seconds", "sending"), mean("sheaf_step_combine_seconds", "waiting")], "s"),
        Panel("Bytes to and from workers", "A second.", [(rate("sheaf_exchange_sent_bytes_total", "worker"), "to {{worker}}"),
                                                        (rate("sheaf_exchange_received_bytes_total", "worker"), "from {{worker}}")], "Bps"),
    ]),
    Row("Faults", [
        Panel("Asked again", "Pairs a second asked from another worker, by cause.", [(rate("sheaf_redispatched_pairs_total", "cause"), "{{cause}}")]),
        Panel("Hedges and late answers", "A second.", [(rate("sheaf_hedges_total", "result"), "hedge {{result}}"), (rate("sheaf_late_answers_total"), "late")]),
        Panel("Losses", "Links and workers lost, in 5 minutes.",
              [("sum by (cause) (increase(sheaf_links_lost_total{$s}[5m]))", "link {{cause}}"),
               ("sum by (cause) (increase(sheaf_pool_workers_lost_total{$s}[5m]))", "worker {{cause}}"),
               ("sum(increase(sheaf_pool_quarantines_total{$s}[5m]))", "quarantine")]),
        Panel("Steps given up", "Computed again because nobody answered for an expert.", [(rate("sheaf_steps_given_up_total", "instance"), "{{instance}}")]),
        Panel("Verified pairs", "Computed twice and compared, a second.", [(rate("sheaf_verified_pairs_total", "result"), "{{result}}")]),
        Panel("Refused at the door", "Hellos and experts that were refused, in 5 minutes.",
              [("sum(increase(sheaf_pool_refused_hellos_total{$s}[5m]))", "hellos"), ("sum(increase(sheaf_pool_refused_experts_total{$s}[5m]))", "experts")]),
    ]),
    Row("Attention ranks", [
        Panel("Ranks missing", "Of each router's group (--tensor-parallel-size). Its requests wait, and it takes no others.",
              [("sheaf_attention_ranks_wanted{$s} - sheaf_attention_ranks_joined{$s}", "{{instance}}")], limits=[1]),
        Panel("Ranks lost", "In 5 minutes, by cause, and running sequences that were computed again for it.",
              [("sum by (cause) (increase(sheaf_attention_ranks_lost_total{$s}[5m]))", "{{cause}}"),
               ("sum(increase(sheaf_attention_recomputed_sequences_total{$s}[5m]))", "sequences again")]),
        Panel("Gathers", "Share of the steps' time that rank 0 waits for the other ranks' parts. Nothing with a single rank.",
              [("sum by (instance) (rate(sheaf_step_gather_seconds_sum{$s}[$__rate_interval])) / sum by (instance) (rate(sheaf_step_duration_seconds_sum{$s}[$__rate_interval]))",
                "{{instance}}")], "percentunit"),
    ]),
    Row("Moves", [
        Panel("Still to load", "By moves under way.", [("sum(sheaf_pool_moving_bytes{$s})", "pool"), ("sheaf_worker_load_left_bytes{$s}", "{{instance}}")], "bytes"),
        Panel("Loaded", "Bytes a second, by worker.", [(rate("sheaf_worker_loaded_bytes_total", "instance"), "{{instance}}")], "Bps"),
        Panel("Planned moves", "Experts that plans had somebody load, in 5 minutes; a plan's time.",
              [("sum(increase(sheaf_pool_moves_total{$s}[5m]))", "experts"), mean("sheaf_pool_plan_seconds", "seconds a plan")]),
    ]),
])

COST = Dashboard("sheaf-request-cost", "Sheaf: what a request costs", "Where the time of a request goes, and how large requests are.", [
    Row("Time", [
        Panel("Phases, means", "Of a sequence: waiting, prompt, output.",
              [mean("sheaf_queue_seconds", "queue"), mean("sheaf_sequence_prefill_seconds", "prefill"), mean("sheaf_sequence_decode_seconds", "decode")], "s", "stacked"),
        Panel("Prefill", "First admission to first token.", quantiles("sheaf_sequence_prefill_seconds"), "s"),
        Panel("Decode", "First token to end.", quantiles("sheaf_sequence_decode_seconds"), "s"),
        Panel("Time of a token", "Mean of each sequence, after its first.", quantiles("sheaf_sequence_token_seconds"), "s"),
        Panel("Of a step, means", "Sending to workers, waiting for them, all else.",
              [mean("sheaf_step_dispatch_seconds", "sending"), mean("sheaf_step_combine_seconds", "waiting"),
               ("(sum(rate(sheaf_step_duration_seconds_sum{$s}[$__rate_interval])) - sum(rate(sheaf_step_dispatch_seconds_sum{$s}[$__rate_interval]))"
                " - sum(rate(sheaf_step_combine_seconds_sum{$s}[$__rate_interval]))) / sum(rate(sheaf_step_duration_seconds_count{$s}[$__rate_interval]))",
                "attention and all else")], "s", "stacked"),
        Panel("Prediction", "Time of a step / what its plan said.", quantiles("sheaf_step_time_ratio", of=(0.1, 0.5, 0.9)), limits=[2]),
    ]),
    Row("Size", [
        Panel("Prompt tokens", "Of sequences that ended.", quantiles("sheaf_sequence_prompt_tokens")),
        Panel("Generated tokens", "Of sequences that ended.", quantiles("sheaf_sequence_generated_tokens")),
        Panel("Tokens of a step", "In its batch.", quantiles("sheaf_step_tokens")),
        Panel("CPU seconds for 1,000 tokens", "Of all processes, by generated tokens.",
              [("1000 * sum(rate(process_cpu_seconds_total{$s}[$__rate_interval])) / sum(rate(sheaf_generated_tokens_total{$s}[$__rate_interval]))", "CPU s")]),
        Panel("Drafts that came true", "Accepted tokens for each draft.",
              [(f"{rate('sheaf_speculation_accepted_tokens_total')} / {rate('sheaf_speculation_drafts_total')}", "tokens")]),
        Panel("By key", "Generated tokens a second of the ten keys that get most (hashes).",
              [("topk(10, sum by (key) (rate(sheaf_key_generated_tokens_total{$s}[$__rate_interval])))", "{{key}}")], kind="stacked"),
    ]),
])

CAPACITY = Dashboard("sheaf-capacity", "Sheaf: capacity", "How much is left, and what runs out first.", [
    Row("Routers", [
        Panel("KV cache free", "Share of the blocks that no sequence owns.",
              [("1 - sheaf_kv_blocks_used{$s} / sheaf_kv_blocks_capacity{$s}", "{{instance}}")], "percentunit"),
        Panel("KV cache, highest in a day", "Share in use.",
              [("max_over_time((sheaf_kv_blocks_used{$s} / sheaf_kv_blocks_capacity{$s})[1d:1m])", "{{instance}}")], "percentunit", limits=[0.95]),
        Panel("Batch", "Sequences in it, and tokens a step.", [("sheaf_requests_running{$s}", "sequences {{instance}}"), mean("sheaf_step_tokens", "tokens a step")]),
        Panel("Waiting tokens", "Of the sequences in the queue.", [("sheaf_queued_tokens{$s}", "{{instance}}")]),
        Panel("Tokens a second by router", "Generated.", [(rate("sheaf_generated_tokens_total", "instance"), "{{instance}}")]),
        Panel("Kept outside of the KV cache", "Blocks in the second tier, and blocks a second that came back.",
              [("sum(sheaf_kv_offload_blocks{$s})", "kept"), (rate("sheaf_kv_offload_loaded_blocks_total"), "loaded")]),
    ]),
    Row("Workers", [
        Panel("Bytes of experts", "Resident, by worker.", [("sheaf_worker_slice_bytes{$s}", "{{instance}}")], "bytes"),
        Panel("Busy, highest in a day", "Share of a minute.", [("max_over_time(rate(sheaf_worker_busy_seconds_total{$s}[1m])[1d:1m])", "{{instance}}")], "percentunit", limits=[0.8]),
        Panel("Spares and drained", "Workers that do not compute.",
              [('sum by (state) (sheaf_pool_workers{$s,state=~"spare|draining|quarantined|loading"})', "{{state}}")], kind="stacked"),
        Panel("Experts with one holder or none", "What the next loss may take.", [('sum(sheaf_pool_experts{$s,holders=~"0|1"})', "experts")]),
    ]),
    Row("Processes", [
        Panel("Cores", "In use, by process.", [(rate("process_cpu_seconds_total", "job, instance"), "{{job}} {{instance}}")]),
        Panel("Descriptors", "Share of the limit.", [("process_open_fds{$s} / process_max_fds{$s}", "{{job}} {{instance}}")], "percentunit", limits=[0.8]),
        Panel("Weights loaded", "Of routers that start.", [("sheaf_load_progress_ratio{$s}", "{{instance}}")], "percentunit"),
        Panel("Certificates", "Days until they end. Nothing without TLS.", [("(sheaf_tls_certificate_expiry_timestamp_seconds{$s} - time()) / 86400", "{{instance}}")], limits=[7, 1]),
    ]),
])

DASHBOARDS = [CLUSTER, POOL, COST, CAPACITY]


def variable(name: str, query: str, all_value: str | None) -> dict:
    """Without `all_value` All means all values found: others' processes have process_* figures, too."""
    return {"name": name, "label": name, "type": "query", "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "query": {"query": query, "refId": name}, "refresh": 2, "multi": True, "includeAll": True, "allValue": all_value,
            "current": {"text": "All", "value": "$__all"}, "sort": 1}


def panel_json(panel: Panel, number: int, x: int, y: int) -> dict:
    kinds = {"timeseries": "timeseries", "stacked": "timeseries", "stat": "stat", "heatmap": "status-history", "bars": "bargauge"}
    colors = ["green", "orange", "red"][:len(panel.limits) + 1]
    if panel.limits != sorted(panel.limits):
        colors.reverse()
    steps = [{"color": color, "value": limit} for color, limit in zip(colors, [None, *sorted(panel.limits)])]
    defaults: dict = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    options: dict = {}
    if kinds[panel.kind] == "timeseries":
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 25 if panel.kind == "stacked" else 5, "showPoints": "never",
                              "stacking": {"mode": "normal" if panel.kind == "stacked" else "none"},
                              "thresholdsStyle": {"mode": "line" if panel.limits else "off"}}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    elif panel.kind == "stat":
        defaults["decimals"] = 2
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"}
    elif panel.kind == "heatmap":
        defaults["thresholds"]["steps"] = [{"color": "dark-red", "value": None}, {"color": "orange", "value": 1}, {"color": "green", "value": 2}]
        options = {"showValue": "never", "rowHeight": 0.95, "legend": {"displayMode": "list", "placement": "bottom"}}
    else:
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal", "displayMode": "basic"}
    return {"id": number, "type": kinds[panel.kind], "title": panel.title, "description": panel.says,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "gridPos": {"x": x, "y": y, "w": panel.width, "h": 8},
            "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options,
            "targets": [{"refId": chr(ord("A") + i), "expr": expr.replace("$s", SELECTOR), "legendFormat": legend,
                         "datasource": {"type": "prometheus", "uid": "${datasource}"}} for i, (expr, legend) in enumerate(panel.queries)]}


def dashboard_json(dashboard: Dashboard) -> dict:
    panels, y, number = [], 0, 1
    for row in dashboard.rows:
        panels.append({"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}, "panels": []})
        number, y, x = number + 1, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + 8
            panels.append(panel_json(panel, number, x, y))
            number, x = number + 1, x + panel.width
        y += 8
    return {"uid": dashboard.name, "title": dashboard.title, "description": dashboard.says, "tags": ["sheaf"], "schemaVersion": 38,
            "version": 1, "editable": True, "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
            "templating": {"list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}},
                variable("namespace", "label_values(sheaf_build_info, namespace)", ".*"),
                variable("instance", 'label_values({__name__=~"sheaf_build_info|sheaf_pool_routers",namespace=~"$namespace"}, instance)', None)]},
            "panels": panels}


def text_of(dashboard: Dashboard) -> str:
    return json.dumps(dashboard_json(dashboard), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    stale = []
    for dashboard in DASHBOARDS:
        path = HERE / "dashboards" / f"{dashboard.name}.json"
        if "--check" in sys.argv[1:]:
            if not path.exists() or path.read_text() != text_of(dashboard):
                stale.append(path.name)
        else:
            path.write_text(text_of(dashboard))
    if stale:
        print(f"not what dashboards.py writes: {', '.join(stale)}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
