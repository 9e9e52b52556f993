"""`policies` and `audit`: how much is kept of a tenant, and what was removed."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from mcp_persist_sa.cli.common import Chosen, on_database, with_output
from mcp_persist_sa.cli.output import Output
from mcp_persist_sa.oversight import AuditPage, Policy

_LISTED = ("tenant", "session_ttl", "event_ttl", "max_events", "audit_ttl")
_TRAIL = ("at", "tenant", "reason", "by", "sessions", "streams", "events", "state")

_tenant = click.argument("tenant", required=False)
_seconds = click.FloatRange(min=0, min_open=True)


def _record(policy: Policy) -> dict[str, Any]:
    """A policy, with its times in seconds."""
    values = asdict(policy)
    return {name: value.total_seconds() if isinstance(value, timedelta) else value for name, value in values.items()}


@click.group()
def policies() -> None:
    """Say how much is kept of a tenant, where that is less than of others.

    Without TENANT, the policy is for what is of no tenant, or of one whose policy has no --audit-ttl.
    """


@policies.command("list")
@on_database
@with_output
def list_(chosen: Chosen, output: Output) -> None:
    """List all policies."""

    async def work() -> list[Policy]:
        async with chosen.store(background=False) as store:
            return await store.policies.list()

    output.rows(_LISTED, map(_record, asyncio.run(work())), nothing="There are no policies.")


@policies.command("set")
@on_database
@with_output
@_tenant
@click.option("--session-ttl", type=_seconds, metavar="SECONDS", help="How long a session is kept after its last use.")
@click.option("--event-ttl", type=_seconds, metavar="SECONDS", help="How long an event is kept.")
@click.option("--max-events", type=click.IntRange(min=1), help="How many events a session keeps.")
@click.option("--audit-ttl", type=_seconds, metavar="SECONDS", help="How long it is known what was removed.")
def set_(chosen: Chosen, output: Output, tenant: str | None, **says: Any) -> None:
    """Write the policy of a tenant, over that which it has."""
    if all(value is None for value in says.values()):
        raise click.UsageError("Give at least one of --session-ttl, --event-ttl, --max-events and --audit-ttl.")

    async def work() -> Policy:
        async with chosen.store(background=False) as store:
            return await store.policies.set(tenant, **says)

    output.record(_record(asyncio.run(work())))


@policies.command()
@on_database
@with_output
@_tenant
def remove(chosen: Chosen, output: Output, tenant: str | None) -> None:
    """Remove the policy of a tenant: the options of the store hold."""

    async def work() -> bool:
        async with chosen.store(background=False) as store:
            return await store.policies.remove(tenant)

    removed = asyncio.run(work())
    output.record({"removed": removed}, "The policy is removed." if removed else "There was none.")


@click.command()
@on_database
@with_output
@click.option("--tenant", help="Of this tenant.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=1), help="How many at most.")
@click.option("--after", metavar="PLACE", help="Where the list before has ended.")
def audit(chosen: Chosen, output: Output, tenant: str | None, limit: int, after: str | None) -> None:
    """List what was removed, the newest first, where a policy says that it is to be known."""

    async def work() -> AuditPage:
        async with chosen.store(background=False) as store:
            return await store.audit(tenant=tenant, limit=limit, after=after)

    page = asyncio.run(work())
    output.rows(_TRAIL, map(asdict, page.entries), nothing="Nothing is known to have been removed.")
    if page.next is not None:
        click.echo(f"There may be more: --after {page.next!r}", err=True)


COMMANDS = (policies, audit)
