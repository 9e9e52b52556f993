"""The state of a session, or of a handle."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar, cast, overload

from pydantic import BaseModel, TypeAdapter, ValidationError

from mcp_persist_sa.checks import check_whole, json_value
from mcp_persist_sa.errors import InvalidInput, VersionConflict
from mcp_persist_sa.identity import check_name
from mcp_persist_sa.models import JSONValue, StateEntry
from mcp_persist_sa.options import Options
from mcp_persist_sa.protocols import StateBackend

T = TypeVar("T")


class State:
    """Values by key, each a JSON value with a version that grows with every write."""

    def __init__(self, backend: StateBackend, session_key: str, options: Options) -> None:
        self._backend = backend
        self._session_key = session_key
        self._max_bytes = options.max_state_bytes

    @overload
    async def get(self, key: str, default: JSONValue = None) -> JSONValue: ...
    @overload
    async def get(self, key: str, default: T | None = None, *, as_type: type[T]) -> T | None: ...
    async def get(self, key: str, default: object = None, *, as_type: type[object] | None = None) -> object:
        """A value.

        Args:
            key: Its name.
            default: What to give where there is none.
            as_type: A pydantic model, or any type that pydantic can check, to make of it.

        Raises:
            InvalidInput: The value is not of that type.
        """
        entry = await self.entry(key)
        if entry is None:
            return default
        return entry.value if as_type is None else _parsed(key, entry.value, as_type)

    async def entry(self, key: str) -> StateEntry | None:
        """A value with its version, or None."""
        return await self._backend.get_state(self._session_key, _name(key))

    async def set(self, key: str, value: JSONValue | BaseModel) -> int:
        """Write a value, and give its version.

        Raises:
            InvalidInput: It is not JSON, or too large (`TooLarge`).
        """
        version = await self._put(key, value, None)
        assert version is not None
        return version

    async def compare_and_set(self, key: str, value: JSONValue | BaseModel, *, version: int) -> int:
        """Write a value if nobody else did meanwhile, and give its new version.

        Args:
            key: Its name.
            value: JSON or a pydantic model.
            version: The version that was read; 0 if there was no value.

        Raises:
            VersionConflict: The value has another version by now.
            InvalidInput: It is not JSON, or too large (`TooLarge`).
        """
        check_whole("version", version, 0, 2**62)
        written = await self._put(key, value, version)
        if written is None:
            raise VersionConflict(f"State {key!r} was changed meanwhile. Read it again.")
        return written

    async def update(self, key: str, change: Callable[[JSONValue], JSONValue], default: JSONValue = None) -> JSONValue:
        """Change a value as if nobody else wrote at the same time.

        Args:
            key: Its name.
            change: Given the present value, returns the new one. It is called again when another write came between,
                so it must have no other effect.
            default: What it is given where there is no value.

        Returns:
            The new value.
        """
        while True:
            entry = await self.entry(key)
            value = change(default if entry is None else entry.value)
            if await self._put(key, value, 0 if entry is None else entry.version) is not None:
                return value

    async def _put(self, key: str, value: JSONValue | BaseModel, version: int | None) -> int | None:
        plain = cast(JSONValue, value.model_dump(mode="json", by_alias=True)) if isinstance(value, BaseModel) else value
        checked = json_value(f"state {key!r}", plain, self._max_bytes)
        return await self._backend.put_state(self._session_key, _name(key), checked, version)

    async def delete(self, key: str) -> bool:
        """Remove a value; False where there was none."""
        return await self._backend.delete_state(self._session_key, _name(key))

    async def clear(self) -> int:
        """Remove all values, and say how many there were."""
        return await self._backend.clear_state(self._session_key)

    async def keys(self) -> list[str]:
        """The keys, sorted by code point."""
        return await self._backend.state_keys(self._session_key)


def _name(key: str) -> str:
    return check_name("state key", key)


def _parsed(key: str, value: JSONValue, as_type: type[T]) -> T:
    try:
        return TypeAdapter(as_type).validate_json(json.dumps(value))
    except ValidationError as error:
        raise InvalidInput(
            f"State {key!r} is not a {getattr(as_type, '__name__', as_type)}: {error.error_count()} errors."
        ) from error
