"""A store that takes long to answer is asked less often."""

from __future__ import annotations

from contextlib import suppress

import pytest

from mcp_persist_sa.dashboard import pace


def test_looks_take_their_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(pace, "monotonic", lambda: now)
    pacing = pace.Pace(least=2, share=20)

    def look(seconds: float, *, fails: bool = False) -> float:
        nonlocal now
        with suppress(OSError), pacing.look():
            now += seconds
            if fails:
                raise OSError
        return pacing.pause

    assert pacing.pause == 2
    assert look(0.01) == 2
    assert look(30) == 2, "it may have waited for a database that was away"
    assert look(30, fails=True) == 2
    assert look(1) == 20
    assert look(3) == 20
    assert look(3) == 60
    assert look(0.01) == 2
