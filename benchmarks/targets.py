"""What the figures should be."""

from __future__ import annotations

from benchmarks.contestants.ours import CLAIM, PARSED, TEXT
from benchmarks.figures import OURS, Series, Spread

Target = tuple[float, float]

_STORE = "store 344 bytes, a stream each"
_STORE_LARGE = "store 8192 bytes, a stream each"
_REPLAY = "replay, 344 bytes each"
_REPLAY_LARGE = "replay, 8192 bytes each"
_FIRST = "first event of a replay, 344 bytes each"
_CALLS = "latency of a request, SSE"
_CALL = "tools/call with 20 progress events"
_STALL = "longest stall of a writer during a purge"
_GROWTH = "growth of the replay of 1,000 events among others"

TARGETS: dict[tuple[str, str], dict[str, Target]] = {
    (_STORE, "SQLite FULL"): {
        "1 caller": (1.7, 1.95),
        "10 callers": (2.4, 2.7),
        "50 callers": (3.6, 4.2),
        "200 callers": (4.3, 5.1),
    },
    (_STORE, "SQLite NORMAL"): {"1 caller": (2.8, 2.8)},
    (_STORE, "Postgres"): {
        "1 caller": (1.35, 1.5),
        "10 callers": (2.8, 3.0),
        "50 callers": (6, 8),
        "200 callers": (9.5, 12),
    },
    (_STORE, "Redis"): {
        "1 caller": (1.15, 1.4),
        "10 callers": (3.0, 3.8),
        "50 callers": (5, 6.3),
        "200 callers": (5.8, 7),
    },
    (_STORE_LARGE, "SQLite FULL"): {"50 callers": (1.9, 2.3)},
    (_STORE_LARGE, "Postgres"): {"50 callers": (2.4, 4)},
    (_STORE_LARGE, "Redis"): {"50 callers": (1.8, 2)},
    (_REPLAY, "SQLite"): {"100 events": (4.7, 5.2), "1,000 events": (3, 4.4), "10,000 events": (3.1, 4.1)},
    (_REPLAY, "Postgres"): {"100 events": (3, 3.2), "1,000 events": (3, 3.3), "10,000 events": (3.5, 3.7)},
    (_REPLAY, "Redis"): {"100 events": (3, 3.2), "1,000 events": (3.4, 3.6), "10,000 events": (3.4, 3.6)},
    (_REPLAY_LARGE, "SQLite"): {"10,000 events": (5, 5.3)},
    (_REPLAY_LARGE, "Postgres"): {"10,000 events": (5, 5.3)},
    (_REPLAY_LARGE, "Redis"): {"10,000 events": (4.4, 4.6)},
    # Beside the bare SDK without a store: at most 15 percent (on Postgres 25) longer.
    (_CALLS, "SQLite"): {_CALL: (1 / 1.15, 1 / 1.15)},
    (_CALLS, "Postgres"): {_CALL: (1 / 1.25, 1 / 1.25)},
    (_CALLS, "Redis"): {_CALL: (1 / 1.15, 1 / 1.15)},
}
"""Ratios: first what must hold, then what is wished for."""

AT_MOST: dict[tuple[str, str], dict[str, float]] = {
    (_FIRST, "SQLite"): {"10,000 events": 0.6},
    (_FIRST, "Postgres"): {"10,000 events": 1},
    (_FIRST, "Redis"): {"10,000 events": 0.6},
    (_STALL, "SQLite"): {"1,000,000 expired events, 10 writers": 30},
    (_STALL, "Postgres"): {"1,000,000 expired events, 10 writers": 5},
    (f"{_GROWTH}, warm", "SQLite"): {"10,000 others to 3,000,000 others": 1.4},
    (f"{_GROWTH}, warm", "Postgres"): {"10,000 others to 3,000,000 others": 1.1},
    (f"{_GROWTH}, cold", "SQLite"): {"10,000 others to 3,000,000 others": 2},
    (f"{_GROWTH}, cold", "Postgres"): {"10,000 others to 3,000,000 others": 5},
}
"""Figures of our own that should not be passed, whatever the peer does."""

_WAYS = {CLAIM: "", TEXT: "text ", PARSED: "parsed ", OURS: ""}
"""The ways of this package that are held to the targets, and how they are called beside them."""


def verdict(series: Series, point: str) -> str:
    """The target of a point, and which of our ways meet it; empty where there is none."""
    ways = {name: called for name, called in _WAYS.items() if name in series.points[point]}
    target = TARGETS.get((series.title, series.backend), {}).get(point)
    limit = AT_MOST.get((series.title, series.backend), {}).get(point)
    if target is not None:
        found = [f"{called}{_beside(target, series.ratio(point, name))}" for name, called in ways.items()]
        return f"x{target[0]:.3g} / {target[1]:.3g}: {', '.join(found)}"
    if limit is not None:
        medians = {called: Spread.of(series.points[point][name]).median for name, called in ways.items()}
        found = [f"{called}{'held' if median <= limit else 'MISSED'}" for called, median in medians.items()]
        return f"{limit:g} {series.unit}: {', '.join(found)}"
    return ""


def _beside(target: Target, ratio: Spread | None) -> str:
    if ratio is None:
        return "not measured"
    must, wish = target
    return "reached" if ratio.median >= wish else "held" if ratio.median >= must else "MISSED"
