"""The same server built with each SDK. Only the SDK of the host that is asked for is imported."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from tests.nodes.tools import RESOURCE, Call, Tool, Tools

# What an SDK has depends on which is installed here, so none has types that can be checked.
Server = Any
App = Any


@dataclass(frozen=True)
class Options:
    """How a node is to be built; all of it can come from JSON.

    Attributes:
        name: What it calls itself in what it reports.
        dsn: The database of `persist`; None for the bare SDK, which forgets everything.
        settings: For the host's app, by the host's own names: json_response, retry_interval, session_idle_timeout, ...
        path: Where the endpoint is.
        mount: A prefix under which the whole app is mounted.
        auth: Whether a bearer token is needed; see TOKENS.
        persistence: Further options of `persist`.
    """

    host: str
    name: str = "node"
    dsn: str | None = None
    port: int = 0
    path: str = "/mcp"
    mount: str = ""
    auth: bool = False
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    persistence: dict[str, Any] = field(default_factory=dict[str, Any])


TOKENS = {
    "alice": {"client_id": "desktop", "subject": "alice"},
    "bob": {"client_id": "phone", "subject": "bob"},
    "carol": {"client_id": "desktop", "subject": "carol"},
}
"""Bearer tokens; carol differs from alice only in the subject."""


@dataclass(frozen=True)
class Built:
    """A server, and what its app is to be made with."""

    server: Server
    app_options: dict[str, Any]
    bare: Callable[[], App]


def build(options: Options, tools: Tools) -> App:
    """The ASGI app of one node."""
    built = HOSTS[options.host](options, tools)
    app = _persistent(built, options) if options.dsn else built.bare()
    return _mounted(app, options.mount) if options.mount else app


def _persistent(built: Built, options: Options) -> App:
    persist: Any = getattr(import_module("mcp_persist_sa"), "persist")  # noqa: B009 - no attribute of its own yet
    return persist(built.server, options.dsn, **built.app_options, **options.persistence)


def _mounted(app: App, prefix: str) -> App:
    starlette: Any = import_module("starlette.applications")
    routing: Any = import_module("starlette.routing")
    routes = [routing.Mount(prefix, app=app)]
    return starlette.Starlette(routes=routes, lifespan=lambda _: app.router.lifespan_context(app))


def _with_context(tool: Tool, context: type) -> Tool:
    """A tool as FastMCP wants it: a function with a parameter of its own context's class."""

    async def run(ctx: Any, **arguments: Any) -> str:
        headers = ctx.request_context.request.headers
        call = Call(ctx.session, ctx.request_id, headers, ctx.report_progress, ctx.close_sse_stream)
        return await tool(call, **arguments)

    _, *given = inspect.signature(tool, eval_str=True).parameters.values()
    first = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=context)
    run.__name__ = run.__qualname__ = getattr(tool, "__name__", "tool")
    run.__signature__ = inspect.Signature([first, *given], return_annotation=str)  # pyright: ignore[reportFunctionMemberAccess]
    run.__annotations__ = {each.name: each.annotation for each in (first, *given)} | {"return": str}
    return run


def _sdk_auth() -> dict[str, Any]:
    """The SDK's own verifier of tokens, on both of its lines."""
    provider: Any = import_module("mcp.server.auth.provider")
    settings: Any = import_module("mcp.server.auth.settings")

    class Tokens:
        async def verify_token(self, token: str) -> Any:
            return provider.AccessToken(token=token, scopes=[], **TOKENS[token]) if token in TOKENS else None

    return {
        "auth": settings.AuthSettings(issuer_url="http://127.0.0.1:1/", resource_server_url=None),
        "token_verifier": Tokens(),
    }


def _subscriptions(low_level: Any, tools: Tools) -> None:
    """Serve resources/subscribe, for which only the low-level server of 2.x has a public place."""
    types: Any = import_module("mcp.types")

    async def subscribe(ctx: Any, params: Any) -> Any:
        tools.subscribe(ctx.request.headers, str(params.uri))
        return types.EmptyResult()

    low_level.add_request_handler("resources/subscribe", types.SubscribeRequestParams, subscribe)


def _memo() -> str:
    return "one"


def _mcpserver(options: Options, tools: Tools) -> Built:
    module: Any = import_module("mcp.server.mcpserver")
    server = module.MCPServer("node", **(_sdk_auth() if options.auth else {}))
    for name, tool in tools.all().items():
        server.add_tool(_with_context(tool, module.Context), name=name)
    server.resource(RESOURCE)(_memo)
    _subscriptions(server._lowlevel_server, tools)
    app_options = {"streamable_http_path": options.path, **options.settings}
    return Built(server, app_options, lambda: server.streamable_http_app(**app_options))


def _fastmcp1(options: Options, tools: Tools) -> Built:
    module: Any = import_module("mcp.server.fastmcp")
    settings = {"streamable_http_path": options.path, **options.settings}
    server = module.FastMCP("node", **settings, **(_sdk_auth() if options.auth else {}))
    for name, tool in tools.all().items():
        server.add_tool(_with_context(tool, module.Context), name=name)
    server.resource(RESOURCE)(_memo)
    low_level = server._mcp_server

    async def subscribe(uri: Any) -> None:
        tools.subscribe(low_level.request_context.request.headers, str(uri))

    low_level.subscribe_resource()(subscribe)
    return Built(server, {}, server.streamable_http_app)


def _fastmcp4(options: Options, tools: Tools) -> Built:
    module: Any = import_module("fastmcp")
    auth: Any = import_module("fastmcp.server.auth")
    tokens = {token: {**who, "sub": who["subject"], "scopes": []} for token, who in TOKENS.items()}
    server = module.FastMCP("node", auth=auth.StaticTokenVerifier(tokens) if options.auth else None)
    for name, tool in tools.all().items():
        server.tool(name=name)(_with_context(tool, module.Context))
    server.resource(RESOURCE)(_memo)
    _subscriptions(server._mcp_server, tools)
    # Off unless asked for, unlike the SDK's own.
    app_options = {"path": options.path, "host_origin_protection": "auto", **options.settings}
    return Built(server, app_options, lambda: server.http_app(**app_options))


def _lowlevel(options: Options, tools: Tools) -> Built:
    module: Any = import_module("mcp.server.lowlevel")
    types: Any = import_module("mcp.types")

    async def list_tools(ctx: Any, params: Any) -> Any:
        listed = [types.Tool(name=name, input_schema={"type": "object"}) for name in tools.all()]
        return types.ListToolsResult(tools=listed)

    async def call_tool(ctx: Any, params: Any) -> Any:
        async def nothing() -> None:
            """Without a store there is no stream to come back to, so none is closed."""

        close = ctx.close_sse_stream or nothing
        call = Call(ctx.session, ctx.request_id, ctx.request.headers, ctx.session.report_progress, close)
        text = await tools.all()[params.name](call, **(params.arguments or {}))
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)])

    server = module.Server("node", on_list_tools=list_tools, on_call_tool=call_tool)
    _subscriptions(server, tools)
    auth = _sdk_auth() if options.auth else {}
    app_options = {"streamable_http_path": options.path, **options.settings, **auth}
    return Built(server, app_options, lambda: server.streamable_http_app(**app_options))


HOSTS: dict[str, Callable[[Options, Tools], Built]] = {
    "mcpserver": _mcpserver,
    "lowlevel": _lowlevel,
    "fastmcp1": _fastmcp1,
    "fastmcp4": _fastmcp4,
}
