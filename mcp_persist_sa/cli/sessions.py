"""`sessions`: who is there, what they were sent, and how to end them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import click

from mcp_persist_sa.cli.common import Chosen, on_database, with_output
from mcp_persist_sa.cli.output import Output, counted, printable
from mcp_persist_sa.models import Event, Gap, Purged, Session, SessionStatus

_LISTED = ("session_id", "status", "owner", "tenant", "client", "created_at", "last_seen_at", "expires_at")
_STREAM = ("stream_id", "count", "size", "finished", "created_at", "last_activity_at", "last_event_id")
_SHOWN = 120

_session_id = click.argument("session_id")
_stream = click.option("--stream", help="The stream: a request id, or _GET_stream.")
_after = click.option("--after", metavar="EVENT_ID", help="Begin after this event.")


def _record(session: Session) -> dict[str, Any]:
    return {**asdict(session), "status": session.status, "client": session.client}


@click.group()
def sessions() -> None:
    """Look at sessions, and end them."""


@sessions.command("list")
@on_database
@with_output
@click.option("--owner", help="Of this principal.")
@click.option("--tenant", help="Of this tenant.")
@click.option("--status", type=click.Choice(["open", "closed"]))
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=1), help="How many at most.")
@click.option("--after", metavar="PLACE", help="Where the list before has ended.")
def list_(
    chosen: Chosen,
    output: Output,
    owner: str | None,
    tenant: str | None,
    status: SessionStatus | None,
    limit: int,
    after: str | None,
) -> None:
    """List sessions that have not expired, the oldest first."""

    async def work() -> None:
        async with chosen.store(background=False) as store:
            page = await store.sessions.list(owner=owner, tenant=tenant, status=status, limit=limit, after=after)
        rows = ({key: value for key, value in _record(each).items() if key != "handshake"} for each in page.sessions)
        output.rows(_LISTED, rows, nothing="There are no such sessions.")
        if page.next is not None:
            click.echo(f"There may be more: --after {page.next!r}", err=True)

    asyncio.run(work())


@sessions.command()
@on_database
@with_output
@_session_id
def show(chosen: Chosen, output: Output, session_id: str) -> None:
    """Show a session and its streams."""

    async def work() -> None:
        async with chosen.store(background=False) as store:
            session = _record(await store.sessions.get(session_id))
            streams = [asdict(info) async for info in store.streams(session_id)]
        if output.as_json:
            output.record({**session, "streams": streams})
            return
        output.record(session)
        click.echo()
        output.rows(_STREAM, streams, nothing="It has no streams.")

    asyncio.run(work())


@sessions.command()
@on_database
@with_output
@_session_id
@_stream
@_after
def events(chosen: Chosen, output: Output, session_id: str, stream: str | None, after: str | None) -> None:
    """Print what a stream holds, or what follows an event."""
    if (stream is None) == (after is None):
        raise click.UsageError("Give either --stream or --after; `sessions show` lists the streams.")

    async def work() -> None:
        async with chosen.store(background=False) as store:
            page = await store.read(session_id, stream_id=stream, after=after)
            while True:
                for item in page.items:
                    _print(output, item)
                if not page.more:
                    return
                page = await store.read(session_id, after=page.event_id)

    asyncio.run(work())


@sessions.command()
@on_database
@with_output
@_session_id
@_stream
@_after
@click.option("--from-now", is_flag=True, help="Leave out what the stream holds already.")
def tail(
    chosen: Chosen, output: Output, session_id: str, stream: str | None, after: str | None, from_now: bool
) -> None:
    """Print what a stream holds and then what comes, until it or its session ends."""
    if stream is None and after is None:
        raise click.UsageError("Give --stream or --after; `sessions show` lists the streams.")
    if after is not None and from_now:
        raise click.UsageError("--from-now goes with --stream alone.")

    async def work() -> None:
        async with (
            chosen.store() as store,
            aclosing(store.tail(session_id, stream, after=after, from_now=from_now)) as items,
        ):
            async for item in items:
                _print(output, item)

    asyncio.run(work())


def _print(output: Output, item: Event | Gap) -> None:
    if isinstance(item, Gap):
        output.record({"gap": [item.first, item.last]}, f"events {item.first} to {item.last} are missing")
        return
    text = "(priming event)" if item.message is None else printable(item.message)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"
    output.record(item._asdict(), f"{item.event_id}  {item.created_at:%Y-%m-%d %H:%M:%S}  {shown}")


@sessions.command()
@on_database
@with_output
@_session_id
def close(chosen: Chosen, output: Output, session_id: str) -> None:
    """End a session on every node: its client has to open a new one."""

    async def work() -> None:
        async with chosen.store() as store:
            closed = await store.sessions.close(session_id)
        output.record({"closed": closed}, "The session is closed." if closed else "It was not open.")

    asyncio.run(work())


@sessions.command()
@on_database
@with_output
@_session_id
@click.confirmation_option("--yes", "-y", prompt="Remove the session with all its events and state?")
def delete(chosen: Chosen, output: Output, session_id: str) -> None:
    """Remove a session with all that belongs to it."""

    async def work() -> None:
        async with chosen.store() as store:
            found: Purged = await store.sessions.delete(session_id)
        output.record(found._asdict(), f"Removed: {counted(found)}.")

    asyncio.run(work())


COMMANDS = (sessions,)
