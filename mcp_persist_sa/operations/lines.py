"""Records as lines of JSON: what an export consists of.

The first line says what the file is, the last one how many lines there are between and their digest; each other is a
record, with the key of its session. Moments are in ISO 8601.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from types import UnionType
from typing import Any, cast, get_args, get_type_hints

from mcp_persist_sa.errors import InvalidInput
from mcp_persist_sa.identity import session_key
from mcp_persist_sa.models import Session
from mcp_persist_sa.records import EventRecord, Record, StateRecord, StreamRecord

FORMAT = "mcp-persist-sa"
VERSION = 1

_KINDS: dict[str, type[Any]] = {
    "session": Session,
    "state": StateRecord,
    "stream": StreamRecord,
    "event": EventRecord,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_TYPES = {name: get_type_hints(kind) for name, kind in _KINDS.items()}
_SHAPES = {
    "session_key": re.compile(r"[\w-]{20}", re.ASCII),
    "stream_key": re.compile(r"[\w-]{16}", re.ASCII),
    "nonce": re.compile(r"[\w-]{8}", re.ASCII),
    "stream_id": re.compile(r"[\x20-\x7e]{0,1024}"),
}
_MOST = 10**18


def line_of(key: str, record: Record) -> bytes:
    """The line of a record."""
    fields = asdict(record) if isinstance(record, Session) else record._asdict()
    return encoded({"type": _NAMES[type(record)], "session_key": key, **fields})


def encoded(values: Mapping[str, Any]) -> bytes:
    """A line."""
    return json.dumps(values, default=datetime.isoformat, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decoded(line: bytes) -> dict[str, Any]:
    """What a line says.

    Raises:
        InvalidInput: It is no line of an export.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"A line is not JSON: {error}.") from None
    found = cast("dict[str, Any]", values) if isinstance(values, dict) else {}
    if not isinstance(found.get("type"), str):
        raise InvalidInput("A line is no JSON object that says its type.")
    return found


def record_of(line: bytes, namespace: str) -> tuple[str, Record]:
    """The record of a line, and the key of its session.

    Raises:
        InvalidInput: It is none that could have been exported.
    """
    values = decoded(line)
    name, key = values.pop("type"), values.pop("session_key", None)
    types = _TYPES.get(name)
    if types is None or not _is_shaped("session_key", key) or values.keys() != types.keys():
        raise InvalidInput(f"A line of type {name!r} has other fields than a record.")
    fields = {field: _checked(field, types[field], value) for field, value in values.items()}
    if name == "session" and session_key(namespace, fields["session_id"]) != key:
        raise InvalidInput("A session has another key than its id has in this namespace.")
    return key, _KINDS[name](**fields)


def _checked(field: str, wanted: Any, value: Any) -> Any:
    if field == "metadata" and isinstance(value, dict):
        return value  # pyright: ignore[reportUnknownVariableType]
    kinds = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    if wanted is Any or (value is None and type(None) in kinds):
        return value
    if datetime in kinds:
        return _moment(field, value)
    if (str in kinds and _is_text(value) and _is_shaped(field, value)) or (bool in kinds and isinstance(value, bool)):
        return value
    if int in kinds and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST:
        return value
    raise InvalidInput(f"A record has a {field} that cannot be.")


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_shaped(field: str, value: Any) -> bool:
    field = "nonce" if field == "purged_nonce" else field
    shape = _SHAPES.get(field)
    return shape is None or (isinstance(value, str) and shape.fullmatch(value) is not None)


def _moment(field: str, value: Any) -> datetime:
    parse: Callable[[str], datetime] = datetime.fromisoformat
    try:
        moment = parse(value)
        found = moment.astimezone(timezone.utc)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(f"A record has a {field} that is no moment.") from None
    if moment.tzinfo is None:
        raise InvalidInput(f"A record has a {field} without a time zone.")
    return found
