"""The package as a later release will be: other revisions, and code that is written for them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mcp_persist_sa
from mcp_persist_sa.migrate import script_location
from mcp_persist_sa.schema import HEAD
from tests.migrations.extra import add_revision

OPENER = Path(__file__).with_name("opener.py")


@dataclass(frozen=True)
class Release:
    """A release as it is installed: the migrations are in the package."""

    tree: Path
    revision: str

    @property
    def folder(self) -> Path:
        return self.tree / "mcp_persist_sa" / "migrations"

    def run(self, verb: str, dsn: str, **options: Any) -> str:
        """Open or upgrade a database with this release's code, and return what came of it."""
        command = [sys.executable, str(OPENER), str(self.tree), verb, dsn, json.dumps(options)]
        environment = {**os.environ, "PYTHONPATH": str(self.tree)}
        done = subprocess.run(command, cwd=self.tree, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def next_release(folder: Path, upgrade: str, *, contracts: bool = False) -> Release:
    """Make the release after this one, whose only difference is one more revision."""
    tree = folder / "next"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(mcp_persist_sa.__file__).parent, tree / "mcp_persist_sa", ignore=ignored)
    release = Release(tree, "")
    if not release.folder.exists():
        shutil.copytree(script_location(), release.folder, ignore=ignored)
    revision = add_revision(release.folder, upgrade, contracts=contracts)
    schema = tree / "mcp_persist_sa" / "schema.py"
    schema.write_text(schema.read_text().replace(f'HEAD = "{HEAD}"', f'HEAD = "{revision}"'))
    return Release(tree, revision)
