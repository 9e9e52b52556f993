"""Some runs together: for everything that has a target, what it was in each, as a table of Markdown.

    python -m benchmarks.summary run-1.json run-2.json run-3.json

The files are those of `--json`. A figure is the median of the runs' medians; in brackets, the least and the most of
them.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.contestants import bare
from benchmarks.contestants.ours import CLAIM, TEXT
from benchmarks.figures import OURS, PEER, Series, Spread
from benchmarks.targets import AT_MOST, TARGETS

_WAYS = (CLAIM, TEXT, OURS)
"""As it is used: a stream of one writer, and a GET that is answered with text."""


def main() -> None:
    """Print the table."""
    runs = [_read(Path(name)) for name in sys.argv[1:]]
    if not runs:
        sys.exit(__doc__)
    print("| | ours | bare driver | grouped | wanted | |\n|---|---|---|---|---|---|")
    for name in runs[0]:
        for line in _lines([run[name] for run in runs if name in run]):
            print(line)


def _read(path: Path) -> dict[str, Series]:
    found: dict[str, Series] = {}
    for fields in json.loads(path.read_text())["series"]:
        points = {each["point"]: each["figures"] for each in fields.pop("points")}
        series = Series(**fields, points=points)
        found[series.name] = series
    return found


def _lines(series: Sequence[Series]) -> Iterator[str]:
    """The rows of one kind of work, from each run."""
    first = series[0]
    key = (first.title, first.backend)
    for point in first.points:
        target, limit = TARGETS.get(key, {}).get(point), AT_MOST.get(key, {}).get(point)
        if target is None and limit is None:
            continue
        for way in _WAYS:
            if way not in first.points[point]:
                continue
            ours = _figures(series, point, way, is_ratio=target is not None)
            wanted = f"{limit:g} {first.unit}" if target is None else f"{target[0]:.2f} / {target[1]:.2f}"
            held = ours.median <= (limit or 0) if target is None else ours.median >= target[0]
            limits = " | ".join(_limit(series, point, name) for name in (bare.NAME, bare.GROUPED))
            what = f"{first.backend}: {first.title}, {point}"
            print_as = _shown(ours) if target is not None else f"{_shown(ours)} {first.unit}{_peer(series, point)}"
            yield f"| {what} | {print_as} | {limits} | {wanted} | {'held' if held else 'missed'} |"


def _figures(series: Sequence[Series], point: str, way: str, *, is_ratio: bool) -> Spread:
    """The least, the median and the most of the runs."""
    figures: list[float] = []
    for each in series:
        ratio = each.ratio(point, way)
        if not is_ratio:
            figures.append(Spread.of(each.points[point][way]).median)
        elif ratio is not None:
            figures.append(ratio.median)
    return Spread(min(figures), statistics.median(figures), max(figures))


def _limit(series: Sequence[Series], point: str, name: str) -> str:
    return _shown(_figures(series, point, name, is_ratio=True)) if name in series[0].points[point] else ""


def _peer(series: Sequence[Series], point: str) -> str:
    if any(PEER not in each.points[point] for each in series):
        return ""
    return f"; {PEER} {_shown(_figures(series, point, PEER, is_ratio=False))}"


def _shown(spread: Spread) -> str:
    return f"{spread.median:,.3g} ({spread.low:,.3g}-{spread.high:,.3g})"


if __name__ == "__main__":
    main()
