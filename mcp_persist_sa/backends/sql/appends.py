"""How a batch of events is stored: at most one statement for each of the two kinds of streams on Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.arrivals import Results
from mcp_persist_sa.backends.sql.claimed import ClaimedAppends
from mcp_persist_sa.backends.sql.memory import Memory
from mcp_persist_sa.backends.sql.shared import SharedAppends
from mcp_persist_sa.batches import Append, Gate, Place


def is_one_statement(batch: Sequence[Append]) -> bool:
    """Whether each kind of stream takes one statement on Postgres, so that no transaction need be opened around it."""
    return not any(group.claim is None and group.events[-1].final for group in batch)


# Their statements are compiled once in a process, however many stores it opens.
_claimed_appends, _shared_appends = cache(ClaimedAppends), cache(SharedAppends)


class Appends:
    """The statements for one dialect and namespace."""

    def __init__(self, dialect: str, namespace: str) -> None:
        self._namespace = namespace
        self._claimed = _claimed_appends(dialect)
        self._shared = _shared_appends(dialect)

    def store(
        self, connection: sa.Connection, batch: Sequence[Append], gate: Gate, at: datetime | None
    ) -> list[Place | Exception]:
        """Store a batch, and tell where each group is, or why it was refused.

        Args:
            connection: In a transaction, or in autocommit where `is_one_statement`.
            batch: At most one final event a stream, and nothing behind it.
            gate: Lets the batch through once.
            at: The time, or None for the database's clock.
        """
        common = {"now": at, "in_namespace": self._namespace}
        claimed = [group for group in batch if group.claim is not None]
        shared = [group for group in batch if group.claim is None]
        memory = Memory.of(connection) if claimed else None
        of_claimed: Results = []
        if memory is not None:
            of_claimed = self._claimed.store(connection, claimed, common, memory)
        of_shared = self._shared.store(connection, shared, gate, common) if shared else []
        if memory is not None:
            memory.written()
        if not (of_claimed and of_shared):
            return of_claimed or of_shared
        each_claimed, each_shared = iter(of_claimed), iter(of_shared)
        return [next(each_shared if group.claim is None else each_claimed) for group in batch]
