"""A bound in time on what the store does for a request."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from anyio import fail_after

from mcp_persist_sa.errors import StoreUnavailable


@contextmanager
def within(seconds: float) -> Generator[None, None, None]:
    """Give the store so much time.

    Raises:
        StoreUnavailable: It took longer.
    """
    try:
        with fail_after(seconds):
            yield
    except TimeoutError:
        raise StoreUnavailable(f"The store did not answer within {seconds:g} s.") from None
