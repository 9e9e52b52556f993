"""Up, down and up again at every revision, with rows in every table."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.util import CommandError

from mcp_persist_sa.schema import VERSION_TABLE, metadata
from tests.migrations.extra import EXPAND, FAMILY, REBUILD, REBUILD_PARENTS, UNBUILD, UNEXPAND, add_revision
from tests.migrations.support import Rows, Target, contents, create_model, scripts, seed


def climb(target: Target, folder: Path | None = None) -> None:
    """Go up, down and up again at each revision; rows that are there stay, as far as their table does."""
    steps = list(reversed(list(scripts(folder).walk_revisions())))
    for number, script in enumerate(steps, 1):
        below = script.down_revision
        before = contents(target)
        target.upgrade(script.revision, folder)
        assert target.revision() == script.revision
        assert target.versions() == [script.revision]
        assert _counts(contents(target), before) == _counts(before, before)
        seed(target, number)
        full = contents(target)
        target.downgrade(str(below or "mcp_persist_sa@base"), folder)
        if below is not None:
            assert target.revision() == below
            assert _counts(contents(target), before) == {name: len(full[name]) for name in before}
        target.upgrade(script.revision, folder)
        if below is None:
            seed(target, number)
        assert {name for name, rows in contents(target).items() if rows} >= before.keys()


def _counts(rows: Rows, of: Rows) -> dict[str, int]:
    return {name: len(found) for name, found in rows.items() if name in of}


def test_each_revision_goes_up_and_down_and_up_with_rows_present(target: Target) -> None:
    climb(target)
    target.check()


def test_the_stairs_hold_for_expanding_and_rebuilding_revisions(target: Target, folder: Path) -> None:
    add_revision(folder, EXPAND, UNEXPAND)
    add_revision(folder, REBUILD, UNBUILD)
    add_revision(folder, FAMILY, 'op.drop_table("mcp_children")\nop.drop_table("mcp_parents")')
    add_revision(folder, REBUILD_PARENTS)
    climb(target, folder)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            'with op.batch_alter_table("mcp_sessions") as batch:\n'
            '    batch.add_column(sa.Column("level", sa.Integer(), nullable=False, server_default="0"))\n'
            '    batch.alter_column("level", server_default=None)',
            id="only-empty-tables",
        ),
        pytest.param('op.execute("DELETE FROM mcp_events")', id="loses-rows"),
    ],
)
def test_the_stairs_find_a_revision_that_does_not_bear_rows(sqlite_target: Target, folder: Path, fault: str) -> None:
    add_revision(folder, fault, "pass")
    with pytest.raises((AssertionError, CommandError)):
        climb(sqlite_target, folder)


def test_the_stairs_find_a_revision_that_does_not_say_where_it_is(target: Target, folder: Path) -> None:
    revision = add_revision(folder, "pass")
    path = folder / "versions" / f"{revision}_extra.py"
    path.write_text(path.read_text().replace("UPDATE mcp_schema", "-- "))
    with pytest.raises(AssertionError):
        climb(target, folder)


def test_the_way_down_leaves_nothing_but_an_empty_version_table(target: Target) -> None:
    target.upgrade()
    seed(target, 1)
    target.downgrade("mcp_persist_sa@base")
    assert target.tables() == {VERSION_TABLE}
    assert target.versions() == []


def test_the_migrations_make_what_the_model_says_by_the_catalogue_of_the_database(
    target: Target, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    target.upgrade()
    migrated = {line for line in target.structure() if not line[0].startswith(VERSION_TABLE)}
    target.downgrade("base")
    create_model(target)
    assert migrated == {line for line in target.structure() if not line[0].startswith(VERSION_TABLE)}
    assert {line[0] for line in migrated} >= metadata.tables.keys()
