"""The bus of the stateless era's subscriptions: what one replica publishes, the listeners of every replica hear."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from contextlib import aclosing, suppress
from contextvars import Context
from datetime import timedelta
from itertools import takewhile
from time import monotonic
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from mcp_persist_sa.errors import HistoryLost, InvalidOption, PersistError, SessionNotFound, StoreClosed, UnknownEvent
from mcp_persist_sa.events import Events
from mcp_persist_sa.identity import SUBSCRIPTIONS, new_session_id
from mcp_persist_sa.models import Event, JSONValue, NewEvent, value_of
from mcp_persist_sa.outbox import Outbox

try:
    from mcp.shared import subscriptions as sdk
except ImportError:
    # The 1.x line knows the handshake era alone.
    sdk = None

if TYPE_CHECKING:
    from mcp.server.subscriptions import ServerEvent

    Listener = Callable[[ServerEvent], None]

logger = logging.getLogger(__name__)

_STREAM = "events"
_ORIGIN = "mcp-persist-sa/origin"
_MOST_URIS = 10_000
_PAGE = 500
_RETRY = 0.2


class SubscriptionBus:
    """A bus for `MCPServer(subscriptions=...)` of mcp 2.x, shared by all replicas that have the store.

    Listeners of this process hear at once what is published in it; those of other replicas hear it through the store.
    What is read from the store ends with `aclose`, or when the store is closed.
    """

    def __init__(self, store: Events, *, patience: float = 2.0, keep: float = 600.0) -> None:
        """Make it.

        Args:
            store: The store, which need not be open yet.
            patience: Seconds for which `publish` waits for the store.
            keep: Seconds for which a replica may be cut off from the store and miss nothing.

        Raises:
            InvalidOption: A time is not above 0.
            PersistError: The SDK that is installed has no subscriptions.
        """
        if not (patience > 0 and keep > 0):
            raise InvalidOption("The options patience and keep are numbers of seconds above 0.")
        if sdk is None:
            raise PersistError("Subscriptions of the stateless era need mcp 2.x: pip install 'mcp>=2'.")
        self._sdk = sdk
        self._store = store
        self._patience = patience
        self._origin = new_session_id()
        self._outbox = Outbox(store, SUBSCRIPTIONS, _STREAM, may_repeat=True)
        self._is_overdue = False
        self._listeners: dict[object, Listener] = {}
        self._uris: dict[str, None] = {}
        self._reader: asyncio.Task[None] | None = None
        self._place: str | None = None
        self._was_away = False
        self._past = _Past(keep)

    async def publish(self, event: ServerEvent) -> None:
        """Tell listeners here, and then, through the store, those of the other replicas.

        With the store away this returns after `patience`, and the event is sent when the store is there again.
        """
        text = self._text_of(event)
        await self._tell(event)
        if text is None:
            return
        stored = asyncio.get_running_loop().create_future()
        self._outbox.put(text, stored)
        if not self._is_overdue:
            await asyncio.wait({stored}, timeout=self._patience)
        if stored.done():
            self._is_overdue = False
            return
        stored.add_done_callback(self._came_late)
        if not self._is_overdue:
            logger.warning("The store is away: what is published reaches other replicas only when it is there again.")
        self._is_overdue = True

    def _came_late(self, _: asyncio.Future[bool]) -> None:
        self._is_overdue = False

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Register a listener, and give what ends that."""
        token = object()
        self._listeners[token] = listener
        if self._reader is None or self._reader.done():
            # A task takes over the context in which it is made, which is that of one client's request.
            self._reader = Context().run(asyncio.get_running_loop().create_task, self._read())

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    async def aclose(self) -> None:
        """Send what was published, within `patience`, and read no more."""
        await self._outbox.flush(self._patience)
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait({reader})

    # Listeners

    async def _tell(self, event: ServerEvent) -> None:
        if isinstance(event, self._sdk.ResourceUpdated):
            self._uris.pop(event.uri, None)
            self._uris[event.uri] = None
            if len(self._uris) > _MOST_URIS:
                del self._uris[next(iter(self._uris))]
        for listener in [*self._listeners.values()]:
            try:
                listener(event)
            except Exception:
                logger.exception("A listener of subscriptions raised")
        # The streams of clients take what they were given, or a burst would be too much for them.
        await checkpoint()

    async def _tell_all(self) -> None:
        """Tell that anything may have changed, as far as it is known what there is."""
        lists = (self._sdk.ToolsListChanged, self._sdk.PromptsListChanged, self._sdk.ResourcesListChanged)
        for event in [*(kind() for kind in lists), *map(self._sdk.ResourceUpdated, self._uris)]:
            await self._tell(event)

    # Events as text

    def _text_of(self, event: ServerEvent) -> str | None:
        notification = self._sdk.event_to_notification(event, {_ORIGIN: self._origin})
        try:
            return notification.model_dump_json(by_alias=True, exclude_none=True)
        except ValueError as error:
            logger.warning("An event that is no JSON stays in this process: %(error)s", {"error": error})
            return None

    async def _hear(self, event: Event) -> None:
        """Tell listeners what another replica has published."""
        message = _json(event.message)
        params = value_of(message, "params")
        if message is None or value_of(value_of(params, "_meta"), _ORIGIN) == self._origin:
            return
        heard = self._sdk.event_from_wire(value_of(message, "method"), params)
        if heard is None:
            logger.debug("Another replica has published what this release does not know")
        else:
            await self._tell(heard)

    # Reading

    async def _read(self) -> None:
        asked: float | None = monotonic()
        self._place = None
        while True:
            try:
                if self._place is None:
                    self._place = await self._begin(asked)
                await self._follow(self._place)
                self._place = asked = None
            except StoreClosed as error:
                if not self._store.is_open:
                    logger.debug("Subscribers hear other replicas no more: %(error)s", {"error": error})
                    return
            except (HistoryLost, UnknownEvent, SessionNotFound) as error:
                logger.warning(
                    "Events for subscribers are lost, so they are told that all may have changed: %(error)s",
                    {"error": error},
                )
                self._place = asked = None
            except PersistError as error:
                logger.info("What other replicas publish cannot be read for the moment: %(error)s", {"error": error})
                self._was_away = True
            await asyncio.sleep(_RETRY)

    async def _follow(self, place: str) -> None:
        if self._was_away:
            await self._store.read(SUBSCRIPTIONS, after=place)
            # Who published meanwhile, and ended, has sent nothing.
            await self._tell_all()
            self._was_away = False
        async with aclosing(self._store.tail(SUBSCRIPTIONS, after=place)) as items:
            async for item in items:
                if isinstance(item, Event):
                    await self._hear(item)
                    self._place = item.event_id
                    await self._tidy(item.event_id)

    async def _begin(self, asked: float | None) -> str:
        """Find the place from which on everything is heard, which is an event of its own, and tell what came before it.

        Args:
            asked: When the first listener subscribed; None after a loss.
        """
        (marker,) = await self._store.append_many(SUBSCRIPTIONS, _STREAM, [NewEvent(None)])
        page = await self._store.recent(SUBSCRIPTIONS, _STREAM, limit=_PAGE)
        before = [*takewhile(lambda event: event.event_id != marker, page.events)]
        if asked is None or len(before) == len(page.events):
            missed, is_whole = before, False
        else:
            # The clocks of the database and of this process differ, but not in how long this took.
            since = page.events[len(before)].created_at - timedelta(seconds=monotonic() - asked)
            missed = [event for event in before if event.created_at >= since]
            is_whole = len(missed) < len(before) or not page.more
        for event in missed:
            await self._hear(event)
        if not is_whole:
            await self._tell_all()
        return marker

    async def _tidy(self, event_id: str) -> None:
        """Remove what no replica needs any more; each of them does so, since any may be the only one."""
        removable = self._past.before(event_id)
        if removable is not None:
            with suppress(PersistError):
                await self._store.delete_before(SUBSCRIPTIONS, removable)


class _Past:
    """Knows an event that was the newest a while ago."""

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._marks: deque[tuple[float, str]] = deque()

    def before(self, event_id: str) -> str | None:
        """Take note of the newest event; gives one that is old enough, if there is another than the last time."""
        now, found = monotonic(), None
        if not self._marks or now - self._marks[-1][0] >= self._keep / 10:
            self._marks.append((now, event_id))
        while now - self._marks[0][0] >= self._keep:
            found = self._marks.popleft()[1]
        return found


def _json(text: str | None) -> JSONValue:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None
