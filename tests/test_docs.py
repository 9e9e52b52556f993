"""Every Python example of the README and the docs runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1)
]

RUN_ITS_FUNCTIONS = """

import asyncio, inspect, mcp_persist_sa

async def run_all():
    for function in [value for value in list(globals().values()) if inspect.iscoroutinefunction(value)]:
        if function.__name__ == "run_all":
            continue
        async with mcp_persist_sa.open_store("sqlite://") as store:
            await function(*[store, "session"][: len(inspect.signature(function).parameters)])

asyncio.run(run_all())
"""


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(example: str, tmp_path: Path) -> None:
    runs_itself = "asyncio.run(" in example
    script = tmp_path / "example.py"
    script.write_text(example if runs_itself else example + RUN_ITS_FUNCTIONS)
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"Traceback|Warning", done.stderr), done.stderr


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(((?!http)[^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
