"""Statements of the hot paths, by themselves."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mcp_persist_sa.backends.sql.hot import Rowwise
from mcp_persist_sa.dsn import parse
from mcp_persist_sa.engine import sqlite_engine
from mcp_persist_sa.options import Options


@pytest.mark.parametrize("backwards", [False, True])
def test_rows_that_come_all_at_once_are_put_in_order(backwards: bool) -> None:
    """A server may answer the parts of a UNION in any order."""
    numbers: Any = sa.union_all(*(sa.select(sa.literal_column(str(number))) for number in (2, 3, 1)))
    with sa.create_engine("sqlite://").connect() as connection:
        found = [row[0] for row in Rowwise([numbers], numbers, backwards=backwards).each(connection, {})]
    assert found == sorted(found, reverse=backwards)
    assert len(found) == 3


def test_rows_that_come_when_they_are_wanted_are_as_of_one_moment(tmp_path: Path) -> None:
    """Whatever is written between two statements."""
    numbers = sa.table("numbers", sa.column("number", sa.Integer()))
    none = sa.select(numbers).where(numbers.c.number < 1)
    rowwise = Rowwise([none, sa.select(numbers)], sa.select(numbers), backwards=False)
    path = tmp_path / "numbers.db"
    engine = sqlite_engine(parse(f"sqlite:///{path}"), Options())
    with closing(sqlite3.connect(path, isolation_level=None)) as other, engine.connect() as connection:
        other.execute("CREATE TABLE numbers (number INTEGER)")
        other.execute("INSERT INTO numbers VALUES (0), (1)")
        rows = rowwise.each(connection, {})
        assert next(rows) == (0,)
        other.execute("INSERT INTO numbers VALUES (2)")
        assert [*rows] == [(0,), (1,)]
        assert [*rowwise.each(connection, {})] == [(0,), (0,), (1,), (2,)]
    engine.dispose()
