"""A picture of a series: for each point and contestant, the ratio to the reference and its spread."""

from __future__ import annotations

import math
import re
from html import escape

from benchmarks.figures import Series, Spread
from benchmarks.report import figure

_WIDTH, _RIGHT, _ROW, _TOP, _BOTTOM = 760, 90, 18, 62, 30
_LETTER = 6.7
_COLOURS = ["#1769aa", "#d1602b", "#3b8751", "#8456a3", "#777777"]


def file_name(series: Series) -> str:
    """Letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", series.name.lower()).strip("-")


def is_worth_one(series: Series) -> bool:
    """Whether there is anything to compare."""
    return any(name != series.reference for name in series.contestants)


def drawn(series: Series) -> str:
    """As SVG, on a logarithmic axis: twice as good is as far from the line as half as good."""
    names = [name for name in series.contestants if name != series.reference]
    rows = [
        (point, name, ratio)
        for point in series.points
        for name in names
        if (ratio := series.ratio(point, name)) is not None
    ]
    groups = [point for point in series.points if any(row[0] == point for row in rows)]
    height = _TOP + _ROW * len(rows) + 10 * len(groups) + _BOTTOM
    left = max(130.0, 30 + _LETTER * max(map(len, groups), default=0))
    axis = _Axis([value for _, _, ratio in rows for value in ratio], left)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _text(10, 20, series.name, size=14, weight="bold"),
        *_legend(series, names),
        *_grid(axis, series.reference, height),
        *_rows(series, rows, names, axis),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Axis:
    """From ratios to places."""

    def __init__(self, values: list[float], left: float) -> None:
        self._left = left
        self.low = min([*values, 0.9]) * 0.95
        self.high = max([*values, 1.1]) * 1.05

    def at(self, ratio: float) -> float:
        share = math.log(ratio / self.low) / math.log(self.high / self.low)
        return self._left + share * (_WIDTH - self._left - _RIGHT)

    @property
    def ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        candidates = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
        return [tick for tick in candidates if self.low <= tick <= self.high]


def _text(x: float, y: float, text: str, *, size: int = 12, weight: str = "", anchor: str = "", fill: str = "") -> str:
    given = {"font-size": str(size), "font-weight": weight, "text-anchor": anchor, "fill": fill}
    attributes = " ".join(f'{name}="{value}"' for name, value in given.items() if value)
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}</text>'


def _legend(series: Series, names: list[str]) -> list[str]:
    parts: list[str] = []
    x = 10.0
    for name, colour in zip(names, _COLOURS, strict=False):
        parts += [f'<circle cx="{x + 5}" cy="36" r="4" fill="{colour}"/>', _text(x + 14, 40, name)]
        x += 30 + _LETTER * len(name)
    parts.append(_text(_WIDTH - 10, 40, f"{series.unit}, {series.better} is better", anchor="end", fill="#555"))
    return parts


def _grid(axis: _Axis, reference: str, height: float) -> list[str]:
    parts: list[str] = []
    for tick in axis.ticks:
        x, colour = axis.at(tick), "#333" if tick == 1 else "#ddd"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="50" y2="{height - 26}" stroke="{colour}"/>')
        label = f"{reference} = 1" if tick == 1 else f"{tick:g}"
        parts.append(_text(x, height - 10, label, size=11, anchor="middle", fill="#555"))
    return parts


def _rows(series: Series, rows: list[tuple[str, str, Spread]], names: list[str], axis: _Axis) -> list[str]:
    parts: list[str] = []
    y, previous = float(_TOP), ""
    for point, name, ratio in rows:
        if point != previous:
            y += 10 if previous else 0
            parts.append(_text(10, y + 4, point))
            previous = point
        colour = _COLOURS[names.index(name) % len(_COLOURS)]
        low, middle, high = (axis.at(value) for value in ratio)
        value = figure(Spread.of(series.points[point][name]).median)
        parts += [
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/>',
            f'<circle cx="{middle:.1f}" cy="{y}" r="4.5" fill="{colour}"/>',
            _text(_WIDTH - 10, y + 4, f"{value}  x{ratio.median:.2f}", size=11, anchor="end", fill=colour),
        ]
        y += _ROW
    return parts
