"""The interpreters of the machine that the package supports, besides the one that runs the tests."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers.processes import REPOSITORY


def supported() -> list[str]:
    """The versions that the package says it supports."""
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (REPOSITORY / "pyproject.toml").read_text())


def others() -> list[str]:
    """The supported versions besides the one that runs the tests."""
    return [version for version in supported() if version != f"{sys.version_info[0]}.{sys.version_info[1]}"]


@functools.cache
def find(version: str) -> Path | None:
    """The interpreter of a version: on PATH, or where pyenv keeps them."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = shutil.which(f"python{version}")
    candidates = [*([Path(on_path)] if on_path else []), *sorted(root.glob(f"{version}.*/bin/python"))]
    return next((found for found in candidates if _is(found, version)), None)


def _is(interpreter: Path, version: str) -> bool:
    """Whether it can be run at all; what stands on PATH may be a mere signpost."""
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() == version
