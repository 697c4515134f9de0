#!/usr/bin/env python3
"""Draws the dashboards of deploy/monitoring over a real Prometheus, one PNG each: what Grafana would show, without Grafana.

    render_dashboards.py --prometheus http://127.0.0.1:9090 --output docs/images [--minutes 15] [--dashboard sheaf-pool]

Needs matplotlib (Debian package python3-matplotlib). Queries are asked as Grafana asks them: variables all, $__rate_interval four
scrapes. A panel whose query fails is an error; one without data says so in its place, and --need-data PATTERN makes that an error.
"""
from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CELL_WIDTH, CELL_HEIGHT = 0.68, 0.36  # inches of a Grafana grid unit


def ask(prometheus: str, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
    query = urllib.parse.urlencode({"query": expression, "start": start, "end": end, "step": step})
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{query}", timeout=30) as response:
            return json.load(response)["data"]["result"]
    except urllib.error.HTTPError as error:
        raise ValueError(f"{expression}: {error.read().decode(errors='replace')}") from error


def legend_of(form: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda m: labels.get(m.group(1), ""), form) or str(labels)


def human(value: float, unit: str) -> str:
    if value != value:
        return ""
    if unit == "percentunit":
        return f"{100 * value:.4g} %"
    if unit == "s":
        for size, name in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return "0"
    base, names = (1024, ["", "Ki", "Mi", "Gi", "Ti"]) if unit in ("bytes", "Bps") else (1000, ["", "k", "M", "G", "T"])
    for name in names:
        if abs(value) < base or name == names[-1]:
            return f"{value:.3g} {name}{'B' if base == 1024 else ''}".strip() + ("/s" if unit == "Bps" else "")
        value /= base
    return ""


COLORS = ["#4c78a8", "#f58518", "#72b7b2", "#b279a2", "#eeca3b", "#9d755d", "#54a24b", "#ff9da6", "#79706e", "#439894"]
MEANING = {"#3a8f4a": ("ready", "2 holders", "stop", "same"), "#1f5f2f": ("3+ holders", "length"), "#e8a33d": ("loading", "1 holders", "draining"),
           "#b03030": ("0 holders", "quarantined", "error", "different", "unavailable")}

THRESHOLDS = {"green": "#3a8f4a", "orange": "#e8a33d", "red": "#b03030"}


def color_of(name: str, number: int) -> str:
    """As its meaning, where it has one."""
    return next((color for color, names in MEANING.items() if name in names), COLORS[number % len(COLORS)])


def scale(axes: Any, unit: str, legend_rows: int) -> None:
    """From zero, with room for the legend above the lines, and with round ticks also of powers of two."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator
    top = axes.get_ylim()[1] if any(value > 0 for value in axes.dataLim.intervaly) else 1.0
    axes.set_ylim(0, top * (1 + 0.075 * legend_rows))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value, unit)))
    if unit in ("bytes", "Bps"):
        axes.yaxis.set_major_locator(MultipleLocator(2.0 ** math.ceil(math.log2(top / 5))))


def draw(axes: Any, panel: dict[str, Any], series: list[tuple[str, list[float], list[float]]], start: float, end: float) -> None:
    from matplotlib.ticker import FuncFormatter
    unit = panel["fieldConfig"]["defaults"]["unit"]
    kind = panel["type"]
    axes.set_title(panel["title"], loc="left", fontsize=8, fontweight="bold")
    axes.tick_params(labelsize=6)
    axes.spines[["top", "right"]].set_visible(False)
    if not series:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", fontsize=8, color="0.5", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    if kind == "stat":
        axes.set_axis_off()
        axes.text(0.5, 0.45, human(series[0][2][-1], unit), ha="center", va="center", fontsize=20, color="#2b7a3f", transform=axes.transAxes)
        return
    if kind == "bargauge":
        axes.barh(range(len(series)), [values[-1] for _, _, values in series], color=COLORS[0], alpha=0.5, height=0.6)
        axes.set_yticks([])
        for row, (name, _, _) in enumerate(series):
            axes.text(0.01, row, name, fontsize=6, va="center", transform=axes.get_yaxis_transform())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value, unit)))
        return
    if kind == "status-history":
        from matplotlib.colors import BoundaryNorm, ListedColormap
        ordered = sorted(series, key=lambda one: (len(one[0]), one[0]))
        times = ordered[0][1]
        at = {t: i for i, t in enumerate(times)}
        grid = [[float("nan")] * len(times) for _ in ordered]
        for row, (_, when, values) in enumerate(ordered):
            for t, value in zip(when, values):
                if t in at:
                    grid[row][at[t]] = value
        axes.imshow(grid, aspect="auto", interpolation="nearest", cmap=ListedColormap(["#8b1a1a", "#e8a33d", "#7fb77e", "#2b7a3f"]),
                    norm=BoundaryNorm([-0.5, 0.5, 1.5, 2.5, 99], 4))
        axes.set_yticks(range(len(ordered)), [name for name, _, _ in ordered], fontsize=5)
        axes.set_xticks([0, len(times) - 1], [time.strftime("%H:%M", time.gmtime(times[0])), time.strftime("%H:%M", time.gmtime(times[-1]))])
        axes.set_xlabel("red 0, orange 1, light 2, dark 3 or more holders", fontsize=6)
        return
    stacked = panel["fieldConfig"]["defaults"].get("custom", {}).get("stacking", {}).get("mode") == "normal"
    grid = sorted({t for _, when, _ in series for t in when})
    columns = []
    for _, when, values in series:
        have = dict(zip(when, values))
        columns.append([have.get(t, 0.0 if stacked else float("nan")) for t in grid])
    minutes = [(t - start) / 60 for t in grid]
    names = [name for name, _, _ in series]
    if stacked:
        axes.stackplot(minutes, [[0.0 if v != v else v for v in column] for column in columns], labels=names, alpha=0.7,
                       colors=[color_of(name, i) for i, name in enumerate(names)])
    else:
        for i, (name, column) in enumerate(zip(names, columns)):
            axes.plot(minutes, column, linewidth=1, label=name, color=color_of(name, i), clip_on=False)  # zero is on the edge
    top = axes.get_ylim()[1]
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]:
        if step["value"] <= 2.5 * top:
            axes.axhline(step["value"], color=THRESHOLDS[step["color"]], linewidth=0.8, linestyle="--")
    scale(axes, unit, (len(names) + 1) // 2)
    axes.set_xlim(0, (end - start) / 60)
    axes.grid(axis="y", linewidth=0.3)
    axes.set_xlabel("minutes", fontsize=6)
    axes.legend(fontsize=5, loc="upper left", frameon=False, ncols=2)


def render(dashboard: dict[str, Any], prometheus: str, output: Path, minutes: float, scrape: float) -> tuple[list[str], list[str]]:
    """Writes output/NAME.png; the panels with data, and those without."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image  # matplotlib needs it too

    end = time.time()
    start, step = end - 60 * minutes, max(scrape, 60 * minutes / 240)
    values = {"$__rate_interval": f"{int(4 * scrape)}s", "$namespace": ".*", "$instance": ".*"}
    shown = [panel for panel in dashboard["panels"]]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in shown)
    figure = pyplot.figure(figsize=(24 * CELL_WIDTH, height * CELL_HEIGHT + 0.5), dpi=80)
    full = height * CELL_HEIGHT + 0.5
    figure.text(0.01, 1 - 0.3 / full, f"{dashboard['title']}. {dashboard['description']}", fontsize=11, fontweight="bold")
    with_data, without = [], []
    for panel in shown:
        place = panel["gridPos"]
        top = 0.5 + place["y"] * CELL_HEIGHT
        if panel["type"] == "row":
            figure.text(0.01, 1 - (top + 0.22) / full, panel["title"], fontsize=9, color="0.35")
            continue
        series = []
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in values.items():
                expression = expression.replace(name, value)
            for result in ask(prometheus, expression, start, end, step):
                points = [(float(t), float(v)) for t, v in result["values"]]
                points = [(t, v) for t, v in points if v == v and abs(v) != float("inf")]
                if points:
                    series.append((legend_of(target["legendFormat"], result["metric"]), [t for t, _ in points], [v for _, v in points]))
        (with_data if series else without).append(panel["title"])
        left = (place["x"] * CELL_WIDTH + 0.55) / (24 * CELL_WIDTH)
        axes = figure.add_axes((left, 1 - (top + place["h"] * CELL_HEIGHT - 0.4) / full,
                                (place["w"] * CELL_WIDTH - 0.75) / (24 * CELL_WIDTH), (place["h"] * CELL_HEIGHT - 0.75) / full))
        draw(axes, panel, series, start, end)
    output.mkdir(parents=True, exist_ok=True)
    picture = output / f"{dashboard['uid']}.png"
    figure.savefig(picture)
    pyplot.close(figure)
    with Image.open(picture) as image:
        few_colors = image.convert("RGB").quantize(256)
    few_colors.save(picture, optimize=True)  # a third of the size, the same for the eye
    return with_data, without


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--scrape-seconds", type=float, default=5)
    parser.add_argument("--dashboard", help="only this one")
    parser.add_argument("--need-data", help="a panel whose title matches and that has no data is an error")
    options = parser.parse_args()
    failed = False
    for path in sorted((ROOT / "deploy/monitoring/dashboards").glob("*.json")):
        if options.dashboard and path.stem != options.dashboard:
            continue
        with_data, without = render(json.loads(path.read_text()), options.prometheus, options.output, options.minutes, options.scrape_seconds)
        print(f"{path.stem}: {len(with_data)} panels with data; without: {', '.join(without) or 'none'}")
        if options.need_data:
            failed |= any(re.search(options.need_data, title) for title in without)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
