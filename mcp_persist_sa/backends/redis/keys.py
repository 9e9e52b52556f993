"""The names of keys, and how moments are written in them.

All keys of a session have its name in braces, so that a cluster keeps them in one slot, where one script can use them.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from hashlib import blake2b

from mcp_persist_sa.identity import session_key

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """A moment, in microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(number: bytes | str | int) -> datetime:
    """The moment of so many microseconds since 1970."""
    # By its place: a name doubles the time that this takes.
    return _EPOCH + timedelta(0, 0, int(number))


def span(length: timedelta | None) -> str:
    """A time to live in microseconds, or nothing for none."""
    return "" if length is None else str(length // _MICROSECOND)


def milliseconds(length: timedelta | None) -> int:
    """A time to live in milliseconds, at least one; 0 for none."""
    return 0 if length is None else max(1, length // timedelta(milliseconds=1))


def digest(text: str) -> str:
    """A short name for any text."""
    return blake2b(text.encode(), digest_size=12).hexdigest()


class Keys:
    """The keys of one namespace."""

    def __init__(self, prefix: str, namespace: str) -> None:
        self._prefix = prefix
        self._space = f"{prefix}:{session_key(namespace, '')[:8]}" if namespace else prefix
        self.index = f"{{{self._space}:index}}"
        self.nodes = f"{{{self._space}:nodes}}"

    def session(self, session_key: str) -> str:
        """With which all keys of a session begin."""
        return f"{{{self._space}:{session_key}}}"

    @property
    def pattern(self) -> str:
        """What all keys of sessions match, and few others do."""
        return f"{{{self._space}:{'?' * 20}}}:*"

    def session_of(self, key: str) -> str | None:
        """The session key in a key that matches the pattern, if it is of what tells that anything is kept."""
        match = re.fullmatch(rf"\{{{re.escape(self._space)}:([\w-]{{20}})\}}:[stv]", key, re.ASCII)
        return match and match[1]
