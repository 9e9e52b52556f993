"""How much is told of a message: its kind and size; what it says, only where that was asked for."""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple, cast

Kind = Literal["priming", "request", "notification", "result", "error", "other"]

_MAX_NAME = 80
_MAX_TEXT = 64 * 1024


class Outside(NamedTuple):
    """What a message shows without being opened.

    Attributes:
        kind: Which of JSON-RPC's kinds it is.
        name: The method, or the code of an error; None where there is none.
        size: In bytes of UTF-8.
    """

    kind: Kind
    name: str | None
    size: int


def outside(message: str | None) -> Outside:
    """Look at a message from outside."""
    if message is None:
        return Outside("priming", None, 0)
    return Outside(*_kind(message), len(message.encode()))


def _kind(message: str) -> tuple[Kind, str | None]:
    try:
        parsed: Any = json.loads(message)
    except (ValueError, RecursionError):
        return "other", None
    if not isinstance(parsed, dict):
        return "other", None
    fields = cast("dict[str, Any]", parsed)
    method, error = fields.get("method"), fields.get("error")
    if isinstance(method, str):
        return ("request" if "id" in fields else "notification"), method[:_MAX_NAME]
    if isinstance(error, dict):
        return "error", _code(cast("dict[str, Any]", error))
    return ("result" if "result" in fields else "other"), None


def _code(error: dict[str, Any]) -> str | None:
    code = error.get("code")
    return str(code)[:_MAX_NAME] if isinstance(code, int) else None


def inside(message: str | None) -> str | None:
    """What a message says, as far as a page can show it."""
    if message is None or len(message) <= _MAX_TEXT:
        return message
    return f"{message[:_MAX_TEXT]}… ({len(message):,} characters)"
