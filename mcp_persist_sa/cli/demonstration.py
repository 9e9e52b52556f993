"""`demo`: see for yourself."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mcp_persist_sa.cli.common import errors_said, with_output
from mcp_persist_sa.cli.output import Output


@click.command()
@with_output
@click.option("--dsn", help="A database to use instead of a temporary SQLite file.")
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(1, 9), help="How many servers share it.")
@click.option("--events", default=300, show_default=True, type=click.IntRange(min=100), help="How long a call is.")
def demo(output: Output, dsn: str | None, nodes: int, events: int) -> None:
    """Cut a client off in the middle of a call, kill a server in the middle of another, and count what came."""
    with tempfile.TemporaryDirectory() as folder, errors_said():
        broken = _watched(dsn or f"sqlite:///{Path(folder) / 'demo.db'}", nodes, events, quiet=output.as_json)
    if output.as_json:
        output.record({"broken": broken})
    if broken:
        raise click.ClickException("A promise was broken. Please report it.")


def _watched(dsn: str, nodes: int, events: int, *, quiet: bool) -> list[str]:
    # The SDK is large, and no other command needs it.
    from mcp_persist_sa.demo.story import CALLS, Story

    console = Console(stderr=True)
    columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn())
    hidden = not console.is_terminal
    # What shares a terminal with the bars has to go through them, and a pipe must get it all the same.
    print_above = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    say = print_above if console.is_terminal and sys.stdout.isatty() else partial(click.echo, err=quiet)
    with Progress(*columns, console=console, disable=hidden, redirect_stdout=False) as progress:
        tasks = [progress.add_task(name, total=events) for name in CALLS]
        story = Story(events, say, lambda call, number: progress.update(tasks[call], completed=number))
        asyncio.run(story.tell(dsn, nodes))
    return story.broken


COMMANDS = (demo,)
