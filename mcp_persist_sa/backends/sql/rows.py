"""A list of rows as one parameter of a statement: the only thing that is written differently on the two dialects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.expression import FromClause
from sqlalchemy.types import TypeEngine

TEXT, BIG, INT, FLAG = sa.Text(), sa.BigInteger(), sa.Integer(), sa.Boolean()


_FEW = 8


def few(count: int) -> int | None:
    """How many rows a statement is written for that is given so many; None for any number.

    Postgres takes any array of a statement for one of ten, finds that dear beside one of few, and so plans each
    execution anew, which takes a sixth of what a single event takes.
    """
    return None if count > _FEW else 1 << (count - 1).bit_length()


@dataclass(frozen=True)
class Rows:
    """Rows given to a statement, which can select from them by their columns.

    Attributes:
        name: Of the relation, and of its parameters.
        columns: Name and type of each.
    """

    name: str
    columns: tuple[tuple[str, TypeEngine[Any]], ...]

    def relation(self, dialect: str, most: int | None = None) -> FromClause:
        """The relation, for a statement of that dialect.

        Args:
            dialect: Which.
            most: How many rows it may be given, see `few`: on Postgres, others would be left out. None for any number.
        """
        if dialect == "postgresql":
            arrays = [sa.bindparam(f"{self.name}_{name}", type_=ARRAY(type_)) for name, type_ in self.columns]
            columns = [sa.column(name, type_) for name, type_ in self.columns]
            rows = sa.func.unnest(*arrays).table_valued(*columns, name=self.name).render_derived()
            limit = sa.literal_column(str(most), INT)
            return rows if most is None else sa.select(rows).limit(limit).subquery(f"few_{self.name}")
        each = sa.func.json_each(sa.bindparam(self.name, type_=sa.Text())).table_valued("value")
        fields = [
            sa.func.json_extract(each.c.value, f"$[{position}]", type_=type_).label(name)
            for position, (name, type_) in enumerate(self.columns)
        ]
        return sa.select(*fields).cte(self.name)

    def values(self, dialect: str, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """The parameters that fill it."""
        if dialect == "postgresql":
            columns = zip(*rows, strict=True) if rows else [()] * len(self.columns)
            return {f"{self.name}_{name}": list(c) for (name, _), c in zip(self.columns, columns, strict=True)}
        return {self.name: json.dumps(rows)}
