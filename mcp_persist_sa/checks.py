"""What is refused at the door, before anything is queued or written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mcp_persist_sa.batches import Append, Arrival
from mcp_persist_sa.errors import InvalidInput, TooLarge
from mcp_persist_sa.identity import new_nonce
from mcp_persist_sa.models import JSONValue, NewEvent


def message_size(message: str | None, limit: int) -> int:
    """The bytes of a message.

    Raises:
        InvalidInput: It cannot be stored as text.
        TooLarge: It is over the limit.
    """
    if message is None:
        return 0
    if not isinstance(message, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput("A message is JSON text, or None for a priming event.")
    if "\0" in message:
        raise InvalidInput("The message has a NUL character, which JSON text writes as \\u0000.")
    try:
        size = len(message) if message.isascii() else len(message.encode())
    except UnicodeEncodeError:
        raise InvalidInput("The message has a lone surrogate, which JSON text writes as \\ud800.") from None
    if size > limit:
        raise TooLarge(f"The message has {size} bytes, and max_message_bytes is {limit}.")
    return size


def new_arrival(message: str | None, final: bool, limit: int) -> Arrival:
    """Check an event and give it its nonce. Raises as `message_size`."""
    return Arrival(message, final, new_nonce(), message_size(message, limit))


def new_append(session_key: str, stream_id: str, events: Sequence[NewEvent], max_message_bytes: int) -> Append:
    """Check events and make them ready to be written.

    Raises:
        InvalidInput: One of them cannot be stored, or follows a final one.
    """
    if not events:
        raise InvalidInput("There is no event to append.")
    arrivals: list[Arrival] = []
    for event in events:
        if not isinstance(event, NewEvent):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput("Each event is a NewEvent(message, final).")
        if event.final and len(arrivals) < len(events) - 1:
            raise InvalidInput("Nothing can follow a final event in the same call.")
        arrivals.append(new_arrival(*event, max_message_bytes))
    return Append(session_key, stream_id, tuple(arrivals), sum(arrival.size for arrival in arrivals))


def check_whole(what: str, number: int, least: int, most: int = 2**31 - 1) -> int:
    """Refuse what is no whole number, or none that every database can hold.

    Raises:
        InvalidInput: It is.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"The {what} is a whole number from {least} to {most}.")
    return number


def json_value(what: str, value: JSONValue, limit: int) -> JSONValue:
    """Check that a value is JSON, which is to say that it comes back equal, and not too large.

    Raises:
        InvalidInput: It is not JSON.
        TooLarge: It is over the limit.
    """
    try:
        text = json.dumps(value, allow_nan=False)
        same = _same(json.loads(text), value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"The {what} is not JSON: {error}.") from None
    if not same:
        raise InvalidInput(
            f"The {what} is not JSON: only None, bool, int, float, str, list and dict with str keys are."
        )
    if len(text) > limit:
        raise TooLarge(f"The {what} has {len(text)} bytes of JSON, and the limit is {limit}.")
    return value


def _same(stored: Any, given: Any) -> bool:
    return bool(stored == given)
