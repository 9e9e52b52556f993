"""The stores that an operation is given, as they are or by their DSN."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from mcp_persist_sa.dsn import parse
from mcp_persist_sa.errors import InvalidOption, StoreUnavailable
from mcp_persist_sa.store import Store, open_store


@asynccontextmanager
async def opened(where: Store | str, *, reads: bool = False) -> AsyncGenerator[Store, None]:
    """The store, which is closed in the end if it was opened here.

    Args:
        where: A store, or its DSN.
        reads: Whether it is only read from, so that nothing is to be created there.
    """
    if isinstance(where, Store) and where.is_open:
        yield where
        return
    if isinstance(where, str) and reads:
        check_file(where)
    options = {"migrate": False} if reads else {}
    async with open_store(where, **options) if isinstance(where, str) else where as store:
        yield store


def check_file(dsn: str) -> None:
    """Refuse a SQLite file that is not there: it would be made, and be empty.

    Raises:
        StoreUnavailable: It is.
    """
    parsed = parse(dsn)
    if parsed.kind == "sqlite" and parsed.address and not Path(parsed.address).exists():
        raise StoreUnavailable(f"The file {parsed.address!r} does not exist. Correct the DSN, or make it by `upgrade`.")


def check_namespaces(source: str, target: str) -> None:
    """Refuse to move between namespaces: what belongs to a session is kept under a digest of both.

    Raises:
        InvalidOption: They differ.
    """
    if source != target:
        raise InvalidOption(
            f"The namespaces differ: {source!r} and {target!r}. Open the target with that of the source."
        )
