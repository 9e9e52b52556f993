"""The package as users get it: built as a wheel, and installed by pip in a virtual environment of its own."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.processes import REPOSITORY

_QUIET = ["-q", "--disable-pip-version-check", "--no-compile", "--no-warn-script-location"]


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that is filled once in a run, by whichever worker needs it first; the others wait for that one.

    (The groups of pytest-xdist 3.8 do not keep tests on one worker under pytest 9.2.)
    """
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            make(folder)
    return folder


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of this checkout or of this run of the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def said_by(*command: str | Path, cwd: Path, **environment: str) -> str:
    """As `run`, for a command that has to succeed; gives what it wrote."""
    done = run(*command, cwd=cwd, **environment)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()


def wheel(factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built once in a run."""

    def build(folder: Path) -> None:
        said_by(sys.executable, "-m", "build", "--wheel", "--outdir", folder, REPOSITORY, cwd=folder)

    [built] = once(factory, "wheel", build).glob("*.whl")
    return built


@dataclass(frozen=True)
class Environment:
    """A virtual environment outside the checkout."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, interpreter: str | Path, *requirements: str | Path) -> Environment:
        """Make one and install into it."""
        said_by(interpreter, "-m", "venv", folder, cwd=folder.parent)
        made = cls(folder)
        made.install(*requirements)
        return made

    def install(self, *requirements: str | Path) -> None:
        self.run("python", "-m", "pip", "install", *_QUIET, *requirements)

    def run(self, program: str, *words: str | Path, cwd: Path | None = None, **environment: str) -> str:
        """Run one of its programs, outside the checkout unless told otherwise, and give what it wrote."""
        cache = str(self.folder / "bytecode")  # compiled when it is needed, and not into the checkout
        command = self.folder / "bin" / program
        return said_by(command, *words, cwd=cwd or self.folder, PYTHONPYCACHEPREFIX=cache, **environment)

    @property
    def site_packages(self) -> Path:
        [found] = self.folder.glob("lib/python*/site-packages")
        return found
