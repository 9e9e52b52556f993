"""`serve`: a server whose sessions are durable, without a line of code for it."""

from __future__ import annotations

import importlib
import inspect
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import click

from mcp_persist_sa.cli.common import Chosen, on_database, open_once
from mcp_persist_sa.store import open_store


def _named(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, str]:
    """Take `module:server` apart."""
    module, colon, attribute = value.partition(":")
    if not (module and colon and attribute):
        raise click.BadParameter(f"{value!r} does not name a server. For `mcp` in server.py, write server:mcp.")
    return module, attribute


@click.command()
@on_database
@click.argument("server", metavar="MODULE:SERVER", callback=_named)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 for all.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--path", default="/mcp", show_default=True, help="Where the endpoint is.")
@click.option("--graceful", default=10, show_default=True, help="Seconds for which a shutdown waits for responses.")
@click.option(
    "--log-level", default="info", show_default=True, type=click.Choice(["error", "warning", "info", "debug"])
)
def serve(
    chosen: Chosen, server: tuple[str, str], host: str, port: int, path: str, graceful: int, log_level: str
) -> None:
    """Serve the MCP server of a module, as `persist` does, under uvicorn.

    The server is an MCPServer, a FastMCP or a low-level Server.
    """
    # The SDK is large, and no other command needs it.
    import uvicorn

    from mcp_persist_sa.integrations import persist

    found = _load(*server)
    store = open_store(chosen.dsn, **chosen.options)
    app = persist(found, store, path=path, **_address(found, host))
    open_once(open_store(chosen.dsn, **chosen.options))
    uvicorn.run(app, host=host, port=port, log_level=log_level, timeout_graceful_shutdown=graceful)


def _load(module: str, attribute: str) -> Any:
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}, which is needed for {module}:{attribute}.") from error
    try:
        return attrgetter(attribute)(found)
    except AttributeError as error:
        raise click.ClickException(f"{error}. Is {attribute!r} the name of the server?") from error


def _address(server: Any, host: str) -> dict[str, Any]:
    """The address as an option of the server's app, where it has one: it says which names it answers to."""
    build = getattr(server, "streamable_http_app", None)
    known = build is not None and "host" in inspect.signature(build).parameters
    return {"host": host} if known else {}


COMMANDS = (serve,)
