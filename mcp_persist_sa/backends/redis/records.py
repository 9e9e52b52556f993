"""How the record of a session is written: a hash with short names, where what is None is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_persist_sa.backends.redis.keys import moment
from mcp_persist_sa.models import Session

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
