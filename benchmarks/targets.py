"""What the ratios to the peer should be: first what must hold, then what is wanted."""

from __future__ import annotations

from benchmarks.contestants.ours import APPEND, CLAIM, PARSED, TEXT
from benchmarks.figures import Series

Target = tuple[float, float]

_STORE = "store 344 bytes, a stream each"
_STORE_LARGE = "store 8192 bytes, a stream each"
_REPLAY = "replay, 344 bytes each"
_REPLAY_LARGE = "replay, 8192 bytes each"

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
}

_OURS = (CLAIM, APPEND, TEXT, PARSED)
"""The ways of this package, the one that the SDK's seam uses before the other of its kind."""


def verdict(series: Series, point: str) -> str:
    """The target of a point, and whether it is met; empty where there is none."""
    target = TARGETS.get((series.title, series.backend), {}).get(point)
    ratios = [series.ratio(point, name) for name in _OURS]
    ratio = next((ratio for ratio in ratios if ratio is not None), None)
    if target is None or ratio is None:
        return ""
    must, wish = target
    met = "reached" if ratio.median >= wish else "held" if ratio.median >= must else "MISSED"
    return f"{must:g} / {wish:g} {met}"
