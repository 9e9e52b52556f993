"""How results are written: as JSON, as a table for people in a terminal, or plain where there is none."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from mcp_persist_sa.models import Purged


class Output:
    """Standard output, as the command line asks for it."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def record(self, values: Mapping[str, Any], said: str | None = None) -> None:
        """Write one result.

        Args:
            values: As JSON has it.
            said: As it is said to people; None for a line a value.
        """
        if self.as_json:
            click.echo(json.dumps(values, default=_plain))
        elif said is not None:
            click.echo(said)
        else:
            self._columns(("", ""), [(name.replace("_", " "), _text(value)) for name, value in values.items()])

    def rows(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, nothing: str = "") -> None:
        """Write a list of results.

        Args:
            columns: What of each is shown to people, who may need less than JSON has.
            rows: The results.
            nothing: What is said to people where there are none.
        """
        if self.as_json:
            for row in rows:
                self.record(row)
            return
        shown = [[_text(row.get(column)) for column in columns] for row in rows]
        if shown:
            self._columns([column.replace("_", " ") for column in columns], shown)
        elif nothing:
            click.echo(nothing)

    def _columns(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        if not sys.stdout.isatty():
            _plain_columns(heads, rows)
            return
        table = Table(box=None, show_header=any(heads), header_style="bold", pad_edge=False)
        for head in heads:
            # What does not fit goes on in the next line: an advice that is cut off is none.
            table.add_column(head, overflow="fold")
        for row in rows:
            table.add_row(*row)
        Console(markup=False, highlight=False).print(table)


def _plain_columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [heads, *rows] if any(heads) else rows
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _plain(value: Any) -> Any:
    """A value that JSON does not know."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _text(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, dict | list):
        return json.dumps(value, default=_plain)
    return printable(str(value))


def counted(found: Purged) -> str:
    """How many of what, as people read it."""
    return ", ".join(f"{count:,} {name}" for name, count in found._asdict().items())


def printable(text: str) -> str:
    """Text without what a terminal would take for a command: clients choose names, and messages."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
