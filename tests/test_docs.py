"""Every Python example of the README and the docs runs; what they name is there.

Those that need a server are run by the test of their page, `tests/nodes/test_walk.py`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mcp_persist_sa
from mcp_persist_sa import operations
from tests import interpreters
from tests.nodes import environments
from tests.pages import DOCS, PAGES, blocks
from tests.servers.processes import REPOSITORY

EXAMPLES = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page, "python"), 1)
    if "from mcp import Client" not in block
]

REDIS = "redis://127.0.0.1:6379/0"
"""As examples have it."""

LINE_OF = {"from mcp.server.fastmcp import": "mcp1", "from fastmcp import": "fastmcp4"}
"""Which line of the SDK an example is for, by what it imports; mcp 2.x otherwise."""

RUN_ITS_APP = """

import asyncio

async def run_app():
    async with app.router.lifespan_context(app):
        pass

asyncio.run(run_app())
"""

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


def interpreter_of(example: str, factory: pytest.TempPathFactory) -> str | Path:
    if "mcp" not in re.findall(r"^(?:from|import) (\w+)", example, re.MULTILINE) and "from fastmcp" not in example:
        return sys.executable
    line = next((line for words, line in LINE_OF.items() if words in example), "mcp2")
    return environments.interpreter(line, factory)


def whole(example: str) -> str:
    """The example, and what runs it where it does not do so itself."""
    if "asyncio.run(" in example:
        return example
    return example + (RUN_ITS_APP if re.search(r"^app = ", example, re.MULTILINE) else RUN_ITS_FUNCTIONS)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(
    example: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, new_redis: Callable[[str], str]
) -> None:
    if REDIS in example:
        example = example.replace(REDIS, new_redis("valkey").partition("?")[0])
    script = tmp_path / "example.py"
    script.write_text(whole(example))
    done = subprocess.run(
        [interpreter_of(example, tmp_path_factory), script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"Traceback|Warning", done.stderr), done.stderr


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, *(REPOSITORY / f"{name}.md" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG"))]:
        for target in re.findall(r"\]\(((?!http)[^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_reference_has_every_public_name() -> None:
    named = re.findall(r"^\.\. auto\w+:: (\w+)(?:\(\))?$", (DOCS / "reference.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted([*mcp_persist_sa.__all__, *operations.__all__])


def test_each_page_is_on_the_front_page() -> None:
    named = "".join(blocks(DOCS / "index.md", re.escape("{toctree}"))).split()
    assert {page.stem for page in DOCS.glob("*.md")} - set(named) == {"index"}


def test_extras_that_are_named_are_there() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    optional = project.partition("[project.optional-dependencies]")[2].partition("[project.scripts]")[0]
    extras = set(re.findall(r"^(\w+) = \[", optional, re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"(?:mcp-persist-sa|\$CHECKOUT)\[([\w,]+)\]", page.read_text())
        assert {name for group in named for name in group.split(",")} <= extras, page.name


def test_the_versions_are_those_of_the_package() -> None:
    page = (DOCS / "versions.md").read_text()
    rows = dict(re.findall(r"^\| ([\w-]+(?: [\w-]+)*) \| ([^|]*) \|", page, re.MULTILINE))
    called = {"Alembic": "alembic", "SQLAlchemy": "sqlalchemy[asyncio]", "redis-py": "redis"}
    project = (REPOSITORY / "pyproject.toml").read_text()
    for name in ("mcp", "fastmcp", "SQLAlchemy", "Alembic", "aiosqlite", "asyncpg", "redis-py", "opentelemetry-api"):
        floor = rows[name].split()[0]
        assert f'"{called.get(name, name)}>={floor}"' in project, name
    assert rows["Python"] == f"{interpreters.supported()[0]} to {interpreters.supported()[-1]}"
