"""`stats` and `purge`: what there is, and what need not be any more."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import click

from mcp_persist_sa.cli.common import Chosen, on_database, with_output
from mcp_persist_sa.cli.output import Output, counted
from mcp_persist_sa.models import Purged
from mcp_persist_sa.oversight import Rate, Stats


@click.command()
@on_database
@with_output
@click.option("--exact", is_flag=True, help="Read every event, to count them and their bytes.")
def stats(chosen: Chosen, output: Output, exact: bool) -> None:
    """Say what there is: sessions, streams, events, rates, the oldest and the largest."""
    found = asyncio.run(_stats(chosen, exact=exact))
    if output.as_json:
        rates = {"last_minute": found.last_minute._asdict(), "last_hour": found.last_hour._asdict()}
        output.record({**asdict(found), **rates, "largest": [holding._asdict() for holding in found.largest]})
        return
    output.record(_for_people(found))
    if found.largest:
        click.echo("\nThe sessions that hold the most events:")
        output.rows(("session_id", "streams", "events"), [holding._asdict() for holding in found.largest])


def _for_people(found: Stats) -> dict[str, Any]:
    values = asdict(found)
    del values["largest"]
    return {**values, "last_minute": _rate(found.last_minute), "last_hour": _rate(found.last_hour)}


def _rate(rate: Rate) -> str:
    return f"{rate.sessions:,} sessions and {rate.streams:,} streams opened, which hold {rate.events:,} events"


async def _stats(chosen: Chosen, *, exact: bool) -> Stats:
    async with chosen.store(background=False) as store:
        return await store.stats(exact=exact)


@click.command()
@on_database
@with_output
@click.option("--dry-run", is_flag=True, help="Count what would be removed, and remove nothing.")
def purge(chosen: Chosen, output: Output, dry_run: bool) -> None:
    """Remove what has expired or is over a limit; nodes that serve do so by themselves."""
    found = asyncio.run(_purged(chosen, dry_run=dry_run))
    output.record(found._asdict(), f"{'Would be removed' if dry_run else 'Removed'}: {counted(found)}.")


async def _purged(chosen: Chosen, *, dry_run: bool) -> Purged:
    async with chosen.store(background=False) as store:
        return await (store.purgeable() if dry_run else store.purge())


COMMANDS = (stats, purge)
