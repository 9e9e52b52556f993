"""The command line: `mcp-persist-sa`.

Exit codes: 0 when all is well, 1 when something failed (said on standard error), 2 when the words were wrong.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import click
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mcp_persist_sa import demo as demonstration
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
@click.option("--dsn", envvar=ENVIRONMENT, help="A database to use instead of a temporary SQLite file.")
@click.option("--events", default=1000, show_default=True, type=click.IntRange(min=10))
def demo(dsn: str | None, events: int) -> None:
    """Kill a writer in the middle of a stream, resume, and count."""
    with tempfile.TemporaryDirectory() as folder, _errors_said():
        chosen = dsn or f"sqlite:///{Path(folder) / 'demo.db'}"
        outcome = _watched(chosen, events)
    click.echo(
        f"{len(outcome.before)} events before, {len(outcome.after)} after: "
        f"{outcome.lost} lost, {outcome.doubled} doubled, {'in order' if outcome.in_order else 'OUT OF ORDER'}."
    )
    if outcome.lost or outcome.doubled or not outcome.in_order:
        raise click.ClickException("The promise was broken. Please report it.")


def _watched(dsn: str, events: int) -> demonstration.Outcome:
    console = Console(stderr=True)
    columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("events", total=events)

        def tick(number: int) -> None:
            progress.update(task, completed=number)

        return asyncio.run(demonstration.run(dsn, events, click.echo, tick))
