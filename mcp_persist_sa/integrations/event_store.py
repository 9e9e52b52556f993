"""The SDK's event store: it gives each event its place, and leaves the writing to the store."""

from __future__ import annotations

import logging
import re
from typing import Any

from mcp_persist_sa.integrations import sdk
from mcp_persist_sa.integrations.calls import current

logger = logging.getLogger(__name__)

_SCOPED = re.compile(r"32:[0-9a-f]{32}:")
"""What fastmcp puts before a stream id: the length of a random id of its transport, and this id."""


class EventStore(sdk.EventStore):
    """Stores events under the session to which they belong, which `DurableSessions` around the endpoint tells.

    It never raises and never waits, because the SDK calls it in its message router. Without the layer it does not know
    the session; then it stores nothing, says so once, and frames leave without an id.
    """

    def __init__(self) -> None:
        self._warned = False

    async def store_event(self, stream_id: str, message: Any) -> str:
        """Give an event its place and queue it for writing.

        Args:
            stream_id: A request id, or the SDK's name for what belongs to no request.
            message: A JSON-RPC message; None for a priming event.

        Returns:
            Its event id, whose frame the layer holds back until the event is durable; empty if it is not stored.
        """
        copy = current.get()
        if copy is None:
            self._warn()
            return ""
        prefix = _SCOPED.match(stream_id)
        return copy.store_event(stream_id[prefix.end() :] if prefix else stream_id, message)

    async def replay_events_after(self, last_event_id: str, send_callback: Any) -> None:
        """Replay nothing: the layer answers every GET itself.

        Args:
            last_event_id: Of the client.
            send_callback: Of the SDK.
        """
        self._warn()

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.error(
                "mcp_persist_sa.EventStore is not inside DurableSessions, so it does not know whose events these are: "
                "NOTHING IS STORED. Serve the app that persist(server, dsn) returns, or wrap the endpoint: "
                "DurableSessions(endpoint, store)."
            )
