"""`doctor`: is everything as it should be?"""

from __future__ import annotations

import asyncio

import click

from mcp_persist_sa.cli.common import Chosen, on_database, with_output
from mcp_persist_sa.cli.output import Output
from mcp_persist_sa.operations import doctor as examine
from mcp_persist_sa.oversight import Finding


@click.command()
@on_database
@with_output
def doctor(chosen: Chosen, output: Output) -> None:
    """Look at everything on which the store depends. Exit code 1 if something is wrong."""
    chosen.refuse_absent()
    findings = asyncio.run(_findings(chosen))
    output.rows(("status", "check", "found", "advice"), [finding._asdict() for finding in findings])
    if any(finding.status == "wrong" for finding in findings):
        raise click.exceptions.Exit(1)


async def _findings(chosen: Chosen) -> list[Finding]:
    return [finding async for finding in examine(chosen.dsn, **chosen.options)]


COMMANDS = (doctor,)
