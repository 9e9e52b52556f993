"""What was measured: series of points, each with a figure of every contestant for every round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Better = Literal["higher", "lower"]

OURS = "ours"
PEER = "mcp-persist"
"""The contestant with which the others are compared, where nothing else is said."""


class Spread(NamedTuple):
    """A median, and between what the middle half lies."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of the figures of some rounds."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


@dataclass
class Series:
    """One kind of work on one kind of database, at some points such as numbers of callers.

    Attributes:
        workload: The module that measured it.
        title: What was done.
        backend: The database, and how durable it was.
        unit: Of the figures.
        better: Whether a higher figure is better.
        reference: The contestant by whose figure of the same round the others' are divided.
        points: For each point, the figures of each contestant; those of one round have the same place.
    """

    workload: str
    title: str
    backend: str
    unit: str
    better: Better
    reference: str = PEER
    points: dict[str, dict[str, list[float]]] = field(default_factory=dict[str, dict[str, list[float]]])

    @property
    def name(self) -> str:
        """What it is called everywhere."""
        return f"{self.title}, {self.backend}"

    @property
    def contestants(self) -> list[str]:
        """The reference first."""
        names = {name: None for figures in self.points.values() for name in figures}
        return sorted(names, key=lambda name: name != self.reference)

    def record(self, point: str, figures: Mapping[str, Sequence[float]]) -> None:
        """Keep what was measured at a point."""
        self.points.setdefault(point, {}).update({name: list(values) for name, values in figures.items()})

    def ratio(self, point: str, contestant: str) -> Spread | None:
        """How many times better than the reference a contestant was, round by round; None where one is missing."""
        figures = self.points[point]
        own, other = figures.get(contestant), figures.get(self.reference)
        if not own or not other:
            return None
        pairs = [(a, b) for a, b in zip(own, other, strict=False) if a and b]
        ratios = [a / b if self.better == "higher" else b / a for a, b in pairs]
        return Spread.of(ratios) if ratios else None

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            "workload": self.workload,
            "title": self.title,
            "backend": self.backend,
            "unit": self.unit,
            "better": self.better,
            "reference": self.reference,
            "points": [
                {
                    "point": point,
                    "figures": figures,
                    "median": {name: Spread.of(values).median for name, values in figures.items()},
                    "ratio": {
                        name: ratio._asdict() for name in figures if (ratio := self.ratio(point, name)) is not None
                    },
                }
                for point, figures in self.points.items()
            ],
        }
