"""The layer around the SDK's endpoint that makes its sessions those of the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial

from anyio import move_on_after
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_persist_sa.errors import (
    InvalidInput,
    PersistError,
    SessionNotFound,
    StoreClosed,
    StoreUnavailable,
)
from mcp_persist_sa.integrations import asgi
from mcp_persist_sa.integrations.adoption import Copies, NotAdopted
from mcp_persist_sa.integrations.backchannel import BackChannel
from mcp_persist_sa.integrations.bounds import within
from mcp_persist_sa.integrations.calls import Copy, current
from mcp_persist_sa.integrations.following import Follower
from mcp_persist_sa.integrations.gate import Durability
from mcp_persist_sa.integrations.quiet import QuietGet
from mcp_persist_sa.integrations.sdk import is_stateless_era
from mcp_persist_sa.integrations.traffic import BUSY, Passage, Surroundings
from mcp_persist_sa.models import value_of
from mcp_persist_sa.store import Store

logger = logging.getLogger(__name__)

_SWEEP = 5.0


class DurableSessions:
    """An ASGI app around the SDK's endpoint: sessions outlive this process and are served by every node.

    It stands inside the host's authentication, around the SDK's `StreamableHTTPASGIApp` or whatever mounts the session
    manager, whose `event_store` is an `EventStore` of this package. `running` has to be entered while it serves.
    """

    def __init__(
        self,
        app: ASGIApp,
        store: Store,
        *,
        patience: float = 2.0,
        drain: float = 10.0,
        json_response: bool = False,
        retry_interval: int | None = None,
    ) -> None:
        """Make it.

        Args:
            app: The SDK's endpoint.
            store: The store, which is opened by `running` unless it is open.
            patience: Seconds for which a request waits for the store, and a frame for its event to be durable.
            drain: Seconds for which the end waits for calls that still run.
            json_response: Whether the SDK answers with JSON instead of streams.
            retry_interval: Milliseconds after which a client should come back to a stream that was cut.
        """
        self._app = app
        self._store = store
        self._drain = drain
        self._patience = patience
        self._retry_interval = retry_interval
        self._copies = Copies(app, store, patience=patience, json_response=json_response)
        self._backchannel = BackChannel(store, self._copies, patience)
        self._surroundings = Surroundings(self._copies, Durability(patience), self._backchannel)
        self._quiet: dict[Copy, QuietGet] = {}
        self._is_running = False

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Open the store if it is not open, and serve until the end, where running calls get time to finish."""
        opened_here = not self._store.is_open
        await self._store.open()
        beside: list[asyncio.Task[None]] = []
        try:
            if self._store.options.background:
                await self._store.join()
            beside.append(asyncio.create_task(self._sweep()))
            if self._store.node_id is not None:
                beside.append(asyncio.create_task(self._backchannel.run(self._store.node_id)))
            self._is_running = True
            yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if opened_here:
                await self._store.close()

    async def drain(self) -> None:
        """Wait, within the bound, until no call runs; then end those that do, as calls that nobody will answer."""
        with move_on_after(self._drain):
            for copy in self._copies:
                await copy.at_rest.wait()
        self._is_running = False
        for quiet in [*self._quiet.values()]:
            await quiet.close()
        await self._copies.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or is_stateless_era(asgi.header(scope, asgi.PROTOCOL_VERSION)):
            await self._app(scope, receive, send)
            return
        if not self._is_running:
            raise StoreClosed(
                "The app's lifespan did not run, so its store is not open. A mounted app needs the lifespan of the app "
                "around it: FastAPI(lifespan=mcp_app.router.lifespan_context)."
            )
        session_id = asgi.header(scope, asgi.SESSION_ID)
        if session_id is not None:
            await self._serve(session_id, scope, receive, send)
        elif scope["method"] == "POST":
            await self._open(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    # Opening

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        copy = self._copies.fresh(scope)
        await self._run(copy, scope, Passage(self._surroundings, copy, receive, send, last_try=True))

    # Sessions that are open

    async def _serve(self, session_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._serve_copy(session_id, scope, receive, send)
        except (SessionNotFound, InvalidInput):
            # The SDK does not know the id either, and gives the answer that it gives to all that it does not know.
            await self._app(scope, receive, partial(_send_not_found, send))
        except NotAdopted as error:
            await error.said.relay(send, session_id)
        except StoreUnavailable as error:
            logger.warning(
                "A request of session %(session_id)s is refused: %(error)s",
                {"session_id": session_id, "error": error},
            )
            await asgi.error_response(503, "The session store is away.", headers=BUSY)(scope, receive, send)

    async def _serve_copy(self, session_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request by a copy; by a new one if the SDK has ended it, which is not the session's end."""
        for last_try in (False, True):
            copy = await self._copies.find(session_id, scope)
            if scope["method"] == "GET":
                again = None if await self._follow(copy, scope, receive, send, last_try=last_try) else receive
            else:
                again = await self._forward(copy, scope, receive, send, last_try=last_try)
            if again is None:
                return
            receive = again
            self._copies.forget(copy)

    async def _forward(
        self, copy: Copy, scope: Scope, receive: Receive, send: Send, *, last_try: bool
    ) -> Receive | None:
        """Let the SDK answer; gives what is to be received again if it has ended its copy, so that nobody answered."""
        deletes = scope["method"] == "DELETE"
        passage = Passage(self._surroundings, copy, receive, send, last_try=last_try, deletes=deletes)
        if scope["method"] == "POST" and not copy.initialized:
            await passage.body.peek(asgi.header(scope, asgi.CONTENT_LENGTH))
            if value_of(passage.body.json(), "method") == "notifications/initialized":
                copy.initialized = True
            else:
                await self._copies.catch_up(copy)
        await self._run(copy, scope, passage)
        return passage.body.again() if passage.gone else None

    async def _run(self, copy: Copy, scope: Scope, passage: Passage) -> None:
        if copy.local_id:
            scope = {**scope, "headers": asgi.headers_for(scope["headers"], copy.local_id)}
        token = current.set(copy)
        try:
            await self._app(scope, passage.body, passage.send)
        finally:
            current.reset(token)
            await passage.close()
            if passage.call is not None:
                copy.detach(passage.call, refused=passage.refused)
                self._keep_alive(copy)

    def _keep_alive(self, copy: Copy) -> None:
        """A call goes on though its connection is gone: the SDK must not take the session for idle."""
        if copy.busy:
            self._quiet_get(copy)

    def _quiet_get(self, copy: Copy) -> QuietGet:
        quiet = self._quiet.get(copy)
        if quiet is None or quiet.over.is_set():
            quiet = self._quiet[copy] = QuietGet(self._app, copy)
        return quiet

    # Following

    async def _follow(self, copy: Copy, scope: Scope, receive: Receive, send: Send, *, last_try: bool) -> bool:
        """Answer a GET; False if the SDK has ended its copy.

        The SDK, which sees it without its Last-Event-ID, says whether the host lets it through: then it refuses it for
        the sake of the quiet GET, or begins a stream.
        """
        await self._copies.catch_up(copy)
        quiet = self._quiet_get(copy)
        # From here on, or it might be let go while the store is asked.
        with quiet.held(standalone=False):
            await quiet.begun.wait()
            asked = asgi.without(scope, asgi.LAST_EVENT_ID)
            headers = asgi.headers_for(asked["headers"], copy.local_id)
            said = await asgi.ask(self._app, {**asked, "headers": headers})
            if said.status == 404 and not last_try:
                return False
            if said.status == 409 or said.streaming.is_set():
                await self._tail(copy, quiet, scope, receive, send)
            else:
                await said.relay(send, copy.session_id)
        return True

    async def _tail(self, copy: Copy, quiet: QuietGet, scope: Scope, receive: Receive, send: Send) -> None:
        version = asgi.header(scope, asgi.PROTOCOL_VERSION)
        last = asgi.header(scope, asgi.LAST_EVENT_ID) or None
        follower = Follower(self._store, copy.session_id, last, version, self._retry_interval)
        try:
            async with within(self._patience):
                refusal = await follower.refusal(listened=quiet.listeners > 0)
        except StoreUnavailable:
            # The place of the listener may have been taken: then the other nodes would refuse the client.
            copy.spawn(self._stop_listening(copy, quiet))
            raise
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        with quiet.held(standalone=follower.standalone):
            until = quiet.over if follower.standalone else asyncio.Event()
            await follower.response(copy.session_id, until)(scope, receive, send)
        if follower.standalone:
            await self._stop_listening(copy, quiet)

    async def _stop_listening(self, copy: Copy, quiet: QuietGet) -> None:
        if not quiet.listeners:
            with suppress(PersistError):
                await self._store.unlisten(copy.session_id)

    # Between requests

    async def _sweep(self) -> None:
        """Keep sessions alive that are in use without requests, and let go of copies that are not in use."""
        while True:
            await asyncio.sleep(self._sweep_interval)
            for copy in self._copies:
                try:
                    await self._look_after(copy, self._quiet.get(copy))
                except Exception:
                    logger.exception(
                        "Session %(session_id)s could not be looked after",
                        {"session_id": copy.session_id},
                    )
            await self._backchannel.tidy()
            self._quiet = {copy: quiet for copy, quiet in self._quiet.items() if not quiet.over.is_set()}

    async def _look_after(self, copy: Copy, quiet: QuietGet | None) -> None:
        if copy.busy or (quiet is not None and quiet.holders):
            with suppress(PersistError):
                await self._copies.find(copy.session_id, copy.scope)
        else:
            await self._let_go(copy, quiet)

    @property
    def _sweep_interval(self) -> float:
        ttl = self._store.options.span("session_ttl")
        return _SWEEP if ttl is None else min(_SWEEP, ttl.total_seconds() / 4)

    async def _let_go(self, copy: Copy, quiet: QuietGet | None) -> None:
        if quiet is not None:
            del self._quiet[copy]
            await quiet.close()
        ttl = self._store.options.span("session_ttl")
        if ttl is not None and time.monotonic() - copy.last_used > ttl.total_seconds():
            await self._copies.end(copy)


async def _send_not_found(send: Send, message: Message) -> None:
    """Send that there is no such session: 404, at which a client opens a new one; old releases of the SDK say 400."""
    await send({**message, "status": 404} if message.get("status") == 400 else message)
