"""The figures of docs/metrics.md, and which of them a PromQL expression reads.

Good enough for the expressions of this repository (deploy/monitoring): names and label names are found by their place, not parsed.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy/monitoring"
RUNBOOKS = ROOT / "docs/runbooks"

# What a scrape adds to every series, and what Prometheus makes itself.
TARGET_LABELS = {"namespace", "job", "instance"}
MADE_BY_PROMETHEUS = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}


@dataclass(frozen=True)
class Figure:
    kind: str  # counter, gauge, histogram
    labels: frozenset[str]
    sections: frozenset[str]  # the kinds of process that have it


def documented(page: str | None = None) -> dict[str, Figure]:
    """Of the five-column tables of docs/metrics.md, by name."""
    figures: dict[str, Figure] = {}
    section = ""
    for line in (page or (ROOT / "docs/metrics.md").read_text()).splitlines():
        if line.startswith("## "):
            section = line[3:]
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 5 or not re.fullmatch(r"`(sheaf|process)_[a-z0-9_]+`", cells[0]):
            continue
        name = cells[0].strip("`")
        figure = Figure(cells[1], frozenset(re.findall(r"`([a-z_]+)`", cells[2])), frozenset({section}))
        # One that several kinds of process have must be the same in all of them.
        if name in figures and (figures[name].kind, figures[name].labels) != (figure.kind, figure.labels):
            raise ValueError(f"{name}: {figures[name]} and {figure}")
        figures[name] = Figure(figure.kind, figure.labels, figure.sections | figures.get(name, figure).sections)
    return figures


def base_name(name: str, figures: dict[str, Figure]) -> str | None:
    """The figure that a series' name belongs to; None: there is none."""
    if name in figures:
        return name
    for suffix in ("_bucket", "_sum", "_count"):
        stem = name.removesuffix(suffix)
        if stem != name and stem in figures and figures[stem].kind == "histogram":
            return stem
    return None


NAME = re.compile(r"(?<![\w:\"$])(sheaf:[a-z0-9_:]+|(?:sheaf|process)_[a-z0-9_]+|up|ALERTS)(?![\w:])(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
MATCHER = re.compile(r'([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"')


def problems(expression: str, figures: dict[str, Figure], recorded: set[str]) -> list[str]:
    """What is wrong with the names and labels that it reads; empty: nothing."""
    bare = re.sub(r'"[^"]*"', '""', expression)  # names within strings are no names
    found, wrong, allowed = 0, [], set(TARGET_LABELS)
    for match in NAME.finditer(re.sub(r'"[^"]*"', lambda m: m.group(0).replace("}", ")"), expression)):
        name, selector = match.group(1), match.group(2) or ""
        if bare.count(name) == 0:
            continue
        found += 1
        if name.startswith("sheaf:"):
            if name not in recorded:
                wrong.append(f"{name}: no rule records it")
            labels: set[str] = set()
        elif name in MADE_BY_PROMETHEUS:
            labels = MADE_BY_PROMETHEUS[name]
        else:
            base = base_name(name, figures)
            if base is None:
                wrong.append(f"{name}: not in docs/metrics.md")
                continue
            if figures[base].kind == "histogram" and base == name:
                wrong.append(f"{name}: a histogram has _bucket, _sum and _count")
            labels = set(figures[base].labels) | ({"le"} if name.endswith("_bucket") else set())
        allowed |= labels
        for label in MATCHER.findall(selector):
            if label not in labels | TARGET_LABELS:
                wrong.append(f"{name}: has no label {label}")
    for group in GROUPING.findall(bare):
        for label in filter(None, (word.strip() for word in group.split(","))):
            if label not in allowed:
                wrong.append(f"grouped by {label}, which nothing in it has")
    if found == 0:
        wrong.append("reads no figure at all")
    return wrong
