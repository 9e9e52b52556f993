"""Statements of the hot paths: defined in Core like all others, but compiled once.

What `Connection.execute` does for each execution (cache keys, parameters by name, typed results) costs more than SQLite
needs for the statement itself. Here it is done when the statement first meets a dialect; then its text is run with the
parameters in their places. Results are as the driver gives them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import repeat
from operator import methodcaller
from typing import Any, NamedTuple

import sqlalchemy as sa

from mcp_persist_sa.engine import OURS
from mcp_persist_sa.faults import DriverError

Values = Mapping[str, Any]


class _Parameter(NamedTuple):
    name: str
    default: Any
    convert: Callable[[Any], Any] | None


class _Compiled:
    """The text of a statement for one dialect and schema, and its parameters in their order."""

    def __init__(self, statement: Any, dialect: sa.Dialect, schemas: Any) -> None:
        translation: dict[str, Any] = {"schema_translate_map": schemas, "render_schema_translate": True}
        compiled = statement.compile(dialect=dialect, **(translation if schemas else {}))
        self.text = str(compiled)
        self._by_name = not compiled.positional
        self._parameters = [
            _Parameter(name, compiled.params[name], _converter(compiled.binds[name], dialect))
            for name in compiled.positiontup or compiled.params
        ]

    def row(self, values: Values) -> Any:
        """The parameters as the driver takes them."""
        row: list[Any] = []
        for name, default, convert in self._parameters:
            value = values.get(name, default)
            row.append(value if convert is None else convert(value))
        if self._by_name:
            return self._named(row)
        return tuple(row)

    def rows(self, names: Sequence[str], rows: Sequence[Sequence[Any]], common: Values) -> list[Any]:
        """The parameters of many executions; the values that are common to all go by name."""
        places = {name: place for place, name in enumerate(names)}
        columns: list[Iterable[Any]] = []
        for name, default, convert in self._parameters:
            place = places.get(name)
            values = [common.get(name, default)] if place is None else [row[place] for row in rows]
            converted = values if convert is None else [convert(value) for value in values]
            columns.append(repeat(converted[0], len(rows)) if place is None else converted)
        found = zip(*columns, strict=True)
        return [self._named(row) for row in found] if self._by_name else list(found)

    def _named(self, row: Sequence[Any]) -> dict[str, Any]:
        return dict(zip((parameter.name for parameter in self._parameters), row, strict=True))


def _converter(parameter: sa.BindParameter[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    return parameter.type.dialect_impl(dialect).bind_processor(dialect)


class Hot:
    """A statement that is compiled once."""

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, str, str | None], _Compiled] = {}

    def rows(self, connection: sa.Connection, values: Values) -> list[Any]:
        """Run it, and give its rows as the driver does.

        Args:
            connection: Where.
            values: The parameters by their names; others are left alone.
        """
        return list(self.each(connection, values))

    def each(self, connection: sa.Connection, values: Values) -> Generator[Any, None, None]:
        """As `rows`, but run when the first row is wanted; SQLite's driver is asked for each when it is wanted."""
        compiled = self._for(connection)
        row = compiled.row(values)
        direct = _direct(connection)
        if direct is None:
            result = connection.exec_driver_sql(compiled.text, row)
            yield from result.all() if result.returns_rows else ()
            return
        try:
            yield from direct(compiled.text, row)
        except (OSError, asyncio.TimeoutError):
            raise
        except Exception as error:
            raise DriverError(str(error)) from error

    def for_each(
        self, connection: sa.Connection, names: Sequence[str], rows: Sequence[Sequence[Any]], common: Values
    ) -> None:
        """Run it for each row.

        Args:
            connection: Where.
            names: Of the parameters that a row holds.
            rows: At least one.
            common: The other parameters by their names.
        """
        compiled = self._for(connection)
        connection.exec_driver_sql(compiled.text, compiled.rows(names, rows, common))

    def _for(self, connection: sa.Connection) -> _Compiled:
        dialect = connection.dialect
        schemas = connection.get_execution_options().get("schema_translate_map")
        key = (dialect.name, dialect.driver, None if schemas is None else schemas[None])
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = _Compiled(self._statement, dialect, schemas)
        return compiled


class Rowwise:
    """A statement in two forms: for rows that come when they are wanted, and for rows that come all at once."""

    def __init__(self, row_by_row: Any, at_once: Any) -> None:
        self._row_by_row = Hot(row_by_row)
        self._at_once = Hot(at_once)

    def each(self, connection: sa.Connection, values: Values) -> Generator[Any, None, None]:
        """The rows of the form that suits the connection."""
        is_row_by_row = connection.dialect.driver == "pysqlite" and is_ours(connection)
        return (self._row_by_row if is_row_by_row else self._at_once).each(connection, values)


def is_ours(connection: sa.Connection) -> bool:
    """Whether it is of an engine of our own: to another one, somebody may have hooked something."""
    return bool(connection.get_execution_options().get(OURS))


def _direct(connection: sa.Connection) -> Callable[[str, Any], Iterable[Any]] | None:
    """How to run a statement on the driver's own connection; None where SQLAlchemy has to be asked."""
    if not is_ours(connection):
        return None
    pooled: Any = connection.connection
    if connection.dialect.driver == "pysqlite":
        return pooled.driver_connection.execute
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        run_async = pooled.dbapi_connection.run_async
        return lambda text, row: run_async(methodcaller("fetch", text, *row))
    return None
