"""The ids of sessions, streams and events: how they are made, written and checked.

A session is kept under a key, the digest of its namespace and id, with which the key of everything that belongs to it
begins. An event id is `<stream key>.<sequence>.<nonce>`: the key and the nonce are random, so it cannot be guessed; the
nonce differs even where a database that was restored from a backup gives the same number to another event.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
import uuid
from base64 import urlsafe_b64encode
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

from mcp_persist_sa.errors import InvalidInput, UnknownEvent

_SESSION_ID = re.compile(r"[\x21-\x7e]{1,255}")
_KEY = re.compile(r"[\w-]{20}", re.ASCII)
_EVENT_ID = re.compile(r"([\w-]{16})\.([1-9][0-9]{0,17})\.([\w-]{8})", re.ASCII)
_PLAIN = re.compile(r"[\x20-\x5b\x5d-\x7e]*")
_MAX_STREAM_ID = 1024
_MAX_NAME = 255


_BLOCK = 3072


class _Random:
    """Bytes of the system's generator, fetched in blocks: a system call for each event would cost too much."""

    def __init__(self) -> None:
        self._text = ""
        self._used = 0

    def text(self, length: int) -> str:
        """So many characters of six random bits each, a multiple of four."""
        if self._used + length > len(self._text):
            self._text = urlsafe_b64encode(os.urandom(max(_BLOCK, length))).decode()
            self._used = 0
        self._used += length
        return self._text[self._used - length : self._used]

    def forget(self) -> None:
        """Drop what was fetched: a forked process must not give the same."""
        self._text = ""


_random = _Random()
os.register_at_fork(after_in_child=_random.forget)


class EventId(NamedTuple):
    """The parts of an event id."""

    stream_key: str
    sequence: int
    nonce: str

    def __str__(self) -> str:
        return event_id(*self)

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Take an event id apart.

        Raises:
            UnknownEvent: It is none of ours.
        """
        match = _EVENT_ID.fullmatch(text) if isinstance(text, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        if match is None:
            raise unknown_event()
        return cls(match[1], int(match[2]), match[3])


def event_id(stream_key: str, sequence: int, nonce: str) -> str:
    """An event id, of its parts."""
    return f"{stream_key}.{sequence}.{nonce}"


def unknown_event() -> UnknownEvent:
    """The one answer to every id that is no event of the session: it must not tell a foreign id from a forged one."""
    return UnknownEvent("No such event in this session. Start the stream anew, without Last-Event-ID.")


def session_key(namespace: str, session_id: str) -> str:
    """The key under which all that belongs to a session is kept."""
    digest = blake2b(f"{namespace}\0{session_id}".encode(), digest_size=15)
    return urlsafe_b64encode(digest.digest()).decode()


def new_stream_key() -> str:
    """A random key of 96 bits."""
    return _random.text(16)


def new_entry_id() -> str:
    """A random key of 120 bits."""
    return _random.text(20)


def new_nonce() -> str:
    """A random nonce of an event, of 48 bits."""
    return _random.text(8)


FOREIGN = "num-"
"""How the keys of streams begin that were imported from a store whose event ids are numbers."""

_NUMBER = re.compile(r"[0-9]{1,15}")


def new_foreign_stream_key() -> str:
    """A random key of 72 bits for such a stream."""
    return f"{FOREIGN}{_random.text(12)}"


def nonce_of_number(number: int) -> str:
    """The nonce of an event that had this number for its id, by which it is found when a client comes with that.

    Raises:
        InvalidInput: The number is too large.
    """
    if not 0 <= number < 1 << 48:
        raise InvalidInput(f"The event id {number} is not one of mcp-persist.")
    return urlsafe_b64encode(number.to_bytes(6, "big")).decode()


def number_of(event_id: str) -> int | None:
    """The number that is an event id of another store; None for what is no such id."""
    is_one = isinstance(event_id, str) and _NUMBER.fullmatch(event_id)  # pyright: ignore[reportUnnecessaryIsInstance]
    return int(event_id) if is_one and int(event_id) < 1 << 48 else None


def new_session_id() -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of Unix time in milliseconds, then 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


class PagePlace(NamedTuple):
    """After which record a page begins, as the `next` of the page before says it: its time, and its key."""

    created_at: datetime
    key: str

    def __str__(self) -> str:
        return f"{self.created_at.isoformat()} {self.key}"

    @classmethod
    def parse(cls, text: str) -> PagePlace:
        """Take a `next` apart.

        Raises:
            InvalidInput: It is none.
        """
        moment, _, key = text.partition(" ")
        try:
            created_at = datetime.fromisoformat(moment)
        except ValueError:
            created_at = datetime.min
        if created_at.tzinfo is None or not _KEY.fullmatch(key):
            raise InvalidInput("This is not the `next` of a page.")
        return cls(created_at, key)


RESERVED = "mcp-persist-sa/"
"""How the sessions begin that are ours.

They are never recorded, so no client can have one: a session of a client is one that was recorded under a UUID.
"""

SUBSCRIPTIONS = f"{RESERVED}subscriptions"
"""The session whose one stream is what replicas have published to subscribers."""

REQUEST_STATE = f"{RESERVED}request-state"
"""The handle under whose state the keys are that all replicas share."""


def inbox_of(node_id: str) -> str:
    """The session whose one stream is what other nodes have sent to a node."""
    return f"{RESERVED}inbox/{node_id}"


def check_session_id(session_id: str) -> str:
    """Refuse what the specification does not allow as a session id: it is 1 to 255 visible ASCII characters.

    See "Session Management" in the transports chapter of the MCP specification 2025-11-25.
    """
    if not isinstance(session_id, str) or not _SESSION_ID.fullmatch(session_id):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput("A session id is 1 to 255 visible ASCII characters.")
    return session_id


def check_name(what: str, name: str) -> str:
    """Refuse an owner, tenant, namespace or key that a database cannot hold or index."""
    if not isinstance(name, str) or len(name) > _MAX_NAME or "\0" in name:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"The {what} is text of at most {_MAX_NAME} characters without NUL.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"The {what} has a lone surrogate, which is not text.") from None
    return name


def escape_stream_id(stream_id: str) -> str:
    r"""Write a stream id, which is any text that a client chose as a request id, in printable ASCII.

    What is printable already stays as it is; the rest is written as in JSON (`\u0000`).
    """
    if not isinstance(stream_id, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput("A stream id is text.")
    escaped = stream_id if _PLAIN.fullmatch(stream_id) else json.dumps(stream_id)[1:-1]
    if len(escaped) > _MAX_STREAM_ID:
        raise InvalidInput(
            f"A stream id is at most {_MAX_STREAM_ID} characters, those outside ASCII written as \\u...."
        )
    return escaped


def unescape_stream_id(escaped: str) -> str:
    """The stream id that was escaped."""
    return json.loads(f'"{escaped}"') if "\\" in escaped else escaped
