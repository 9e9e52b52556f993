"""What is printed, and what machines read."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

from benchmarks.databases import sync_cost
from benchmarks.environment import versions
from benchmarks.figures import Series, Spread
from benchmarks.targets import verdict


def circumstances(*, quick: bool) -> dict[str, Any]:
    """Where and with what it was measured."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
        "fdatasync_us": round(sync_cost()),
        "load": round(os.getloadavg()[0], 2),
        "quick": quick,
    }


def heading(found: dict[str, Any]) -> str:
    """The same for people."""
    names = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    lines = [
        f"{found['date']}, {found['system']}, load {found['load']}, fdatasync {found['fdatasync_us']} us",
        names,
        "Medians over rounds; in brackets the middle half of them. A ratio above 1 is better than the reference.",
    ]
    return "\n".join([*lines, *(["QUICK: few and short rounds; figures are no more than a hint."] * found["quick"])])


def table(series: Series) -> str:
    """A series: a row for each point, a column for each contestant."""
    names = series.contestants
    rows = [
        ["", *names, "wanted"],
        *([point, *(_cell(series, point, name) for name in names), verdict(series, point)] for point in series.points),
    ]
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    how = f"{series.unit}, {series.better} is better; ratios to {series.reference}"
    return "\n".join([f"{series.name} ({how})", *(f"  {line}" for line in lines)])


def _cell(series: Series, point: str, name: str) -> str:
    values = series.points[point].get(name)
    if not values:
        return "-"
    middle = figure(Spread.of(values).median)
    ratio = None if name == series.reference else series.ratio(point, name)
    if ratio is None:
        return middle
    spread = f" ({ratio.low:.2f}-{ratio.high:.2f})" if len(values) > 1 else ""
    return f"{middle} x{ratio.median:.2f}{spread}"


def figure(value: float) -> str:
    """With three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
