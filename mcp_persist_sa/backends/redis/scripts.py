"""The scripts that the server runs, each at once and alone."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

_FOLDER = Path(__file__).with_name("scripts")


@dataclass(frozen=True)
class Script:
    """A script and the name under which the server keeps it."""

    source: str
    digest: str


def _load(name: str) -> Script:
    source = "\n".join((_FOLDER / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
    return Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


APPEND = _load("append")
FIGURES = _load("figures")
INDEX = _load("index")
LIMITS = _load("limits")
NODE = _load("node")
OUTLINE = _load("outline")
PARCEL = _load("parcel")
READ = _load("read")
RIGHTS = _load("rights")
SESSION = _load("session")
STATE = _load("state")
STREAMS = _load("streams")
TIDY = _load("tidy")
