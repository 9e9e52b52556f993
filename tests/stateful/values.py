"""The model of a session's state: values with versions that only grow."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mcp_persist_sa import VersionConflict
from mcp_persist_sa.models import JSONValue
from tests.stateful.history import Refusal


def same_json(mine: JSONValue, others: JSONValue) -> bool:
    """Whether two values are written alike: 1, 1.0 and True are not, though they are equal."""
    return json.dumps(mine) == json.dumps(others)


@dataclass
class Value:
    """A value that was written.

    Attributes:
        value: The value.
        version: Its version.
        written: When.
        present: False once it was deleted, or has expired.
        lapsed: Whether it has expired and was not removed yet.
        forgotten: Whether the store need not know the version of a value that is not present any more.
    """

    value: Any
    version: int
    written: datetime
    present: bool = True
    lapsed: bool = False
    forgotten: bool = False


@dataclass
class Values:
    """The values of one session or handle, by key."""

    values: dict[str, Value] = field(default_factory=dict[str, Value])

    def expire(self, oldest: datetime) -> None:
        """Take away what was written before."""
        for value in self.values.values():
            if value.present and value.written <= oldest:
                value.present, value.lapsed, value.forgotten = False, True, True

    @property
    def lapsed(self) -> int:
        """How many values have expired and were not removed yet."""
        return sum(value.lapsed for value in self.values.values())

    def forget(self, deleted_before: datetime) -> None:
        """The store has been tidied up: nor need the versions of old deletions be known any more."""
        for value in self.values.values():
            value.lapsed = False
            if not value.present and value.written <= deleted_before:
                value.forgotten = True

    def get(self, key: str) -> Value | None:
        value = self.values.get(key)
        return value if value is not None and value.present else None

    def keys(self) -> list[str]:
        return sorted(key for key, value in self.values.items() if value.present)

    def next_versions(self, key: str) -> set[int]:
        """The versions that the next write of a key may give."""
        last = self.values.get(key)
        if last is None:
            return {1}
        return {last.version + 1, 1} if last.forgotten else {last.version + 1}

    def check_version(self, key: str, version: int) -> None:
        value = self.get(key)
        if version != (0 if value is None else value.version):
            raise Refusal(VersionConflict)

    def put(self, key: str, value: JSONValue, version: int, now: datetime) -> None:
        assert type(version) is int
        assert version in self.next_versions(key), (version, self.next_versions(key))
        self.values[key] = Value(value, version, now)

    def delete(self, key: str, now: datetime) -> bool:
        value = self.get(key)
        if value is None:
            return False
        value.present, value.version, value.written = False, value.version + 1, now
        return True
