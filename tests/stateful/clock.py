"""The time of an example: it goes on by itself only so far that no two moments are equal."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone


class Clock:
    """As `options.clock` takes it, shared by all nodes."""

    def __init__(self) -> None:
        self._base = datetime(2030, 1, 1, tzinfo=timezone.utc)
        self._looks = itertools.count(1)

    def __call__(self) -> datetime:
        # Two threads may look at once: `next` gives each its own number.
        return self._base + timedelta(microseconds=next(self._looks))

    def advance(self, seconds: float) -> None:
        self._base += timedelta(seconds=seconds)
