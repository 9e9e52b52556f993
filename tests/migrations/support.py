"""What the tests of migrations do to a database from outside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.dialects.postgresql import INTERVAL

from mcp_persist_sa import migrate
from mcp_persist_sa.migrate import alembic_config
from mcp_persist_sa.schema import VERSION_TABLE, metadata, revisions


@dataclass(frozen=True)
class Target:
    """A database with nothing in it."""

    kind: str
    dsn: str

    @property
    def is_postgres(self) -> bool:
        return self.kind == "postgresql"

    @property
    def async_url(self) -> str:
        """For an engine of asyncio of the caller's own."""
        driver = "asyncpg" if self.is_postgres else "aiosqlite"
        return self.dsn.replace(f"{self.kind}://", f"{self.kind}+{driver}://")

    def config(self, folder: Path | None = None, **attributes: Any) -> Config:
        """Alembic's configuration for this database, with other migrations than ours if need be."""
        config = alembic_config(dsn=self.dsn, **attributes)
        if folder is not None:
            config.set_main_option("script_location", str(folder))
        return config

    def upgrade(self, revision: str = "head", folder: Path | None = None, **attributes: Any) -> None:
        command.upgrade(self.config(folder, **attributes), revision)

    def downgrade(self, revision: str, folder: Path | None = None, **attributes: Any) -> None:
        command.downgrade(self.config(folder, **attributes), revision)

    def check(self, folder: Path | None = None, **attributes: Any) -> None:
        command.check(self.config(folder, **attributes))

    def execute(self, *statements: str) -> None:
        def work(connection: sa.Connection) -> None:
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.commit()

        migrate.on_own_connection(self.dsn, work)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        migrate.on_own_connection(self.dsn, lambda c: found.extend(tuple(row) for row in c.exec_driver_sql(query)))
        return found

    def revision(self) -> str:
        """What the tables say of themselves."""
        return self.rows("SELECT revision FROM mcp_schema")[0][0]

    def versions(self) -> list[str]:
        """What Alembic says of them."""
        return [row[0] for row in self.rows(f"SELECT version_num FROM {VERSION_TABLE}")]

    def tables(self) -> set[str]:
        found: set[str] = set()
        migrate.on_own_connection(self.dsn, lambda c: found.update(sa.inspect(c).get_table_names()))
        return found

    def structure(self, schema: str = "public") -> set[tuple[str, ...]]:
        """All that the database's own catalogue says of the tables, their constraints and their indexes."""
        if self.is_postgres:
            return {row[1:] for query in _CATALOGUE for row in self.rows(query) if row[0] == schema}
        return {(name, line) for name, sql in self.rows(_SQLITE_CATALOGUE) for line in _lines(sql)}


def scripts(folder: Path | None = None) -> ScriptDirectory:
    config = alembic_config()
    if folder is not None:
        config.set_main_option("script_location", str(folder))
    return ScriptDirectory.from_config(config)


_SQLITE_CATALOGUE = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
_CATALOGUE = [
    """
    SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
      a.attcollation::regcollation::text, coalesce(pg_get_expr(d.adbin, d.adrelid), ''), a.attidentity::text
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    """,
    """
    SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    """,
    """
    SELECT schemaname, tablename, indexname, replace(indexdef, format('%I.', schemaname), '') FROM pg_indexes
    """,
]


def _lines(sql: str) -> list[str]:
    """The parts of a CREATE TABLE, whatever their order and their blanks."""
    return [re.sub(r"\s+", " ", line).strip(" ,") for line in sql.replace('"', "").splitlines()]


def values(table: sa.Table, number: int) -> dict[str, Any]:
    """A row for a table of which only the columns are known; `number` tells rows apart."""
    return {column.name: _value(column.type, number) for column in table.columns}


def _value(kind: sa.types.TypeEngine[Any], number: int) -> Any:
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, sa.Integer):
        return number
    if isinstance(kind, sa.DateTime):
        return datetime(2026, 1, number, tzinfo=timezone.utc)
    if isinstance(kind, sa.Interval | INTERVAL):
        return timedelta(seconds=number)
    return f"{number}"


Rows = Mapping[str, list[tuple[Any, ...]]]


def seed(target: Target, number: int) -> None:
    """Add a row to each table that there is, whatever its columns are at this revision."""

    def work(connection: sa.Connection) -> None:
        for table in _tables(connection).values():
            connection.execute(table.insert(), values(table, number))
        connection.commit()

    migrate.on_own_connection(target.dsn, work)


def contents(target: Target, only: Rows | None = None) -> Rows:
    """The rows of each table; with `only`, the tables and columns that were there before."""
    found: dict[str, list[tuple[Any, ...]]] = {}

    def work(connection: sa.Connection) -> None:
        for name, table in _tables(connection).items():
            found[name] = sorted(tuple(row) for row in connection.execute(sa.select(table)))

    migrate.on_own_connection(target.dsn, work)
    return found if only is None else {name: rows for name, rows in found.items() if name in only}


def _tables(connection: sa.Connection) -> dict[str, sa.Table]:
    reflected = sa.MetaData()
    reflected.reflect(connection)
    return {table.name: table for table in reflected.sorted_tables if table.name not in (VERSION_TABLE, revisions.name)}


def create_model(target: Target) -> None:
    """The tables as the model has them, past Alembic."""

    def work(connection: sa.Connection) -> None:
        metadata.create_all(connection)
        connection.commit()

    migrate.on_own_connection(target.dsn, work)


__all__ = ["Rows", "Target", "closing", "contents", "create_model", "scripts", "seed", "values"]
