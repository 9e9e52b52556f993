"""Looking at everything on which a store depends, and saying what to do where something is not as it should be."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mcp_persist_sa.dsn import parse
from mcp_persist_sa.errors import (
    AccessDenied,
    InvalidDSN,
    InvalidOption,
    MissingExtra,
    PersistError,
    SchemaError,
)
from mcp_persist_sa.faults import Backoff
from mcp_persist_sa.identity import RESERVED
from mcp_persist_sa.operations.opening import check_file
from mcp_persist_sa.options import Options
from mcp_persist_sa.oversight import Finding
from mcp_persist_sa.store import Store, open_store

_PACKAGES = ("mcp-persist-sa", "mcp", "fastmcp", "sqlalchemy", "alembic")
_DRIVERS = {"sqlite": ("aiosqlite",), "postgresql": ("asyncpg",), "redis": ("redis",)}
_EXTRAS = {"postgresql": "postgres", "redis": "redis"}
_HEARING_PATIENCE = 8.0

_FAILED_AT: tuple[tuple[type[PersistError], str], ...] = (
    (InvalidDSN, "DSN"),
    (InvalidOption, "options"),
    (MissingExtra, "drivers"),
    (SchemaError, "revision"),
    (AccessDenied, "access"),
    (PersistError, "connection"),
)


async def doctor(dsn: str, **options: Any) -> AsyncGenerator[Finding, None]:
    """Look at everything. Nothing is changed, and nothing raised: what fails is a finding.

    Args:
        dsn: Which database.
        **options: Those of `open_store`.

    Yields:
        What was found, in the order in which one thing depends on another; it ends with what rules the rest out.
    """
    yield Finding("runtime", "ok", ", ".join(_versions((f"{platform.python_implementation()}", *_PACKAGES))))
    try:
        parsed = parse(dsn)
        chosen = Options.of({**parsed.options, **options})
        for finding in (_drivers(parsed.kind), *_retention(chosen)):
            yield finding
        opening = open_store(dsn, **{**options, "migrate": False})
        check_file(dsn)
        async with opening as store:
            async for finding in _open(store, parsed.safe):
                yield finding
    except PersistError as error:
        check = next(check for kind, check in _FAILED_AT if isinstance(error, kind))
        yield Finding(check, "wrong", "this does not work", str(error))


def _versions(names: tuple[str, ...]) -> Iterator[str]:
    yield f"{names[0]} {platform.python_version()}"
    for name in names[1:]:
        found = _version(name)
        if found is not None:
            yield f"{name} {found}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _drivers(kind: str) -> Finding:
    found = {name: _version(name) for name in _DRIVERS[kind]}
    missing = [name for name, number in found.items() if number is None]
    if missing:
        advice = f"pip install 'mcp-persist-sa[{_EXTRAS[kind]}]'" if kind in _EXTRAS else f"pip install {missing[0]}"
        return Finding("drivers", "wrong", f"{missing[0]} is not installed", advice)
    return Finding("drivers", "ok", ", ".join(f"{name} {number}" for name, number in found.items()))


def _retention(options: Options) -> Iterator[Finding]:
    endless = [name for name in ("session_ttl", "event_ttl", "state_ttl") if getattr(options, name) is None]
    if endless:
        advice = "Set a time, or see to it that there is always room."
        yield Finding("retention", "note", f"{', '.join(endless)}: kept for ever", advice)
    else:
        yield Finding("retention", "ok", "everything ends")
    if not options.background:
        advice = "Run `mcp-persist-sa purge` every hour; events of other processes are polled for."
        yield Finding("background", "note", "the store runs no tasks of its own", advice)
    elif options.purge_interval is None:
        advice = "Run `mcp-persist-sa purge` every hour, or set purge_interval."
        yield Finding("background", "note", "no node removes what has expired by itself", advice)


async def _open(store: Store, safe: str) -> AsyncGenerator[Finding, None]:
    health = await store.health()
    if health.error is not None:
        yield Finding("connection", "wrong", "the database does not answer", health.error)
        return
    yield Finding("connection", "ok", f"{safe}, {1000 * health.latency:.1f} ms")
    yield Finding("revision", "ok", health.revision or "none is needed")
    for finding in await store.examine():
        yield finding
    yield await _hearing(store)


async def _hearing(store: Store) -> Finding:
    """Wait for something, and see how news would come."""
    mode = "polling"
    async with aclosing(store.tail(f"{RESERVED}doctor", "doctor")) as tail:
        waiting = asyncio.ensure_future(anext(tail, None))
        try:
            async for _ in Backoff(_HEARING_PATIENCE):
                mode = (await store.health()).notifier.mode
                if mode in ("listening", "local"):
                    break
        finally:
            waiting.cancel()
            # It must be at rest before the tail is closed; what became of it is of no interest.
            await asyncio.gather(waiting, return_exceptions=True)
    if mode in ("listening", "local"):
        return Finding("hearing", "ok", "events of other processes are heard at once")
    advice = "Give the nodes a DSN past the pooler, and leave `background` on, if 50 ms to poll_interval are too slow."
    return Finding("hearing", "note", "events of other processes are polled for", advice)
