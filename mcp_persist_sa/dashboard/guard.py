"""Who is let in, and what every response forbids the browser."""

from __future__ import annotations

import re
from secrets import compare_digest

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_THIS_MACHINE = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_WRONG_NAME = "This dashboard answers to 127.0.0.1 and localhost alone.\n"
_WRONG_TOKEN = (
    "This is not the address of this dashboard.\n"
    "It is another one with each start: `mcp-persist-sa dashboard` has printed it.\n"
)

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Lets in who knows the token, which is the first part of the path.

    A cookie would go to every other server of this machine, since cookies do not know ports.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, _with_headers(send))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        token, slash, rest = str(scope["path"])[1:].partition("/")
        refusal = self._refusal(scope, token, slash)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app({**scope, "path": f"/{rest}"}, receive, send)

    def _refusal(self, scope: Scope, token: str, slash: str) -> Response | None:
        # Whoever leads a browser here by a name of their own, which they then let point to this machine, is stopped.
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) != 1 or not _THIS_MACHINE.fullmatch(hosts[0]):
            return PlainTextResponse(_WRONG_NAME, status_code=421)
        if scope["method"] != "GET":
            return PlainTextResponse("Nothing can be changed here.\n", status_code=405, headers={"Allow": "GET"})
        if not compare_digest(token.encode(errors="replace"), self._token.encode()):
            return PlainTextResponse(_WRONG_TOKEN, status_code=403)
        return None if slash else RedirectResponse(f"/{self._token}/", status_code=308)


def _with_headers(send: Send) -> Send:
    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_on
