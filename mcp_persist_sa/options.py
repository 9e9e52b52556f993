"""The options of a store: their types, units, defaults and checks."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Literal

from mcp_persist_sa.errors import InvalidInput, InvalidOption
from mcp_persist_sa.identity import check_name
from mcp_persist_sa.metrics import Metrics

logger = logging.getLogger(__name__)

MAX_BUSY_SECONDS = 5.0
"""How long a call waits in SQLite for another process before it is tried again."""

CLOSED_TTL = timedelta(minutes=30)
"""How long a session that was closed is known, where sessions never expire."""

FORGET_AFTER = timedelta(hours=1)
"""How long it is known of a node that it is dead, after its lease has run out."""

Password = Callable[[], "str | Awaitable[str]"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a store behaves.

    Attributes:
        namespace: Keeps several servers apart in one database.
        key_prefix: Redis: with which all keys begin, within the braces that name their slot.
        wait_replicas: Redis: how many replicas must have a write before it is acknowledged.
        wait_aof: Redis 7.2: whether a write must be on disk before it is acknowledged, on those replicas too.
        migrate: Whether opening may create tables and bring them up to date. None: yes on SQLite, no on Postgres.
        schema: The Postgres schema of the tables; None for the first of the search path.
        background: Whether the store may run tasks of its own between calls. With False, housekeeping is by command,
            other processes are polled for, and are not told of what is written here.
        clock: Gives the time instead of the database's clock; for tests and imports.
        session_ttl: Seconds after its last use at which a session ends (30 minutes, as the SDK); None for never.
        event_ttl: Seconds for which an event can be replayed (24 hours); None for ever.
        state_ttl: Seconds after its last write for which the state of a handle, which is no recorded session, is kept
            (7 days); None for ever. The state of a session lives as long as the session.
        max_sessions: How many sessions may be open at once; None for any number.
        max_events_per_stream: The newest events that a stream keeps; None for all.
        max_bytes_per_stream: The newest bytes of messages that a stream keeps; None for all.
        max_events_per_session: The newest events that a session keeps; None for all.
        max_bytes_per_session: The newest bytes of messages that a session keeps; None for all.
        max_message_bytes: The largest message that is stored, in bytes of UTF-8.
        max_state_bytes: The largest value of a state key, in bytes of JSON.
        max_queued_events: How many events may wait to be written.
        max_queued_bytes: How many bytes of messages may wait to be written.
        page_events: The most events that are read at a time.
        page_bytes: The most bytes of messages that are read at a time; one event is read whatever its size.
        node_lease: Seconds for which a node that serves sessions is believed to live after its last sign of life.
        purge_interval: Seconds after which a node, one of those that have joined, removes what has expired; None: none
            does, and it is by command.
        poll_interval: Seconds after which whoever waits for events looks again, also if nothing woke it.
        timeout: Seconds that a call may wait for the database, retries included.
        connect_timeout: Seconds to wait for a connection.
        pool_size: The most connections of the store (threads that read, on SQLite), beside the one that hears others.
        synchronous: SQLite: `FULL` survives a power cut, `NORMAL` may lose the last commits in one.
        pgbouncer: Postgres: whether a transaction-mode pooler stands between; None to find out.
        password: Postgres: called (and awaited, if need be) for the password of each new connection.
        connect_args: Passed to the driver as they are.
        metrics: Told how many events are stored and read, how long that takes, and what fails; see `Metrics`.
    """

    namespace: str = ""
    key_prefix: str = "mcp"
    wait_replicas: int = 0
    wait_aof: bool = False
    migrate: bool | None = None
    schema: str | None = None
    background: bool = True
    clock: Callable[[], datetime] | None = None
    session_ttl: float | timedelta | None = 30 * 60
    event_ttl: float | timedelta | None = 24 * 60 * 60
    state_ttl: float | timedelta | None = 7 * 24 * 60 * 60
    max_sessions: int | None = None
    max_events_per_stream: int | None = None
    max_bytes_per_stream: int | None = None
    max_events_per_session: int | None = None
    max_bytes_per_session: int | None = None
    max_message_bytes: int = 16 * 1024 * 1024
    max_state_bytes: int = 1024 * 1024
    max_queued_events: int = 20_000
    max_queued_bytes: int = 64 * 1024 * 1024
    page_events: int = 1000
    page_bytes: int = 1024 * 1024
    node_lease: float = 15.0
    purge_interval: float | None = 300.0
    poll_interval: float = 2.0
    timeout: float = 30.0
    connect_timeout: float = 10.0
    pool_size: int = 10
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    pgbouncer: bool | None = None
    password: Password | None = None
    connect_args: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    metrics: Metrics | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Options:
        """Check options by name.

        Raises:
            InvalidOption: One is unknown, or has a value that it cannot have.
        """
        names = [option.name for option in fields(cls)]
        for name in values:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(names)}."
                raise InvalidOption(f"There is no option {name!r}.{hint}")
        options = cls(**values)
        options._check()
        return options

    def _check(self) -> None:
        for name in _POSITIVE:
            _check_number(name, getattr(self, name))
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool if name in ("background", "wait_aof") else bool | None):
                raise InvalidOption(f"The option {name} is True or False, not {getattr(self, name)!r}.")
        if self.synchronous not in ("FULL", "NORMAL"):
            raise InvalidOption(f"The option synchronous is 'FULL' or 'NORMAL', not {self.synchronous!r}.")
        self._check_calls()
        if not isinstance(self.connect_args, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption("The option connect_args is a mapping of names to values.")
        if isinstance(self.wait_replicas, bool) or self.wait_replicas not in range(100):
            raise InvalidOption(f"The option wait_replicas is a whole number from 0 to 99, not {self.wait_replicas!r}.")
        self._check_name("namespace", self.namespace)
        if not (isinstance(self.key_prefix, str) and _PREFIX.fullmatch(self.key_prefix)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption("The option key_prefix is 1 to 64 letters, digits and any of _.:-")
        self._check_name("schema", "" if self.schema is None else self.schema)

    def _check_calls(self) -> None:
        for name in ("password", "clock"):
            if not (getattr(self, name) is None or callable(getattr(self, name))):
                raise InvalidOption(f"The option {name} is something to call, or None.")
        if self.metrics is not None and not all(callable(getattr(self.metrics, name, None)) for name in _COLLECTED):
            raise InvalidOption(f"The option metrics has the methods {', '.join(_COLLECTED)}.")

    def _check_name(self, name: str, value: str) -> None:
        try:
            check_name(f"option {name}", value)
        except InvalidInput as error:
            raise InvalidOption(str(error)) from None

    def span(self, name: str) -> timedelta | None:
        """A time to live as a timedelta."""
        value = getattr(self, name)
        return timedelta(seconds=value) if isinstance(value, int | float) else value

    @property
    def touch_interval(self) -> timedelta:
        """By how much a session may have been used later than is written down."""
        ttl = self.span("session_ttl")
        return timedelta(hours=1) if ttl is None else ttl / 20


def warn_of_unlimited(options: Options) -> None:
    """Say what is kept for ever, once in a process."""
    for name, what in _UNLIMITED.items():
        if getattr(options, name) is None and name not in _warned:
            _warned.add(name)
            logger.warning(
                "The option %(option)s is None: %(what)s are kept until somebody deletes them.",
                {"option": name, "what": what},
            )


_PREFIX = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_UNLIMITED = {"session_ttl": "sessions", "event_ttl": "events", "state_ttl": "values of handles"}
_warned: set[str] = set()
_POSITIVE = [
    option.name
    for option in fields(Options)
    if option.name.startswith(("max_", "page_"))
    or option.name.endswith(("_ttl", "timeout", "_interval", "_lease", "_size"))
]
_WHOLE = [name for name in _POSITIVE if name.startswith(("max_", "page_", "pool_"))]
_OPTIONAL = [
    name
    for name in _POSITIVE
    if name.endswith(("_ttl", "_sessions", "_per_stream", "_per_session")) or name == "purge_interval"
]
_CENTURY = 100 * 365 * 24 * 60 * 60
_COLLECTED = ("event_stored", "replay", "error")
_FLAGS = ["migrate", "background", "pgbouncer", "wait_aof"]


def _check_number(name: str, value: object) -> None:
    if value is None and name in _OPTIONAL:
        return
    unit = "a whole number" if name in _WHOLE else "a number of seconds"
    if isinstance(value, timedelta) and name.endswith("_ttl"):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int if name in _WHOLE else int | float):
        raise InvalidOption(f"The option {name} is {unit}, not {value!r}.")
    most = 2**53 if name in _WHOLE else _CENTURY
    if not 0 < value <= most:
        raise InvalidOption(f"The option {name} is {unit} above 0 and up to {most}, not {value!r}.")
