"""Where a Chromium for the tests is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

VARIABLE = "MCP_PERSIST_SA_TEST_CHROMIUM"
REMEDY = f"apt-get install chromium, or name its program in {VARIABLE}"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> Path | None:
    """Return its program, None where there is none."""
    named = os.environ.get(VARIABLE)
    found = next(filter(None, map(shutil.which, [named] if named else _NAMES)), None)
    return Path(found) if found else None
