"""What all commands have in common: the options that name a database, and errors."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
from alembic.util import CommandError

from mcp_persist_sa.cli.output import Output
from mcp_persist_sa.dsn import ENVIRONMENT, default_dsn, parse
from mcp_persist_sa.errors import InvalidDSN, PersistError
from mcp_persist_sa.operations.opening import check_file
from mcp_persist_sa.options import Options
from mcp_persist_sa.store import Store, open_store

Function = Callable[..., Any]


@contextmanager
def errors_said() -> Generator[None, None, None]:
    """Say an error of ours on one line, and end with exit code 1."""
    try:
        yield
    except (PersistError, CommandError) as error:
        raise click.ClickException(str(error)) from error


@dataclass(frozen=True)
class Chosen:
    """The database that the command line names.

    Attributes:
        dsn: Which.
        schema: The Postgres schema of the tables, or None.
    """

    dsn: str = field(repr=False)
    schema: str | None

    @property
    def options(self) -> dict[str, Any]:
        """What is to be given to the store beside the DSN."""
        return {} if self.schema is None else {"schema": self.schema}

    def checked(self) -> Options:
        """The options of the store.

        Raises:
            PersistError: The DSN or an option in it is wrong.
        """
        return Options.of({**parse(self.dsn).options, **self.options})

    def refuse_absent(self) -> None:
        """A file that is not there is not made, for a name may be mistyped.

        Raises:
            PersistError: There is no such database, or it is none that outlives this command.
        """
        parsed = parse(self.dsn)
        if parsed.is_memory:
            raise InvalidDSN("A database in memory is gone with this command. Name a file: sqlite:///file.db")
        check_file(self.dsn)

    @asynccontextmanager
    async def store(self, **more: Any) -> AsyncGenerator[Store, None]:
        """The store, which has to be there: nothing is created, and nothing is upgraded."""
        self.refuse_absent()
        async with self.not_open(**more) as store:
            yield store

    def not_open(self, **more: Any) -> Store:
        """The same store, to be opened where it is used."""
        return open_store(self.dsn, **{"migrate": False, **self.options, **more})


def open_once(store: AbstractAsyncContextManager[Store]) -> None:
    """Open a store and close it again: what would fail when an app starts is said now, on one line."""

    async def run() -> None:
        async with store:
            pass

    asyncio.run(run())


def on_database(function: Function) -> Function:
    """Give a command the options that name a database, as one argument `chosen`; errors of ours are said."""

    @click.option("--dsn", envvar=ENVIRONMENT, help=f"Which database. Also in the environment as {ENVIRONMENT}.")
    @click.option("--schema", help="Postgres: the schema of the tables.")
    @functools.wraps(function)
    def run(*, dsn: str | None, schema: str | None, **rest: Any) -> Any:
        with errors_said():
            return function(chosen=Chosen(default_dsn() if dsn is None else dsn, schema), **rest)

    return run


def with_output(function: Function) -> Function:
    """Give a command the option `--json`, as an argument `output` to which it writes."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON: one object, or one a line in a list.")
    @functools.wraps(function)
    def run(*, as_json: bool, **rest: Any) -> Any:
        return function(output=Output(as_json=as_json), **rest)

    return run
