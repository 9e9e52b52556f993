"""Bringing tables up to date: Alembic's own commands, through us."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO

import click
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from mcp_persist_sa.cli.common import Chosen, errors_said, on_database, with_output
from mcp_persist_sa.cli.output import Output
from mcp_persist_sa.migrate import alembic_config
from mcp_persist_sa.schema import HEAD


def _config(chosen: Chosen) -> Config:
    return alembic_config(dsn=chosen.dsn, schema=chosen.checked().schema)


def _existing(chosen: Chosen) -> Config:
    config = _config(chosen)
    chosen.refuse_absent()
    return config


def _printed(config: Config, run: Callable[[Config], None]) -> str:
    """What one of Alembic's commands prints."""
    config.stdout = StringIO()
    run(config)
    return config.stdout.getvalue()


@click.command()
@on_database
@with_output
@click.argument("revision", default="head")
@click.option("--sql", is_flag=True, help="Print the SQL and change nothing.")
def upgrade(chosen: Chosen, output: Output, revision: str, sql: bool) -> None:
    """Create the tables, or bring them up to date (to REVISION, if given)."""
    _go(command.upgrade, _config(chosen), output, revision, sql)


@click.command()
@on_database
@with_output
@click.argument("revision")
@click.option("--sql", is_flag=True, help="Print the SQL and change nothing. REVISION is FROM:TO then.")
def downgrade(chosen: Chosen, output: Output, revision: str, sql: bool) -> None:
    """Go back to REVISION (`base` removes the tables with all they hold)."""
    _go(command.downgrade, _config(chosen) if sql else _existing(chosen), output, revision, sql)


def _go(there: Callable[..., None], config: Config, output: Output, revision: str, sql: bool) -> None:
    if sql and output.as_json:
        raise click.UsageError("--sql prints SQL, and --json JSON. Choose one.")
    there(config, revision, sql=sql)
    if not sql:
        output.record({"revision": revision}, f"The database is at {revision}.")


@click.command()
@on_database
@with_output
@click.option("--check-heads", is_flag=True, help="Fail unless the database is at the newest revision.")
def current(chosen: Chosen, output: Output, check_heads: bool) -> None:
    """Say at which revision the database is."""
    said = _printed(_existing(chosen), lambda config: command.current(config, check_heads=check_heads)).strip()
    revision = said.split()[0] if said else None
    output.record({"revision": revision, "head": HEAD, "up_to_date": revision == HEAD}, said or "none")


@click.command()
@on_database
@with_output
def check(chosen: Chosen, output: Output) -> None:
    """Fail unless the tables are exactly those of this release."""
    said = _printed(_existing(chosen), command.check).strip()
    output.record({"differences": []}, said)


@click.command()
@with_output
@click.option("--verbose", "-v", is_flag=True)
def history(output: Output, verbose: bool) -> None:
    """List the revisions."""
    with errors_said():
        config = alembic_config()
        if not output.as_json:
            command.history(config, verbose=verbose)
            return
        for script in ScriptDirectory.from_config(config).walk_revisions():
            output.record({"revision": script.revision, "down_revision": script.down_revision, "doc": script.doc})


COMMANDS = (upgrade, downgrade, current, check, history)
