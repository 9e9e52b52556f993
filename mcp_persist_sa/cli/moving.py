"""`copy`, `export`, `import`, `import-mcp-persist`: moving what a store holds to another one, or to a file."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mcp_persist_sa.cli.common import Chosen, errors_said, on_database, with_output
from mcp_persist_sa.cli.output import Output, printable
from mcp_persist_sa.operations.copying import copy as copy_stores
from mcp_persist_sa.operations.files import export_file, import_file
from mcp_persist_sa.operations.progress import Moved, OnProgress
from mcp_persist_sa.store import Store, open_store

_session = click.option("--session", metavar="SESSION_ID", help="This session alone.")
_batch_size = click.option(
    "--batch-size", default=1000, show_default=True, type=click.IntRange(min=1), help="Records held at a time."
)


@contextmanager
def _bar(title: str) -> Generator[OnProgress, None, None]:
    """A bar on standard error; nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[more]}"))
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal, redirect_stdout=False
    ) as progress:
        # What fails before it has begun is said without a bar.
        task = progress.add_task(title, total=None, more="", visible=False)

        def tell(moved: Moved) -> None:
            more = f"{moved.events:,} events" + (f", {moved.failed:,} failed" if moved.failed else "")
            progress.update(
                task, description=moved.stage, completed=moved.seen, total=moved.total, more=more, visible=True
            )

        yield tell


def _finish(moved: Moved, output: Output, said: str) -> None:
    """Say how it went; with exit code 1 if something failed."""
    output.record({name: value for name, value in asdict(moved).items() if name != "stage"}, said)
    if not moved.failed:
        return
    if not output.as_json:
        for session, why in moved.failures.items():
            click.echo(f"{printable(session)}: {printable(why)}", err=True)
    raise click.ClickException(f"{moved.failed:,} of {moved.seen:,} sessions could not be moved.")


def _said(done: str, moved: Moved) -> str:
    verified = f", {moved.verified:,} compared and equal" if moved.verified else ""
    removed = f", {moved.removed:,} removed" if moved.removed else ""
    return f"{done} {moved.events:,} events of {moved.seen:,} sessions and handles{verified}{removed}."


@click.command()
@click.argument("source")
@click.argument("target")
@_session
@_batch_size
@click.option("--follow", is_flag=True, help="Follow what is written meanwhile, until Ctrl-C or SIGTERM.")
@click.option("--mirror", is_flag=True, help="Remove from TARGET what SOURCE has not (any more).")
@with_output
def copy(
    output: Output, source: str, target: str, session: str | None, batch_size: int, follow: bool, mirror: bool
) -> None:
    """Copy what the DSN SOURCE holds to the DSN TARGET, and compare both.

    Ids, numbers and times are kept. A copy that was interrupted goes on when it is begun again. With --follow: send
    Ctrl-C once nobody writes to SOURCE any more; what came last is copied then, and all is compared. Another one ends
    it at once.
    """
    with errors_said(), _bar("copy") as tell:
        moved = asyncio.run(
            _copied(
                source, target, follow=follow, session=session, batch_size=batch_size, mirror=mirror, on_progress=tell
            )
        )
    _finish(moved, output, _said("Copied", moved))


async def _copied(source: str, target: str, *, follow: bool, **options: Any) -> Moved:
    if not follow:
        return await copy_stores(source, target, **options)
    until, loop = asyncio.Event(), asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def end() -> None:
        until.set()
        # What is left may take long: another signal ends it as any other command.
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, end)
    return await copy_stores(source, target, until=until, **options)


@click.command("export")
@on_database
@with_output
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_session
@_batch_size
def export_(chosen: Chosen, output: Output, file: Path, session: str | None, batch_size: int) -> None:
    """Write what the database holds to FILE, as lines of JSON; with gzip if it ends in .gz."""

    async def work(tell: OnProgress) -> Moved:
        async with chosen.store(background=False) as store:
            return await export_file(store, file, session, batch_size=batch_size, on_progress=tell)

    with _bar("export") as tell:
        moved = asyncio.run(work(tell))
    _finish(moved, output, _said("Exported", moved))


@click.command("import")
@on_database
@with_output
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_batch_size
def import_(chosen: Chosen, output: Output, file: Path, batch_size: int) -> None:
    """Write what an export holds to the database. It can be done again."""
    moved = _into(
        chosen, "import", lambda store, tell: import_file(file, store, batch_size=batch_size, on_progress=tell)
    )
    _finish(moved, output, _said("Imported", moved))


def _into(chosen: Chosen, title: str, work: Callable[[Store, OnProgress], Coroutine[Any, Any, Moved]]) -> Moved:
    """Run what writes to the database."""

    async def run(tell: OnProgress) -> Moved:
        async with open_store(chosen.dsn, background=False, **chosen.options) as store:
            return await work(store, tell)

    with _bar(title) as tell:
        return asyncio.run(run(tell))


@click.command("import-mcp-persist")
@on_database
@with_output
@click.argument("source")
@click.option("--events-table", default="mcp_events", show_default=True)
@click.option("--sessions-table", default="mcp_sessions", show_default=True)
@_batch_size
def import_mcp_persist(chosen: Chosen, output: Output, source: str, **options: Any) -> None:
    """Write the sessions and events of an mcp-persist database, SOURCE, to the database.

    Clients go on with the event ids that they have. It can be done again.
    """
    # The SDK is large, and the other commands here do not need it.
    from mcp_persist_sa.operations.mcp_persist import import_mcp_persist as import_tables

    moved = _into(chosen, "import", lambda store, tell: import_tables(source, store, **options, on_progress=tell))
    _finish(moved, output, _said("Imported", moved))


COMMANDS = (copy, export_, import_, import_mcp_persist)
