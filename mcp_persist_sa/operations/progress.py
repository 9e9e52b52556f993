"""What has been moved so far, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mcp_persist_sa.models import Session
from mcp_persist_sa.records import EventRecord, Record, StateRecord

_NAMED = 100


@dataclass
class Moved:
    """How far a copy, an export or an import is; at its end, how it went.

    Attributes:
        seen: Sessions and handles that were looked at.
        total: How many sessions there are to look at, or None where that is not known.
        sessions: Records of sessions that were written.
        state: Values that were written.
        events: Events that were written.
        verified: Sessions and handles that were compared with their source and are equal.
        removed: Sessions and handles that were removed because the source has them no more.
        failed: How many could not be moved.
        failures: Of the first hundred of these, what is known of the session and why.
        stage: What is being done: `copy`, `verify`, `follow`, `export`, `import`, `done`.
    """

    seen: int = 0
    total: int | None = None
    sessions: int = 0
    state: int = 0
    events: int = 0
    verified: int = 0
    removed: int = 0
    failed: int = 0
    failures: dict[str, str] = field(default_factory=dict[str, str])
    stage: str = "copy"

    def __post_init__(self) -> None:
        """Begin without failures: those that are named are not all."""
        self._failed: set[str] = set()

    def begin_again(self) -> None:
        """Forget what was looked at, before another round; what was written stays."""
        self.seen = self.verified = self.failed = 0
        self.failures.clear()
        self._failed.clear()

    def count(self, records: Iterable[Record]) -> None:
        """Note what was written."""
        for record in records:
            self.sessions += isinstance(record, Session)
            self.state += isinstance(record, StateRecord)
            self.events += isinstance(record, EventRecord)

    def fail(self, session: str, why: Exception | str) -> None:
        """Note a session that could not be moved."""
        if session in self._failed:
            return
        self._failed.add(session)
        self.failed = len(self._failed)
        if len(self.failures) < _NAMED:
            self.failures[session] = str(why)

    def forgive(self, session: str) -> None:
        """Forget that a session could not be moved, before another attempt."""
        self._failed.discard(session)
        self.failures.pop(session, None)
        self.failed = len(self._failed)

    def has_failed(self, session: str) -> bool:
        """Whether a session could not be moved."""
        return session in self._failed


OnProgress = Callable[[Moved], None]
"""Called with the state of affairs after each step; it must not keep it, for it goes on changing."""
