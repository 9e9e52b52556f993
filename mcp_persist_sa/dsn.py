"""What a DSN says: which backend, where, and with which options."""

from __future__ import annotations

import ast
import difflib
import logging
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from mcp_persist_sa.errors import InvalidDSN
from mcp_persist_sa.options import Options

logger = logging.getLogger(__name__)

ENVIRONMENT = "MCP_PERSIST_SA_DSN"
DEFAULT_FILE = "mcp_persist_sa.db"

_KINDS = {
    "sqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
    "postgres": "postgresql",
    "postgresql": "postgresql",
    "postgresql+asyncpg": "postgresql",
    "redis": "redis",
    "rediss": "redis",
    "redis+cluster": "redis",
    "rediss+cluster": "redis",
    "redis+sentinel": "redis",
    "rediss+sentinel": "redis",
}
_OPTIONS = {option.name for option in fields(Options)} - {"password", "clock", "connect_args", "metrics"}
_TEXTS = {"namespace", "key_prefix", "schema", "synchronous"}


@dataclass(frozen=True, slots=True)
class DSN:
    """A DSN, taken apart.

    Attributes:
        kind: `sqlite`, `postgresql` or `redis`.
        address: What the driver is given: the path of a SQLite file (empty in memory), else a URL.
        options: Options of the store that stood in the query.
        safe: The DSN without its password, for people to read.
    """

    kind: str
    address: str = field(repr=False)
    options: dict[str, Any]
    safe: str

    @property
    def is_memory(self) -> bool:
        """Whether it is a database that only the process that opens it can see."""
        return self.kind == "sqlite" and not self.address


def default_dsn() -> str:
    """The DSN of the environment, or else of a file in the working directory, which is said."""
    dsn = os.environ.get(ENVIRONMENT)
    if dsn:
        return dsn
    logger.warning(
        "No DSN was given and %(variable)s is not set: using the file %(file)s here.",
        {"variable": ENVIRONMENT, "file": DEFAULT_FILE},
    )
    return f"sqlite:///{DEFAULT_FILE}"


def parse(dsn: str) -> DSN:
    """Take a DSN apart.

    Raises:
        InvalidDSN: It is not of a form that is known.
    """
    scheme, separator, _ = dsn.partition("://")
    kind = _KINDS.get(scheme.lower())
    if not separator or kind is None:
        near = difflib.get_close_matches(scheme.lower(), _KINDS, n=1) if separator else []
        hint = f" Did you mean {near[0]}://?" if near else ""
        raise InvalidDSN(f"A DSN begins with sqlite://, postgresql:// or redis://.{hint}")
    parts = _split(dsn, kind)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options = {name: text if name in _TEXTS else _value(text) for name, text in pairs if name in _OPTIONS}
    rest = [(name, text) for name, text in pairs if name not in _OPTIONS]
    safe = f"{scheme}://{_without_password(parts.netloc)}{parts.path}"
    if kind == "sqlite":
        return DSN(kind, _sqlite_path(parts.netloc, parts.path, rest), options, safe)
    if kind == "postgresql":
        query = urlencode([_libpq(name, text) for name, text in rest], quote_via=quote)
        address = f"postgresql://{parts.netloc}{parts.path}{'?' if query else ''}{query}"
        return DSN(kind, address, options, safe)
    for name, _ in rest:
        _refuse_typo(name)
    query = urlencode(rest, quote_via=quote)
    return DSN(kind, f"{scheme}://{parts.netloc}{parts.path}{'?' if query else ''}{query}", options, safe)


def _split(dsn: str, kind: str) -> SplitResult:
    """Take the URL apart; what is not understood is not repeated, because a password may stand anywhere in it."""
    try:
        parts = urlsplit(dsn)
    except ValueError:
        raise InvalidDSN("The DSN is not understood: its host is not written as in a URL.") from None
    if "#" in dsn or (kind != "sqlite" and "@" in parts.path + parts.query):
        raise InvalidDSN("In a DSN's user, password, path and arguments, write # / ? @ as %23 %2F %3F %40.")
    return parts


def _value(text: str) -> Any:
    """An option as Python writes it; what is no literal is text."""
    words = {"true": True, "false": False, "none": None}
    try:
        return words[text.lower()] if text.lower() in words else ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return text


def _libpq(name: str, text: str) -> tuple[str, str]:
    """SQLAlchemy writes `ssl=`, libpq and asyncpg `sslmode=`. What is none of ours may be a setting of the server."""
    _refuse_typo(name)
    if name != "ssl":
        return name, text
    return "sslmode", {"true": "require", "false": "disable"}.get(text.lower(), text)


def _refuse_typo(name: str) -> None:
    near = difflib.get_close_matches(name, _OPTIONS, n=1, cutoff=0.85)
    if near:
        raise InvalidDSN(f"There is no argument {name!r}. Did you mean {near[0]}?")


def _without_password(netloc: str) -> str:
    user, at, host = netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return f"{name}{':***' if colon else ''}{at}{host}"


def _sqlite_path(netloc: str, path: str, rest: list[tuple[str, str]]) -> str:
    if rest:
        raise InvalidDSN(f"SQLite takes no argument {rest[0][0]!r} in its DSN.")
    if netloc:
        raise InvalidDSN(f"A SQLite path follows three slashes: sqlite:///{_without_password(netloc)}{path}")
    path = unquote(path[1:])
    return "" if path in ("", ":memory:") else str(Path(path))
