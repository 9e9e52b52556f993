"""The pages of the documentation, and how their examples are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from mcp_persist_sa.dsn import ENVIRONMENT
from tests.servers.processes import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """What stands in a page in a language, in its order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def block(page: Path, language: str, words: str) -> str:
    """The one among these that has the words."""
    [found] = [each for each in blocks(page, language) if words in each]
    return found


def shell(
    script: str, folder: Path, programs: Path = Path(sys.executable).parent, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run what is for a shell, with an environment's programs.

    Args:
        script: As it stands in the page.
        folder: Where it runs.
        programs: The folder of the environment's programs.
        **variables: What the reader has exported before.
    """
    inherited = {name: value for name, value in os.environ.items() if name != ENVIRONMENT}
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-ec", script],
        cwd=folder,
        env={**inherited, "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
