"""How long something may take."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from anyio import fail_after


def time_limit(seconds: float | None) -> AbstractAsyncContextManager[Any]:
    """Raise `TimeoutError` where what is done within it takes longer.

    Args:
        seconds: How long it may take; None for any time.
    """
    if sys.version_info >= (3, 11):
        # It takes half as long as that of anyio, and stands around each statement.
        return asyncio.timeout(seconds)
    return _of_anyio(seconds)


@asynccontextmanager
async def _of_anyio(seconds: float | None) -> AsyncGenerator[None, None]:
    with fail_after(seconds):
        yield
