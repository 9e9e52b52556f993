"""A bound in time on what the store does for a request."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mcp_persist_sa.errors import StoreUnavailable
from mcp_persist_sa.timing import time_limit


@asynccontextmanager
async def within(seconds: float) -> AsyncGenerator[None, None]:
    """Give the store so much time.

    Raises:
        StoreUnavailable: It took longer.
    """
    try:
        async with time_limit(seconds):
            yield
    except TimeoutError:
        raise StoreUnavailable(f"The store did not answer within {seconds:g} s.") from None
