"""What the pages show, as JSON. All of it is read in pages, so its cost does not grow with the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from mcp_persist_sa.dashboard.messages import inside, outside
from mcp_persist_sa.errors import InvalidInput, PersistError, SessionNotFound
from mcp_persist_sa.identity import EventId, check_session_id, session_key, unknown_event
from mcp_persist_sa.models import Event, Gap, Session
from mcp_persist_sa.store import Store
from mcp_persist_sa.streams import end_of

LISTED = 50
"""Sessions in a page."""

LOOKED_AT = 1000
"""Sessions that one search looks at; it can be continued."""

EVENTS = 100
"""Events in a page."""

_MAX_BYTES = 512 * 1024
_MAX_TEXT = 200
_STREAM_KEY = re.compile(r"[\w-]{1,64}", re.ASCII)

JSON = dict[str, Any]


class News(NamedTuple):
    """What a feed tells: `condition`, `figures`, `session`, `gone` or `trouble`."""

    name: str
    data: JSON


def milliseconds(moment: datetime | None) -> int | None:
    """A moment as browsers count it."""
    return None if moment is None else int(moment.timestamp() * 1000)


def key_of(store: Store, session_id: str) -> str:
    """The key under which a session is kept.

    Raises:
        InvalidInput: It cannot be a session id.
    """
    return session_key(store.options.namespace, check_session_id(session_id))


# Sessions


def session_row(session: Session) -> JSON:
    """A session in a list."""
    client = session.client
    return {
        "id": session.session_id,
        "status": session.status,
        "owner": session.owner,
        "tenant": session.tenant,
        "client": None if client is None else client[:_MAX_TEXT],
        "protocol": session.protocol_version and session.protocol_version[:_MAX_TEXT],
        "opened": milliseconds(session.created_at),
        "seen": milliseconds(session.last_seen_at),
        "expires": milliseconds(session.expires_at),
        "closed": milliseconds(session.closed_at),
    }


class Search(NamedTuple):
    """Which sessions are looked for.

    Attributes:
        text: What the id, owner, tenant or client has in it, in upper or lower case; empty for any.
        status: `open` or `closed`; empty for any.
    """

    text: str = ""
    status: str = ""

    def matches(self, session: Session) -> bool:
        """Whether a session is one of them."""
        if self.status not in ("", session.status):
            return False
        texts = (session.session_id, session.owner, session.tenant, session.client)
        return any(self.text.casefold() in text.casefold() for text in texts if text is not None)


async def found_sessions(store: Store, search: Search, after: str | None) -> JSON:
    """Sessions, the newest first; where they are searched, as many as are found among so many.

    Args:
        store: The store.
        search: Which.
        after: The `next` of the page before.

    Raises:
        PersistError: They cannot be read.
    """
    found = [] if after is not None else await _of_that_id(store, search)
    looked_at, limit = 0, LISTED if search == Search() else 2 * LISTED
    while looked_at < LOOKED_AT and len(found) < LISTED:
        page = await store.sessions.list(newest_first=True, limit=limit, after=after)
        found += [each for each in page.sessions if each.session_id != search.text and search.matches(each)]
        looked_at, after = looked_at + len(page.sessions), page.next
        if after is None:
            break
    return {"sessions": [session_row(each) for each in found], "next": after, "looked_at": looked_at}


async def _of_that_id(store: Store, search: Search) -> list[Session]:
    try:
        session = await store.sessions.get(search.text)
    except (InvalidInput, SessionNotFound):
        return []
    return [session] if search.matches(session) else []


async def details(store: Store, session_id: str, *, payloads: bool) -> JSON | None:
    """A session by itself; None where it is not recorded, or not any more."""
    try:
        session = await store.sessions.get(session_id)
    except SessionNotFound:
        return None
    hidden = {"client_info": session.client_info, "handshake": session.handshake, "metadata": session.metadata}
    return {**session_row(session), **(hidden if payloads else {})}


# Events


def event_row(item: Event | Gap, told: Callable[[str | None], Mapping[str, Any]]) -> JSON:
    """An event in a list, with what else is told of its message; or that some are missing."""
    if isinstance(item, Gap):
        return {"gap": [item.first, item.last]}
    kind, name, size = outside(item.message)
    return {
        "id": item.event_id,
        "sequence": item.sequence,
        "at": milliseconds(item.created_at),
        "kind": kind,
        "name": name,
        "size": size,
        "final": item.final,
        **told(item.message),
    }


async def events_page(store: Store, session_id: str, stream_key: str, before: str | None, *, payloads: bool) -> JSON:
    """Events of a stream, the newest first.

    Args:
        store: The store.
        session_id: The session.
        stream_key: Of the stream.
        before: The `before` of the page of newer ones.
        payloads: Whether it is told what the messages say.

    Raises:
        PersistError: They cannot be read, or are gone.
    """
    place = end_of(stream_key) if before is None else EventId.parse(before)
    if place.stream_key != stream_key or not _STREAM_KEY.fullmatch(stream_key):
        raise unknown_event()
    found = await store.backend.read_before(key_of(store, session_id), place, limit=EVENTS, max_bytes=_MAX_BYTES)
    page = found.page()
    oldest = next(iter(page.events), None)
    told: Callable[[str | None], JSON] = (lambda message: {"message": inside(message)}) if payloads else _nothing
    return {
        "events": [event_row(item, told) for item in reversed(page.items)],
        "before": oldest.event_id if oldest is not None and page.more else None,
    }


def _nothing(_message: str | None) -> JSON:
    return {}


def refusal(error: PersistError) -> JSON:
    """What is said of an error."""
    return {"error": str(error)}
