"""Statements of the hot paths: defined in Core like all others, but compiled once.

What `Connection.execute` does for each execution (cache keys, parameters by name, typed results) costs more than SQLite
needs for the statement itself. Here it is done when the statement first meets a dialect; then its text is run with the
parameters in their places. Results are as the driver gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

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
            return dict(zip((parameter.name for parameter in self._parameters), row, strict=True))
        return tuple(row)


def _converter(parameter: sa.BindParameter[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    return parameter.type.dialect_impl(dialect).bind_processor(dialect)


class Hot:
    """A statement that is compiled once."""

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, str, str | None], _Compiled] = {}

    def execute(self, connection: sa.Connection, values: Values) -> sa.CursorResult[Any]:
        """Run it.

        Args:
            connection: Where.
            values: The parameters by their names; others are left alone.
        """
        compiled = self._for(connection)
        return connection.exec_driver_sql(compiled.text, compiled.row(values))

    def execute_many(self, connection: sa.Connection, rows: Sequence[Values]) -> None:
        """Run it for each row, which gives nothing back."""
        compiled = self._for(connection)
        connection.exec_driver_sql(compiled.text, [compiled.row(row) for row in rows])

    def _for(self, connection: sa.Connection) -> _Compiled:
        dialect = connection.dialect
        schemas = connection.get_execution_options().get("schema_translate_map")
        key = (dialect.name, dialect.driver, None if schemas is None else schemas[None])
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = _Compiled(self._statement, dialect, schemas)
        return compiled
