"""`dashboard`: a web page that shows a store."""

from __future__ import annotations

import secrets
import socket
from types import FrameType
from typing import TYPE_CHECKING

import click

from mcp_persist_sa.cli.common import Chosen, on_database, open_once, with_output
from mcp_persist_sa.cli.output import Output
from mcp_persist_sa.dsn import parse

if TYPE_CHECKING:
    from mcp_persist_sa.dashboard import Dashboard

_HOST = "127.0.0.1"
_TOKEN_BYTES = 24


@click.command()
@on_database
@with_output
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="On 127.0.0.1; 0 for any.")
@click.option("--payloads", is_flag=True, help="Show what messages, handshakes and metadata say.")
def dashboard(chosen: Chosen, output: Output, port: int, payloads: bool) -> None:
    """Show the store on a web page, at an address of this machine that is printed. Nothing can be changed there."""
    # The web server is large, and no other command but `serve` needs it.
    from mcp_persist_sa.dashboard import Dashboard

    open_once(chosen.store())
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    page = Dashboard(chosen.not_open(), token=token, name=parse(chosen.dsn).safe, payloads=payloads)
    with _bound(port) as listening:
        url = f"http://{_HOST}:{listening.getsockname()[1]}/{token}/"
        output.record({"url": url}, f"Open {url}\nCtrl-C ends it.")
        _serve(page, listening)


def _bound(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port))
        # Whoever is quick with the address that is printed waits until the app has started.
        listening.listen()
    except OSError as error:
        listening.close()
        raise click.ClickException(
            f"Port {port} cannot be used: {error.strerror}. Choose another by --port."
        ) from error
    return listening


def _serve(page: Dashboard, listening: socket.socket) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        """Ends the feeds of open pages when it is to stop, because it would wait for them."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            page.end()
            super().handle_exit(sig, frame)

    # No log of requests: each would hold the token.
    config = uvicorn.Config(
        page,
        interface="asgi3",
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    try:
        Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        """It was asked to end."""


COMMANDS = (dashboard,)
