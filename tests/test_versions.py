"""The core of the tests on other versions of Python, SQLAlchemy and the rest.

Each runs in a virtual environment of its own, against the server of this run. Interpreters that are not on this machine
are named at the end of the run.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests import installed, interpreters
from tests.installed import Environment
from tests.servers import PostgresServer
from tests.servers.binaries import DSN_VARIABLE
from tests.servers.processes import REPOSITORY

TOOLS = ["pytest", "pytest-asyncio", "pytest-timeout", "pytest-xdist", "hypothesis"]
CORE = ["tests/contract/test_events.py", "tests/migrations/test_stairway.py"]
CHOSEN = (
    "(sqlite or postgres) and (is_read or in_order or final or gap or tail or deleted or revision_goes or catalogue) "
    "and not (memory or engine or megabyte or long or writers)"
)
pytestmark = pytest.mark.timeout(900)

PRESENT = [version for version in interpreters.others() if interpreters.find(version)]


def lowest() -> list[str]:
    """The oldest version of each dependency that the package says it works with."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    [needed] = re.findall(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    drivers = re.findall(r"^(?:postgres|redis) = \[(.*?)\]", text, re.MULTILINE)
    return [floor.replace(">=", "==") for floor in re.findall(r'"([^"]+)"', "".join([needed, *drivers]))]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed.wheel(tmp_path_factory)


def core_passes(environment: Environment, server: PostgresServer) -> None:
    """Run the checkout's core tests with what is installed there."""
    words = ["-q", "-n", "0", "-p", "no:cacheprovider", "-k", CHOSEN, *CORE]
    said = environment.run("python", "-m", "pytest", *words, cwd=REPOSITORY, **{DSN_VARIABLE: server.dsn()})
    assert re.search(r"\d+ passed", said)
    print(said.splitlines()[-1])


def versions(environment: Environment, *names: str) -> list[str]:
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    return environment.run("python", "-c", code, *names).split()


@pytest.mark.parametrize("python", PRESENT)
def test_the_core_passes_on_other_interpreters(
    python: str, wheel: Path, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    interpreter = interpreters.find(python)
    assert interpreter is not None
    environment = Environment.make(tmp_path / "venv", interpreter, f"{wheel}[postgres,redis]", *TOOLS)
    assert environment.run("python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])") == python
    core_passes(environment, postgres_server)


def test_the_core_passes_on_sqlalchemy_2_0_and_on_the_oldest_versions_of_all_that_is_needed(
    wheel: Path, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    newest = [f"{wheel}[postgres,redis]", "sqlalchemy~=2.0.0", *TOOLS]
    environment = Environment.make(tmp_path / "venv", sys.executable, *newest)
    assert versions(environment, "sqlalchemy")[0].startswith("2.0.")
    core_passes(environment, postgres_server)
    environment.install(f"{wheel}[postgres,redis]", *lowest())
    assert versions(environment, "sqlalchemy", "alembic", "redis") == ["2.0.40", "1.19.2", "5.3.1"]
    core_passes(environment, postgres_server)


def test_this_run_is_on_sqlalchemy_2_1_where_there_is_one() -> None:
    import sqlalchemy

    assert sys.version_info < (3, 11) or sqlalchemy.__version__.startswith("2.1.")
