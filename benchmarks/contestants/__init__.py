"""Who is compared: this package in the ways it is used, its peers, and the bare driver as the limit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from benchmarks.contestants import bare, fastmcp, mcp_persist, ours
from benchmarks.contestants.shape import Contestant
from benchmarks.databases import Database

__all__ = ["ALL", "Contestant"]

ALL: dict[str, Callable[[Database], AbstractAsyncContextManager[Contestant]]] = {
    mcp_persist.NAME: mcp_persist.opened,
    ours.NAME: ours.opened,
    fastmcp.NAME: fastmcp.opened,
    bare.NAME: bare.opened,
}
