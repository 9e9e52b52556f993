"""The servers that can be served: how each builds its app, where its endpoint is, and how its options are called."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_persist_sa.errors import InvalidOption
from mcp_persist_sa.integrations.event_store import EventStore

_DEFAULT_PATH = "/mcp"

Layer = TypeVar("Layer", bound=ASGIApp)


@dataclass(frozen=True)
class Host:
    """The app of a server.

    Attributes:
        app: As the server built it.
        path: Of its endpoint.
        json_response: Whether it answers with JSON instead of streams.
        retry_interval: Milliseconds after which a client should come back to a stream that was cut.
    """

    app: Starlette
    path: str
    json_response: bool
    retry_interval: int | None

    def wrap(self, layer: Callable[[ASGIApp], Layer]) -> Layer:
        """Put a layer around the endpoint, inside of what authenticates, and give it."""
        route: Any = next(route for route in self.app.routes if getattr(route, "path", None) == self.path)
        holder = route.app if hasattr(route.app, "app") else route
        holder.app = layer(holder.app)
        return holder.app


def build(server: Any, options: Mapping[str, Any]) -> Host:
    """Let a server build its app, with an event store of ours.

    Args:
        server: An `MCPServer`, a `FastMCP` of mcp 1.x or of fastmcp, or a low-level `Server`.
        options: Of the server's own app; `path` stands for the path of the endpoint everywhere.

    Raises:
        InvalidOption: It is no such server, has an event store already, or does not know an option.
    """
    if "event_store" in options:
        raise InvalidOption("The event store is ours: leave out event_store.")
    if hasattr(server, "http_app"):
        return _from_method(server.http_app, "path", options)
    method = getattr(server, "streamable_http_app", None)
    if method is not None and "event_store" in inspect.signature(method).parameters:
        return _from_method(method, "streamable_http_path", options)
    if method is not None and hasattr(server, "settings"):
        return _from_settings(server, options)
    if hasattr(server, "create_initialization_options"):
        return _from_manager(server, options)
    raise InvalidOption(f"Give an MCPServer, a FastMCP or a Server, not {type(server).__name__}.")


def _from_method(method: Callable[..., Starlette], path_name: str, options: Mapping[str, Any]) -> Host:
    known = inspect.signature(method).parameters
    given = {path_name if name == "path" else name: value for name, value in options.items()}
    _refuse_unknown(given, {*known, "path"})
    app = method(event_store=EventStore(), **given)
    path = given.get(path_name) or getattr(app.state, "path", None) or _DEFAULT_PATH
    return Host(app, path, bool(given.get("json_response")), given.get("retry_interval"))


def _from_settings(server: Any, options: Mapping[str, Any]) -> Host:
    """Mcp 1.x, where the options are settings of the server, and the session manager has the rest."""
    left = {"streamable_http_path" if name == "path" else name: value for name, value in options.items()}
    for name in [name for name in left if hasattr(server.settings, name)]:
        setattr(server.settings, name, left.pop(name))
    app = server.streamable_http_app()
    manager: StreamableHTTPSessionManager = server.session_manager
    if manager.event_store is not None:
        raise InvalidOption("The server has an event store already. Build it without one, and persist it once.")
    _refuse_unknown(left, {name for name in vars(manager) if not name.startswith("_")})
    for name, value in left.items():
        setattr(manager, name, value)
    manager.event_store = EventStore()
    return Host(app, server.settings.streamable_http_path, manager.json_response, manager.retry_interval)


def _from_manager(server: Any, options: Mapping[str, Any]) -> Host:
    """The low-level server of mcp 1.x, which builds no app."""
    given = {name: value for name, value in options.items() if name != "path"}
    _refuse_unknown(given, {*inspect.signature(StreamableHTTPSessionManager).parameters, "path"})
    manager = StreamableHTTPSessionManager(server, event_store=EventStore(), **given)
    path = options.get("path", _DEFAULT_PATH)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        async with manager.run():
            yield

    app = Starlette(routes=[Route(path, endpoint=_Endpoint(manager))], lifespan=lifespan)
    return Host(app, path, manager.json_response, manager.retry_interval)


class _Endpoint:
    """An instance of a class, because Starlette takes a function for a handler of requests."""

    def __init__(self, manager: StreamableHTTPSessionManager) -> None:
        self._manager = manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._manager.handle_request(scope, receive, send)


def _refuse_unknown(given: Mapping[str, Any], known: set[str]) -> None:
    for name in given:
        if name not in known:
            raise InvalidOption(f"The server's app has no option {name!r}. Known: {', '.join(sorted(known))}.")
