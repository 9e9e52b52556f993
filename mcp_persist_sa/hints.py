"""The contract between the store and a notifier, which wakes whoever waits for new data."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from mcp_persist_sa.identity import EventId
from mcp_persist_sa.models import NotifierHealth


class Hint(NamedTuple):
    """That something has changed. It may be lost, late or wrong; the table is the truth.

    Attributes:
        session_key: Of the session.
        stream_key: Of the stream; empty where the session itself has changed.
        sequence: Up to which the stream holds events.
    """

    session_key: str
    stream_key: str = ""
    sequence: int = 0


class Waiter(Protocol):
    """Waits until it is worth while to look again."""

    async def wait(self, after: EventId | None) -> None:
        """Return when there may be news: on a hint that came since the last call, or after a while.

        Args:
            after: The place up to which the stream is known, past which a hint must point; None for any news.

        Raises:
            StoreClosed: The notifier was closed.
        """
        ...


class Notifier(Protocol):
    """Wakes whoever waits for news of a session, in this process and in others."""

    def notify(self, hints: Collection[Hint]) -> None:
        """Tell of what was committed."""
        ...

    def listen(self, session_key: str) -> AbstractContextManager[Waiter]:
        """Wait for one session."""
        ...

    def health(self) -> NotifierHealth:
        """How it is."""
        ...

    async def close(self) -> None:
        """Send what is to be sent still, give back what was taken, and tell those who wait."""
        ...
