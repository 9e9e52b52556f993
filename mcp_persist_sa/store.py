"""The store: one facade over every backend."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncEngine

from mcp_persist_sa.checks import message_size, new_append
from mcp_persist_sa.condition import Condition
from mcp_persist_sa.dsn import default_dsn, parse
from mcp_persist_sa.errors import InvalidInput, PersistError, StoreClosed
from mcp_persist_sa.events import Events
from mcp_persist_sa.identity import REQUEST_STATE, RESERVED, escape_stream_id, event_id
from mcp_persist_sa.janitor import Janitor
from mcp_persist_sa.keys import DAY, HOUR, Secret, shared_keys
from mcp_persist_sa.measuring import measured
from mcp_persist_sa.models import NewEvent
from mcp_persist_sa.nodes import Node
from mcp_persist_sa.opening import Opened, open_dsn, open_given
from mcp_persist_sa.options import Options, warn_of_unlimited
from mcp_persist_sa.sessions import Sessions
from mcp_persist_sa.state import State
from mcp_persist_sa.streams import StreamWriter
from mcp_persist_sa.writer import Writers

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

    from mcp_persist_sa.subscriptions import SubscriptionBus


def open_store(dsn: str | None = None, **options: Any) -> Store:
    """Give the store of a DSN, which `async with` opens and closes.

    Args:
        dsn: `sqlite:///file.db`, `sqlite://` (in memory), `postgresql://user:password@host/database`,
            `redis://host:6379/0`. None for the one in the environment variable MCP_PERSIST_SA_DSN, or else a file in
            the working directory.
        **options: See `Options`; those that a DSN can carry may also stand in its query.

    Raises:
        InvalidDSN: The DSN is not understood.
        InvalidOption: An option is unknown or has a value that it cannot have.
    """
    return Store(default_dsn() if dsn is None else dsn, **options)


class Store(Events, Condition):
    """The database of an MCP server. It belongs to the event loop in which it was opened."""

    def __init__(self, source: str | AsyncEngine | Redis | RedisCluster, **options: Any) -> None:
        """Make a store, which is opened by `async with` or `open`.

        Args:
            source: A DSN; or an engine or a client of redis.asyncio of yours, which the store uses and never closes.
            **options: See `Options`.
        """
        given = parse(source).options if isinstance(source, str) else {}
        self._source = source
        self._options = Options.of({**given, **options})
        self._opened: Opened | None = None
        self._one_opening = asyncio.Lock()

    async def open(self) -> Store:
        """Connect, and check the tables (or bring them up to date, where `migrate` allows it).

        Raises:
            StoreUnavailable: The database cannot be reached, or refuses (`AccessDenied`).
            SchemaError: The tables are missing, too old, too new, or not ours.
            MissingExtra: A driver is not installed.
        """
        async with self._one_opening:
            if self._opened is None:
                await self._open()
        return self

    async def _open(self) -> None:
        warn_of_unlimited(self._options)
        opening = open_dsn if isinstance(self._source, str) else open_given
        found: Opened = await opening(self._source, self._options)  # type: ignore[arg-type]
        self._opened = opened = found._replace(backend=measured(found.backend, self._options.metrics))
        self._writers = Writers(
            opened.backend,
            opened.notifier.notify,
            max_events=self._options.max_queued_events,
            max_bytes=self._options.max_queued_bytes,
        )
        self._sessions = Sessions(opened.backend, opened.notifier, self._options)
        self._node = Node(opened.backend, timedelta(seconds=self._options.node_lease))
        self._janitor = Janitor(opened.backend, self._options)

    async def close(self) -> None:
        """Write what is queued, and disconnect. Whoever cancels this only stops to wait for it."""
        if self._opened is None:
            return
        opened, self._opened = self._opened, None
        self._closing = asyncio.ensure_future(self._close(opened))
        await asyncio.shield(self._closing)

    async def _close(self, opened: Opened) -> None:
        try:
            await self._writers.close(self._options.timeout)
            await self._janitor.stop()
            await self._node.leave()
        finally:
            await opened.notifier.close()
            await opened.backend.close()

    async def __aenter__(self) -> Store:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def is_open(self) -> bool:
        """Whether the store is open."""
        return self._opened is not None

    @property
    def node_id(self) -> str | None:
        """Under which this process is known as a node, or None if it has not joined."""
        return None if self._opened is None else self._node.node_id

    @property
    def options(self) -> Options:
        """The options in force."""
        return self._options

    @property
    def _now_open(self) -> Opened:
        if self._opened is None:
            raise StoreClosed("The store is not open. Use `async with open_store(dsn) as store`.")
        return self._opened

    # Sessions and state

    @property
    def sessions(self) -> Sessions:
        """Records of sessions."""
        _ = self._now_open
        return self._sessions

    def state(self, session_id: str) -> State:
        """The state of a session, or of any handle of your own making, which then need not be a recorded session.

        Args:
            session_id: The session or handle.

        Raises:
            InvalidInput: It is a handle of the store's own.
        """
        if isinstance(session_id, str) and session_id.startswith(RESERVED):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"Handles that begin with {RESERVED} are the store's own.")
        return self._state(session_id)

    def _state(self, session_id: str) -> State:
        return State(self._now_open.backend, self._key(session_id), self._options)

    async def request_state_keys(
        self, secret: Secret | Sequence[Secret], *, rotate_after: float = DAY, keep: float = HOUR
    ) -> list[bytes]:
        """The keys of `RequestStateSecurity(keys=...)` that all replicas share; the first replica makes them.

        A new key verifies for the time `keep` before it comes first, and for as long after the next one did. So a
        replica that asks again within that time, less the `ttl` of `RequestStateSecurity`, understands all others.

        Args:
            secret: Yours, with which the keys are encrypted in the database, as `Fernet.generate_key()` makes it; or
                several, of which the first encrypts and all decrypt.
            rotate_after: Seconds after which a new key is made.
            keep: Seconds; at most `rotate_after`, and half of `state_ttl`, after which keys are gone that nobody uses.

        Raises:
            InvalidOption: A secret is none, or a time cannot be.
            PersistError: The keys in the store were encrypted with another secret.
        """
        return await shared_keys(self._state(REQUEST_STATE), self._options, secret, rotate_after, keep)

    def subscription_bus(self, *, patience: float = 2.0, keep: float = 600.0) -> SubscriptionBus:
        """A bus for `MCPServer(subscriptions=...)` of mcp 2.x that all replicas share; the store need not be open yet.

        Args:
            patience: Seconds for which `publish` waits for the store.
            keep: Seconds for which a replica may be cut off from the store and miss nothing.

        Raises:
            InvalidOption: A time is not above 0.
            PersistError: The SDK that is installed has no subscriptions.
        """
        # The SDK is large, and a migration does not need it.
        from mcp_persist_sa.subscriptions import SubscriptionBus

        return SubscriptionBus(self, patience=patience, keep=keep)

    # Writing events

    async def append(self, session_id: str, stream_id: str, message: str | None, *, final: bool = False) -> str:
        """Store an event in a stream to which anyone may append, and give its id once it is durable.

        Args:
            session_id: The session, which need not be recorded.
            stream_id: The stream's name in the session; it is opened with its first event.
            message: The JSON-RPC message as JSON text, stored exactly as given; None for a priming event.
            final: Whether it ends the stream.

        Raises:
            InvalidInput: It cannot be stored.
            StreamClaimed: The stream has a writer of its own.
            StoreUnavailable: It was not stored within `timeout`, or is not allowed (`AccessDenied`); with
                `OutcomeUnknown`, it may have been.
        """
        return (await self.append_many(session_id, stream_id, [NewEvent(message, final)]))[0]

    async def append_many(self, session_id: str, stream_id: str, events: Sequence[NewEvent]) -> list[str]:
        """Store events together and in order; otherwise as `append`."""
        name = escape_stream_id(stream_id)
        group = new_append(self._key(session_id), name, events, self._options.max_message_bytes)
        _ = self._now_open
        place = await self._writers.of(group.session_key).write(group, self._options.timeout)
        return [
            event_id(place.stream_key, sequence, event.nonce)
            for sequence, event in enumerate(group.events, place.first_sequence)
        ]

    def claim(self, session_id: str, stream_id: str, *, will: str | None = None) -> StreamWriter:
        """Open a stream as its only writer, which numbers the events itself and need not wait for the database.

        Args:
            session_id: The session, which need not be recorded.
            stream_id: The stream's name in the session. Whether it is free is found out when its first event is stored.
            will: A message with which the stream is ended, by whoever tails it, if this node dies; see `join`.

        Raises:
            InvalidInput: The will cannot be stored.
            PersistError: There is a will, but this process has not joined.
        """
        node = self._now_open and self._node.node_id
        if will is not None:
            message_size(will, self._options.max_message_bytes)
            if node is None:
                raise PersistError("A stream with a will needs a node that can be seen to live: call `join` first.")
        key, name, limit = self._key(session_id), escape_stream_id(stream_id), self._options.max_message_bytes
        return StreamWriter(self._writers.of(key), key, name, limit, node_id=None if will is None else node, will=will)

    async def listen(self, session_id: str, *, anew: bool = False) -> bool:
        """Take it that the client of a session listens at this node; False if it does so at another that is alive.

        Args:
            session_id: The session.
            anew: Whether the client is known to have come here from there.
        """
        _ = self._now_open
        return await self._node.listen(self._key(session_id), anew=anew)

    async def unlisten(self, session_id: str) -> None:
        """Take it that the client of a session does not listen at this node any more."""
        _ = self._now_open
        await self._node.unlisten(self._key(session_id))

    async def join(self) -> None:
        """Make this process a node that is seen to live, by a lease in the database, until the store is closed.

        One of the nodes removes what has expired, every `purge_interval` seconds.

        Raises:
            StoreUnavailable: The database cannot be reached.
        """
        _ = self._now_open
        self._janitor.start(await self._node.join())
