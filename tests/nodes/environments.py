"""An interpreter for each SDK line: the one that runs the tests where it has that SDK, else one made once in a run."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests import installed
from tests.installed import Environment

ENVIRONMENTS = "MCP_PERSIST_SA_TEST_ENVIRONMENTS"
"""A folder with virtual environments `mcp1`, `mcp2` and `fastmcp4` to use instead, as far as it has them."""

LINES: dict[str, tuple[str, str, str]] = {
    "mcp1": ("mcp", "1.", "mcp<2"),
    "mcp2": ("mcp", "2.", "mcp>=2"),
    "fastmcp4": ("fastmcp", "4.", "fastmcp>=4.1"),
}
"""For each line: its package, how its version begins, and what to ask pip for."""

MODULES: dict[str, tuple[str, ...]] = {
    "mcp1": ("mcp.server.fastmcp",),
    "mcp2": ("mcp.server.mcpserver", "mcp.server.lowlevel"),
    "fastmcp4": ("fastmcp", "fastmcp.server.auth"),
}
"""What its servers are made of, see `tests.nodes.hosts`."""

LINE_OF: dict[str, str] = {"mcpserver": "mcp2", "lowlevel": "mcp2", "fastmcp1": "mcp1", "fastmcp4": "fastmcp4"}
"""The line of each host."""


def interpreter(line: str, factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with that SDK."""
    package, beginning, requirement = LINES[line]
    given = Path(os.environ.get(ENVIRONMENTS, os.devnull)) / line / "bin" / "python"
    if given.exists():
        return given
    if _installed_here(package).startswith(beginning):
        return Path(sys.executable)
    wheel = installed.wheel(factory)

    def make(folder: Path) -> None:
        Environment.make(folder / "venv", sys.executable, f"{wheel}[postgres,redis]", requirement, "uvicorn")

    return installed.once(factory, f"environment-{line}", make) / "venv" / "bin" / "python"


def _installed_here(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
