"""What was read of a stream, before its events are made: meanwhile the database can be asked for what follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mcp_persist_sa.identity import EventId
from mcp_persist_sa.models import Event, Gap, Page


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was read of a stream; see `Page`.

    Attributes:
        count: How many events.
        last: The place of the last of them; None where there is none.
        items: Makes them one after the other, which takes about as long as to read them.
        finished: As of a page.
        closed: As of a page.
        more: As of a page.
        abandoned: As of a page.
        stream_id: As of a page.
    """

    count: int
    last: EventId | None
    items: Callable[[], Iterable[Event | Gap]]
    finished: bool
    closed: bool
    more: bool
    abandoned: bool
    stream_id: str

    def page(self) -> Page:
        """Make the events."""
        return Page(
            items=tuple(self.items()),
            event_id=None if self.last is None else str(self.last),
            finished=self.finished,
            closed=self.closed,
            more=self.more,
            abandoned=self.abandoned,
            stream_id=self.stream_id,
        )
