"""The command line: `mcp-persist-sa`.

Exit codes: 0 when all is well, 1 when something failed (said on standard error), 2 when the words were wrong.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mcp_persist_sa.dsn import ENVIRONMENT, default_dsn, parse
from mcp_persist_sa.errors import PersistError
from mcp_persist_sa.migrate import alembic_config
from mcp_persist_sa.options import Options


@contextmanager
def _errors_said() -> Generator[None, None, None]:
    try:
        yield
    except (PersistError, CommandError) as error:
        raise click.ClickException(str(error)) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mcp-persist-sa")
def main() -> None:
    """The database of an MCP server."""


def _database(function: Callable[..., None]) -> Callable[..., None]:
    """The options that name a database."""
    dsn = click.option("--dsn", envvar=ENVIRONMENT, help="sqlite:///file.db or postgresql://user@host/database.")
    schema = click.option("--schema", help="Postgres: the schema of the tables.")
    return dsn(schema(function))


def _config(dsn: str | None, schema: str | None) -> Config:
    chosen = dsn or default_dsn()
    with _errors_said():
        given = Options.of(parse(chosen).options)
    return alembic_config(dsn=chosen, schema=schema or given.schema)


@main.command()
@_database
@click.argument("revision", default="head")
@click.option("--sql", is_flag=True, help="Print the SQL and change nothing.")
def upgrade(dsn: str | None, schema: str | None, revision: str, sql: bool) -> None:
    """Create the tables, or bring them up to date (to REVISION, if given)."""
    with _errors_said():
        command.upgrade(_config(dsn, schema), revision, sql=sql)
    if not sql:
        click.echo(f"The database is at {revision}.")


@main.command()
@_database
@click.argument("revision")
@click.option("--sql", is_flag=True, help="Print the SQL and change nothing. REVISION is FROM:TO then.")
def downgrade(dsn: str | None, schema: str | None, revision: str, sql: bool) -> None:
    """Go back to REVISION (`base` removes the tables with all they hold)."""
    with _errors_said():
        command.downgrade(_config(dsn, schema), revision, sql=sql)


@main.command()
@_database
@click.option("--check-heads", is_flag=True, help="Fail unless the database is at the newest revision.")
def current(dsn: str | None, schema: str | None, check_heads: bool) -> None:
    """Say at which revision the database is."""
    with _errors_said():
        command.current(_config(dsn, schema), check_heads=check_heads)


@main.command()
@_database
def check(dsn: str | None, schema: str | None) -> None:
    """Fail unless the tables are exactly those of this release."""
    with _errors_said():
        command.check(_config(dsn, schema))


@main.command()
@click.option("--verbose", "-v", is_flag=True)
def history(verbose: bool) -> None:
    """List the revisions."""
    with _errors_said():
        command.history(alembic_config(), verbose=verbose)


@main.command()
@click.option("--dsn", help="A database to use instead of a temporary SQLite file.")
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(1, 9), help="How many servers share it.")
@click.option("--events", default=300, show_default=True, type=click.IntRange(min=100), help="How long a call is.")
def demo(dsn: str | None, nodes: int, events: int) -> None:
    """Cut a client off in the middle of a call, kill a server in the middle of another, and count what came."""
    with tempfile.TemporaryDirectory() as folder, _errors_said():
        broken = _watched(dsn or f"sqlite:///{Path(folder) / 'demo.db'}", nodes, events)
    if broken:
        raise click.ClickException("A promise was broken. Please report it.")


def _watched(dsn: str, nodes: int, events: int) -> list[str]:
    # The SDK is large, and no other command needs it.
    from mcp_persist_sa.demo.story import CALLS, Story

    console = Console(stderr=True)
    columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn())
    hidden = not console.is_terminal
    # What shares a terminal with the bars has to go through them, and a pipe must get it all the same.
    print_above = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    say = print_above if console.is_terminal and sys.stdout.isatty() else click.echo
    with Progress(*columns, console=console, disable=hidden, redirect_stdout=False) as progress:
        tasks = [progress.add_task(name, total=events) for name in CALLS]
        story = Story(events, say, lambda call, number: progress.update(tasks[call], completed=number))
        asyncio.run(story.tell(dsn, nodes))
    return story.broken
