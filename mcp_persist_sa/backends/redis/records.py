"""How records are written: that of a session as a hash with short names, where what is None is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_persist_sa.backends.redis.keys import micros, moment
from mcp_persist_sa.models import Session
from mcp_persist_sa.records import EventRecord, StateRecord, StreamRecord

_TEXTS = {"session_id": "i", "owner": "o", "tenant": "w", "protocol_version": "p"}
_VALUES = {"client_info": "c", "handshake": "h", "metadata": "m"}
_MOMENTS = {"created_at": "t", "last_seen_at": "u", "expires_at": "e", "closed_at": "x"}


def written(values: Mapping[str, Any]) -> dict[str, str | None]:
    """Fields by their short names, as text; None for those that have no value."""
    fields: dict[str, str | None] = {_TEXTS[name]: value for name, value in values.items() if name in _TEXTS}
    for name, value in values.items():
        if name in _VALUES:
            fields[_VALUES[name]] = None if value is None else json.dumps(value, allow_nan=False)
    return fields


def session_of(answer: Sequence[bytes]) -> Session | None:
    """The record in an answer of names and values, or None where that is empty."""
    if not answer:
        return None
    found = dict(zip(answer[::2], answer[1::2], strict=True))
    values: dict[str, Any] = {}
    for names, read in ((_TEXTS, bytes.decode), (_VALUES, json.loads), (_MOMENTS, moment)):
        for name, short in names.items():
            text = found.get(short.encode())
            values[name] = None if text is None else read(text)
    return Session(**values)


KINDS = {(False, False): "p", (False, True): "P", (True, False): "m", (True, True): "M"}
"""What stands before a message: whether there is one, and whether the event is final."""

NONE = "-"


def whole(session: Session) -> dict[str, str | None]:
    """All fields of a session by their short names."""
    names = (*_TEXTS, *_VALUES)
    moments = {short: getattr(session, name) for name, short in _MOMENTS.items()}
    return {
        **written({name: getattr(session, name) for name in names}),
        **{short: None if at is None else str(micros(at)) for short, at in moments.items()},
    }


def state_record(row: Sequence[bytes | None]) -> StateRecord:
    """A value from its name, version, time and JSON."""
    name, version, at, *value = row
    assert name is not None
    assert version is not None
    assert at is not None
    text = value[0] if value else None
    return StateRecord(name.decode(), None if text is None else text.decode(), int(version), moment(at))


def stream_record(row: Sequence[Any]) -> StreamRecord:
    """A stream from its key, what is known of it, its will, and whether it has events."""
    key, known, will, has_events = row
    known = known.decode().split(" ", 12)
    last, nonce, at, _, claimed, finished, created, purged, purged_nonce, node, _, _, name = known
    if not has_events and int(last) > int(purged):
        # They have expired as a whole.
        purged, purged_nonce = last, nonce
    return StreamRecord(
        stream_key=key.decode(),
        stream_id=name,
        claimed=claimed == "1",
        finished=finished == "1",
        last_sequence=int(last),
        purged_through=int(purged),
        purged_nonce=None if purged_nonce == NONE else purged_nonce,
        node_id=None if node == NONE else node,
        will=None if will is None or finished == "1" else will.decode(),
        created_at=moment(created),
        updated_at=moment(at),
    )


def stream_fields(record: StreamRecord) -> list[str | int]:
    """A stream as scripts take it."""
    return [
        record.stream_key,
        record.last_sequence,
        micros(record.updated_at),
        int(record.claimed),
        int(record.finished),
        micros(record.created_at),
        record.purged_through,
        record.purged_nonce or NONE,
        record.node_id or NONE,
        optional(record.will),
        record.stream_id,
    ]


def optional(text: str | None) -> str:
    """A text, or that there is none, as scripts take it."""
    return NONE if text is None else f"+{text}"


def event_record(stream_key: str, event: bytes) -> EventRecord:
    """An event as it is kept."""
    number, at, content = event.decode().split(":", 2)
    kind = content[8]
    message = content[9:] if kind in "mM" else None
    return EventRecord(stream_key, int(number), content[:8], kind in "MP", moment(at), message)


def event_text(event: EventRecord) -> str:
    """The same the other way round."""
    kind = KINDS[event.message is not None, event.final]
    return f"{event.sequence}:{micros(event.created_at)}:{event.nonce}{kind}{event.message or ''}"
