"""The package as users get it: built as a wheel, and installed by pip in a virtual environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.servers.processes import REPOSITORY

_QUIET = ["-q", "--disable-pip-version-check", "--no-compile", "--no-warn-script-location"]


def run(*command: str | Path, cwd: Path, timeout: float = 280, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of this checkout or of this run of the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**inherited, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def said_by(*command: str | Path, cwd: Path, **environment: str) -> str:
    """As `run`, for a command that has to succeed; gives what it wrote."""
    done = run(*command, cwd=cwd, **environment)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout, which is not written to."""
    said_by(sys.executable, "-m", "build", "--wheel", "--outdir", folder, REPOSITORY, cwd=folder)
    [wheel] = folder.glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Environment:
    """A virtual environment outside the checkout."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, interpreter: str | Path, *requirements: str | Path) -> Environment:
        """Make one and install into it."""
        made = cls(folder)
        said_by(interpreter, "-m", "venv", folder, cwd=folder.parent)
        made.install(*requirements)
        return made

    def install(self, *requirements: str | Path) -> None:
        said_by(self.python, "-m", "pip", "install", *_QUIET, *requirements, cwd=self.folder)

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        [found] = self.folder.glob("lib/python*/site-packages")
        return found

    def run_code(self, code: str, *arguments: str) -> str:
        """Run Python code outside the checkout, and give what it printed."""
        return said_by(self.python, "-c", code, *arguments, cwd=self.folder)
