"""The dashboard as an ASGI app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_persist_sa.dashboard.board import Board
from mcp_persist_sa.dashboard.feed import Feed
from mcp_persist_sa.dashboard.guard import Guard
from mcp_persist_sa.dashboard.pages import Search, events_page, found_sessions, refusal
from mcp_persist_sa.dashboard.timeline import Timeline
from mcp_persist_sa.errors import HistoryLost, InvalidInput, PersistError, StoreUnavailable
from mcp_persist_sa.store import Store

_TYPES = MappingProxyType({".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"})
_ASSETS = Path(__file__).with_name("assets")
_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (InvalidInput, 400),
    (LookupError, 404),
    (HistoryLost, 410),
    (StoreUnavailable, 503),
)


class _Answer(JSONResponse):
    """In ASCII, because what clients have sent may hold half of a surrogate pair, which UTF-8 does not have."""

    def render(self, content: Any) -> bytes:
        """As bytes."""
        return json.dumps(content, allow_nan=False).encode()


class Dashboard:
    """A page that shows a store, which it opens when the app starts, and closes in the end."""

    def __init__(self, store: Store, *, token: str, name: str = "", payloads: bool = False) -> None:
        """Make one.

        Args:
            store: What is shown. The dashboard does not join it, so it ends no stream and removes nothing.
            token: The first part of the path, without which nothing is answered.
            name: What the store is called, on the page.
            payloads: Whether what clients and servers said is shown too: messages, handshakes, metadata.
        """
        self._store = store
        self._name = name
        self._payloads = payloads
        self._board = Board(store)
        self._ended = asyncio.Event()
        self._app = Guard(self._routed(), token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        await self._app(scope, receive, send)

    def end(self) -> None:
        """End all feeds, which a server would wait for otherwise before it stops."""
        self._ended.set()

    def _routed(self) -> ASGIApp:
        routes = [
            Route("/api/store", self._about),
            Route("/api/sessions", self._sessions),
            Route("/api/events", self._events),
            Route("/feed", self._feed),
        ]
        for path in _ASSETS.iterdir():
            asset = Response(path.read_bytes(), media_type=_TYPES[path.suffix])
            routes.append(Route("/" if path.name == "index.html" else f"/{path.name}", asset))
        app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers={PersistError: _refused})
        app.router.redirect_slashes = False
        return app

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None, None]:
        async with self._store:
            looking = asyncio.ensure_future(self._board.run())
            yield
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _about(self, _request: Request) -> Response:
        namespace = self._store.options.namespace
        return _Answer({"name": self._name, "namespace": namespace, "payloads": self._payloads})

    async def _sessions(self, request: Request) -> Response:
        asked = request.query_params
        search = Search(asked.get("text", "").strip(), asked.get("status", ""))
        return _Answer(await found_sessions(self._store, search, asked.get("after")))

    async def _events(self, request: Request) -> Response:
        asked = request.query_params
        session_id, stream_key = asked.get("session", ""), asked.get("stream", "")
        page = await events_page(self._store, session_id, stream_key, asked.get("before"), payloads=self._payloads)
        return _Answer(page)

    async def _feed(self, request: Request) -> Feed:
        session_id = request.query_params.get("session")
        if session_id is None:
            return Feed(self._ended, self._board.follow("condition", "figures"))
        timeline = Timeline(self._store, session_id, payloads=self._payloads)
        return Feed(self._ended, self._board.follow("condition"), timeline.follow())


def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, PersistError)
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    return _Answer(refusal(error), status_code=status)
