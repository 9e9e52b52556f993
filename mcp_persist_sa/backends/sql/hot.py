"""Statements of the hot paths: defined in Core like all others, but compiled once.

What `Connection.execute` does for each execution (cache keys, parameters by name, typed results) costs more than SQLite
needs for the statement itself. Here it is done when the statement first meets a dialect; then its text is run with the
parameters in their places. Results are as the driver gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from operator import itemgetter, methodcaller
from typing import Any, NamedTuple

import sqlalchemy as sa

from mcp_persist_sa.direct import as_of_now, is_ours, sqlite_driver, translated

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

    def rows(self, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Any]:
        """The parameters of many executions, from rows that hold them under these names."""
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        found = zip(*(_converted(columns[name], convert) for name, _, convert in self._parameters), strict=True)
        return [self._named(row) for row in found] if self._by_name else list(found)

    def _named(self, row: Sequence[Any]) -> dict[str, Any]:
        return dict(zip((parameter.name for parameter in self._parameters), row, strict=True))


def _converted(column: Sequence[Any], convert: Callable[[Any], Any] | None) -> Iterable[Any]:
    """A column as the driver takes it; each value is converted once, however often it is there."""
    if convert is None:
        return column
    return map({value: convert(value) for value in {*column}}.__getitem__, column)


def _converter(parameter: sa.BindParameter[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    if isinstance(parameter.type, sa.ARRAY):
        # Drivers take lists as they are; to look at each item costs more than to send it.
        return None
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
        with translated:
            yield from direct(compiled.text, row)

    def for_each(self, connection: sa.Connection, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Run it for each row.

        Args:
            connection: Where.
            names: Of the parameters, in the order of a row.
            rows: At least one.
        """
        compiled = self._for(connection)
        values = compiled.rows(names, rows)
        driver = sqlite_driver(connection)
        if driver is None:
            connection.exec_driver_sql(compiled.text, values)
            return
        with translated:
            driver.executemany(compiled.text, values)

    def _for(self, connection: sa.Connection) -> _Compiled:
        dialect = connection.dialect
        schemas = connection.get_execution_options().get("schema_translate_map")
        key = (dialect.name, dialect.driver, None if schemas is None else schemas[None])
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = _Compiled(self._statement, dialect, schemas)
        return compiled


class Rowwise:
    """Rows that come when they are wanted, from one statement after the other, or all at once, from a statement.

    In the latter case they may come in any order. Mostly it is the right one, which is seen here sooner than a server
    sorts them.
    """

    def __init__(self, parts: Sequence[Any], at_once: Any, *, backwards: bool) -> None:
        """Make it.

        Args:
            parts: Statements whose rows are in the order of the first column.
            at_once: The statement that gives the rows of all.
            backwards: Whether the greatest value comes first.
        """
        self._parts = [Hot(part) for part in parts]
        self._at_once = Hot(at_once)
        self._backwards = backwards

    def each(self, connection: sa.Connection, values: Values) -> Generator[Any, None, None]:
        """The rows, as suits the connection."""
        driver = sqlite_driver(connection)
        if driver is None:
            yield from sorted(self._at_once.each(connection, values), key=itemgetter(0), reverse=self._backwards)
            return
        with as_of_now(driver):
            for part in self._parts:
                yield from part.each(connection, values)


def _direct(connection: sa.Connection) -> Callable[[str, Any], Iterable[Any]] | None:
    """How to run a statement on the driver's own connection; None where SQLAlchemy has to be asked."""
    sqlite = sqlite_driver(connection)
    if sqlite is not None:
        return sqlite.execute
    if is_ours(connection) and connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        pooled: Any = connection.connection
        run_async = pooled.dbapi_connection.run_async
        return lambda text, row: run_async(methodcaller("fetch", text, *row))
    return None
