"""A web page that shows a store, and changes nothing.

`guard` decides who is let in, `pages` reads what is shown, `messages` says how much is told of a message, `feed` tells
what is new, `app` brings them together. Pages, styles and scripts are in `assets`.
"""

from __future__ import annotations

from mcp_persist_sa.dashboard.app import Dashboard

__all__ = ["Dashboard"]
