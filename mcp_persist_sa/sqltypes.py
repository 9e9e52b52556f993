"""Column types that mean the same on every dialect, and the clock that statements read."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement, FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)

Key = sa.String(20).with_variant(postgresql.VARCHAR(20, collation="C"), "postgresql")
"""A random or digest key: compared byte by byte, whatever the locale of the database."""

Name = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


class Timestamp(TypeDecorator[datetime]):
    """A moment in UTC: TIMESTAMP WITH TIME ZONE on Postgres, microseconds since 1970 on SQLite."""

    impl = sa.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(sa.DateTime(timezone=True))
        return dialect.type_descriptor(sa.BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else moment(value)


def moment(value: Any) -> datetime:
    """A `Timestamp` as a driver gives it."""
    return value if isinstance(value, datetime) else _EPOCH + timedelta(microseconds=value)


class Duration(TypeDecorator[timedelta]):
    """A span of time that can be added to a `Timestamp`."""

    impl = sa.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(sa.Interval())
        return dialect.type_descriptor(sa.BigInteger())

    def process_bind_param(self, value: timedelta | None, dialect: sa.Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value // _MICROSECOND

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> timedelta | None:
        return value if value is None or isinstance(value, timedelta) else value * _MICROSECOND


class JSONText(TypeDecorator[Any]):
    """JSON kept as text.

    Not JSONB, which rejects NUL and lone surrogates and rewrites numbers; nor the JSON type of SQLite, whose numeric
    affinity turns an integer of more than 64 bits into a float.
    """

    impl = sa.Text
    cache_ok = True

    def __init__(self, *, none_as_null: bool = True) -> None:
        super().__init__()
        self.none_as_null = none_as_null

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None and self.none_as_null else json.dumps(value, allow_nan=False)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        return None if value is None else json.loads(value)


class _Now(FunctionElement[datetime]):
    type = Timestamp()
    inherit_cache = True


class _WrittenAt(_Now):
    inherit_cache = True


class _Seconds(FunctionElement[float]):
    type = sa.Float()
    inherit_cache = True


class _Span(FunctionElement[timedelta]):
    type = Duration()
    inherit_cache = True


@compiles(_Now)
@compiles(_Span)
def _as_given(element: FunctionElement[Any], compiler: Any, **kw: Any) -> str:
    return compiler.process(element.clauses.clauses[0], **kw)


@compiles(_Seconds)
def _of_microseconds(element: _Seconds, compiler: Any, **kw: Any) -> str:
    return f"{_as_given(element, compiler, **kw)} / 1000000.0"


@compiles(_Seconds, "postgresql")
def _of_timestamp(element: _Seconds, compiler: Any, **kw: Any) -> str:
    return f"date_part('epoch', {_as_given(element, compiler, **kw)})"


@compiles(_Now, "postgresql")
def _database_clock(element: _Now, compiler: Any, **kw: Any) -> str:
    return f"coalesce({_as_given(element, compiler, **kw)}, statement_timestamp())"


@compiles(_WrittenAt, "postgresql")
def _moving_clock(element: _WrittenAt, compiler: Any, **kw: Any) -> str:
    return f"coalesce({_as_given(element, compiler, **kw)}, clock_timestamp())"


@compiles(_Span, "postgresql")
def _exact_span(element: _Span, compiler: Any, **kw: Any) -> str:
    # The days of an interval have 23 or 25 hours where the clocks of the connection's time zone are changed.
    return f"make_interval(secs => extract(epoch FROM CAST({_as_given(element, compiler, **kw)} AS interval))::float8)"


def now() -> ColumnElement[datetime]:
    """The time: parameter `now`, or by the database's clock where that is None.

    SQLite is always given it, because the database is in this process: its clock is ours. On Postgres it is that of the
    statement, which stands still meanwhile: no index is searched for what a volatile function gives.
    """
    return _Now(sa.bindparam("now", type_=Timestamp()))


def written_at() -> ColumnElement[datetime]:
    """The same, but on Postgres when the row is written: after the wait for a lock, so that times rise with numbers."""
    return _WrittenAt(sa.bindparam("now", type_=Timestamp()))


def seconds(moment: ColumnElement[datetime]) -> ColumnElement[float]:
    """Those from 1970 to a moment: `datetime.fromtimestamp` is faster than any driver.

    To the year 2112 a float gives each microsecond.
    """
    return _Seconds(moment)


def _span(span: str | ColumnElement[Any]) -> _Span:
    return _Span(sa.bindparam(span, type_=Duration()) if isinstance(span, str) else span)


def after(moment: ColumnElement[datetime], span: str) -> ColumnElement[datetime]:
    """The moment that lies the duration in parameter `span` after another; NULL where that is None."""
    return sa.type_coerce(moment.op("+")(_span(span)), Timestamp())


def before(moment: ColumnElement[datetime], span: str | ColumnElement[Any]) -> ColumnElement[datetime]:
    """The moment that lies a duration before another: that in a column, or in the parameter `span`; NULL for None."""
    return sa.type_coerce(moment.op("-")(_span(span)), Timestamp())
