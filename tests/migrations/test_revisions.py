"""The revisions as files."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from alembic import command

from mcp_persist_sa.migrate import alembic_config, script_location
from mcp_persist_sa.schema import HEAD
from tests.migrations.support import Target, scripts

FILES = sorted((script_location() / "versions").glob("*.py"))


def test_there_is_one_head_and_one_base() -> None:
    assert len(scripts().get_heads()) == 1
    assert len(scripts().get_bases()) == 1


def test_the_head_is_the_revision_for_which_this_code_was_written() -> None:
    assert scripts().get_current_head() == HEAD


def test_revision_ids_are_numbered_and_ours_so_that_a_host_can_have_them_among_its_own() -> None:
    ids = [script.revision for script in reversed(list(scripts().walk_revisions()))]
    assert ids == [f"mcp_persist_sa_{number:04}" for number in range(1, len(ids) + 1)]
    assert all(len(revision) <= 32 for revision in ids), "alembic_version.version_num is a VARCHAR(32)"


def test_the_files_are_named_after_their_revisions() -> None:
    assert [path.name.rpartition("_")[0] or path.stem for path in FILES]
    for script in scripts().walk_revisions():
        assert Path(script.path).name.startswith(f"{script.revision}_")


def test_only_the_first_revision_names_our_branch() -> None:
    labels = {script.revision: script.module.branch_labels for script in scripts().walk_revisions()}
    base = scripts().get_base()
    assert {revision for revision, label in labels.items() if label} == {base}
    assert labels[base or ""] == ("mcp_persist_sa",)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_revision_imports_nothing_of_the_package(path: Path) -> None:
    assert _imported(path.read_text()) <= {"alembic", "sqlalchemy"} | sys.stdlib_module_names


@pytest.mark.parametrize(
    "source",
    [
        "import mcp_persist_sa.schema",
        "from mcp_persist_sa import schema",
        "def upgrade():\n  from mcp_persist_sa import x",
    ],
)
def test_an_import_of_the_package_would_be_seen(source: str) -> None:
    assert _imported(source) == {"mcp_persist_sa"}


def _imported(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add("." if node.level else (node.module or "").partition(".")[0])
    return found


def test_the_template_gives_a_revision_that_goes_up_and_down_and_says_where_it_is(target: Target, folder: Path) -> None:
    config = alembic_config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    made = command.revision(config, "what it does", rev_id=f"mcp_persist_sa_{int(HEAD[-4:]) + 1:04}")
    assert made is not None
    assert not isinstance(made, list)
    assert re.search(r"_0*\d+_what_it_does\.py$", made.path)
    target.upgrade(folder=folder)
    assert target.revision() == made.revision
    target.downgrade("-1", folder=folder)
    assert target.revision() == HEAD
