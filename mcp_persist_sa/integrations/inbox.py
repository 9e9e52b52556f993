"""What nodes send to each other: each has an inbox, which is a stream of the store."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import NamedTuple

from mcp_persist_sa.errors import HistoryLost, PersistError, UnknownEvent
from mcp_persist_sa.identity import inbox_of
from mcp_persist_sa.models import Event, JSONValue
from mcp_persist_sa.store import Store

logger = logging.getLogger(__name__)

_STREAM = "inbox"
_RETRY = 0.2


class Letter(NamedTuple):
    """What a client said to another node than the one that it concerns: no header of it, and no secret.

    Attributes:
        session_id: The session.
        message: The JSON-RPC message.
    """

    session_id: str
    message: JSONValue


async def post(store: Store, node_id: str, letter: Letter) -> None:
    """Put a letter into the inbox of a node.

    Raises:
        StoreUnavailable: It may not be there.
        TooLarge: It is over the limit of the store.
    """
    await store.append(inbox_of(node_id), _STREAM, json.dumps(letter._asdict()))


class Inbox:
    """The inbox of this node."""

    def __init__(self, store: Store, node_id: str) -> None:
        self._store = store
        self._session_id = inbox_of(node_id)
        self._last: str | None = None
        self._removable: str | None = None
        self._removed: str | None = None

    async def letters(self) -> AsyncGenerator[Letter, None]:
        """Everything that comes, in its order and once, for as long as the process lives."""
        while True:
            stream_id = _STREAM if self._last is None else None
            try:
                tail = self._store.tail(self._session_id, after=self._last, stream_id=stream_id)
                async with aclosing(tail) as items:
                    async for item in items:
                        if isinstance(item, Event):
                            self._last = item.event_id
                            written = json.loads(item.message or "")
                            yield Letter(written["session_id"], written["message"])
            except (HistoryLost, UnknownEvent) as error:
                logger.warning("Messages from other nodes may be lost: %(error)s", {"error": error})
                self._last = self._removable = None
            except PersistError as error:
                logger.info("Messages from other nodes cannot be read for the moment: %(error)s", {"error": error})
                await asyncio.sleep(_RETRY)

    async def tidy(self) -> None:
        """Remove what was read before this was called the last time: another reader in this process may be slower."""
        last, self._removable = self._removable, self._last
        if last is not None and last != self._removed:
            with suppress(PersistError):
                await self._store.delete_before(self._session_id, last)
                self._removed = last
