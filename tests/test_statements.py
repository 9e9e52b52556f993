"""Statements of the hot paths, by themselves."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from mcp_persist_sa.backends.sql.hot import Rowwise


@pytest.mark.parametrize("backwards", [False, True])
def test_rows_that_come_all_at_once_are_put_in_order(backwards: bool) -> None:
    """A server may answer the parts of a UNION in any order."""
    numbers = sa.union_all(*(sa.select(sa.literal_column(str(number))) for number in (2, 3, 1)))
    with sa.create_engine("sqlite://").connect() as connection:
        found = [row[0] for row in Rowwise(numbers, numbers, backwards=backwards).each(connection, {})]
    assert found == sorted(found, reverse=backwards)
    assert len(found) == 3
