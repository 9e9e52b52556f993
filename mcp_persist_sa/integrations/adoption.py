"""The sessions that this node serves: opened here, or adopted from the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Scope

from mcp_persist_sa.errors import PersistError, SessionExists, SessionNotFound, StoreUnavailable
from mcp_persist_sa.identity import new_session_id
from mcp_persist_sa.integrations import asgi, permits
from mcp_persist_sa.integrations.bounds import within
from mcp_persist_sa.integrations.calls import NODE_GONE, SESSION_ENDED, Copy, current
from mcp_persist_sa.integrations.sdk import principal
from mcp_persist_sa.models import JSONValue, Session, value_of
from mcp_persist_sa.store import Store

logger = logging.getLogger(__name__)

_INITIALIZED: JSONValue = {"jsonrpc": "2.0", "method": "notifications/initialized"}
_QUIET = "mcp-persist-sa/"
_RETRY = 0.2


class NotAdopted(PersistError):
    """The SDK on this node did not take the session over."""

    def __init__(self, said: asgi.Exchange) -> None:
        super().__init__(f"The session could not be taken over: this node answered {said.status}.")
        self.said = said


class Copies:
    """The copies of sessions on this node."""

    def __init__(self, app: ASGIApp, store: Store, *, patience: float, json_response: bool) -> None:
        self._app = app
        self._store = store
        self._patience = patience
        self._json_response = json_response
        self._copies: dict[str, Copy] = {}
        self._adopting: dict[str, asyncio.Lock] = {}
        self._permits = permits.Permits(store, patience)

    def fresh(self, scope: Scope) -> Copy:
        """A copy for a session that may be about to be opened, under an id of its own."""
        return self._copy(new_session_id(), principal(scope.get("user")), scope)

    def _copy(self, session_id: str, owner: str | None, scope: Scope) -> Copy:
        return Copy(self._store, session_id, owner, scope, json_response=self._json_response)

    async def opened(self, copy: Copy, local_id: str, handshake: Mapping[str, Any]) -> None:
        """Record a session that the SDK has opened, before the client learns of it.

        Raises:
            SessionLimitReached: The store holds as many sessions as are allowed.
        """
        copy.local_id = local_id
        copy.handshake = {"initialize": handshake}
        self._copies[copy.session_id] = copy
        try:
            await self._record(copy)
        except StoreUnavailable as error:
            logger.warning(
                "Session %(session_id)s is not recorded yet: %(error)s",
                {"session_id": copy.session_id, "error": error},
            )
            copy.spawn(self._record_later(copy))
        except PersistError:
            await self.end(copy)
            raise

    async def _record(self, copy: Copy) -> None:
        params: Mapping[str, Any] = copy.handshake["initialize"]
        # It exists where the reply to an earlier attempt was lost.
        with suppress(SessionExists):
            async with within(self._patience):
                await self._store.sessions.create(
                    copy.session_id,
                    owner=copy.owner,
                    protocol_version=str(params.get("protocolVersion", "")),
                    client_info=params.get("clientInfo"),
                    handshake=copy.handshake,
                )
        copy.recorded = True

    async def _record_later(self, copy: Copy) -> None:
        while not copy.recorded:
            try:
                await self._record(copy)
            except StoreUnavailable:
                await asyncio.sleep(_RETRY)
            except PersistError as error:
                logger.error(
                    "Session %(session_id)s is known to this node only: %(error)s",
                    {"session_id": copy.session_id, "error": error},
                )
                return

    def held(self, session_id: str) -> Copy | None:
        """The copy of a session, if this node has one."""
        return self._copies.get(session_id)

    async def find(self, session_id: str, scope: Scope) -> Copy:
        """The copy of an open session, adopted if need be; only for the principal that opened it.

        Raises:
            SessionNotFound: There is no such session for this principal.
            StoreUnavailable: The store cannot tell, and this node has no copy.
            NotAdopted: The SDK does not take it over.
        """
        who = principal(scope.get("user"))
        copy = self._copies.get(session_id)
        if copy is None:
            copy = await self._adopt(session_id, who, scope)
        elif copy.owner != who:
            raise SessionNotFound("The session belongs to another principal.")
        else:
            await self._check(copy)
        copy.last_used = time.monotonic()
        return copy

    async def _check(self, copy: Copy) -> None:
        """Find out that the session was not closed elsewhere. With the store away, it goes on."""
        if not copy.recorded:
            return
        try:
            permitted = await self._permits.given(copy)
        except StoreUnavailable as error:
            copy.not_stored(error)
            return
        if not permitted:
            await self.end(copy, SESSION_ENDED)
            raise SessionNotFound("The session is over.")

    async def _adopt(self, session_id: str, who: str | None, scope: Scope) -> Copy:
        lock = self._adopting.setdefault(session_id, asyncio.Lock())
        try:
            async with lock:
                copy = self._copies.get(session_id)
                if copy is not None:
                    # It was made meanwhile; and the session may have been ended since it was looked up for that.
                    await self._check(copy)
                else:
                    async with within(self._patience):
                        session = await self._store.sessions.get(session_id)
                    copy = await self._take_over(session, who, scope)
        finally:
            if not lock.locked():
                self._adopting.pop(session_id, None)
        if copy.owner != who:
            raise SessionNotFound("The session belongs to another principal.")
        return copy

    async def _take_over(self, session: Session, who: str | None, scope: Scope) -> Copy:
        if session.owner != who or session.status == "closed" or session.handshake is None:
            raise SessionNotFound("There is no such session for this principal.")
        copy = self._copy(session.session_id, session.owner, scope)
        copy.handshake = session.handshake
        copy.recorded = True
        exchange = await self.say(copy, "initialize", session.handshake["initialize"])
        local_id = dict(exchange.headers).get(asgi.SESSION_ID)
        if exchange.status != 200 or local_id is None:
            raise NotAdopted(exchange)
        copy.local_id = local_id.decode()
        self._copies[session.session_id] = copy
        return copy

    async def catch_up(self, copy: Copy) -> None:
        """Tell the SDK what it has to know of the client before it takes requests."""
        async with copy.lock:
            if copy.initialized:
                return
            await self.post(copy, _INITIALIZED)
            copy.initialized = True
            if level := copy.handshake.get("level"):
                await self.say(copy, "logging/setLevel", {"level": level})
            for uri in copy.handshake.get("subscriptions", []):
                await self.say(copy, "resources/subscribe", {"uri": uri})

    async def say(self, copy: Copy, method: str, params: JSONValue) -> asgi.Exchange:
        """Make a request to the SDK that the client made elsewhere; its events are nobody's."""
        request_id = f"{_QUIET}{method}/{time.monotonic_ns()}"
        copy.quiet.add(request_id)
        try:
            return await self.post(copy, {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        finally:
            copy.quiet.discard(request_id)

    async def post(self, copy: Copy, body: JSONValue) -> asgi.Exchange:
        """Send the SDK a message in the name of the client."""
        token = current.set(copy)
        try:
            return await asgi.request(self._app, copy.scope, "POST", session_id=copy.local_id or None, body=body)
        finally:
            current.reset(token)

    async def journal(self, copy: Copy, message: JSONValue) -> None:
        """Note what another node has to repeat when it adopts the session."""
        method = value_of(message, "method")
        if not isinstance(method, str) or method not in _AMENDMENTS:
            return
        amend = partial(_AMENDMENTS[method], params=value_of(message, "params"))
        try:
            async with within(self._patience):
                copy.handshake = (await self._store.sessions.amend_handshake(copy.session_id, amend)).handshake
        except PersistError as error:
            logger.warning(
                "What session %(session_id)s asked for is known to this node only: %(error)s",
                {"session_id": copy.session_id, "error": error},
            )

    async def delete(self, copy: Copy) -> None:
        """End a session for every node.

        Raises:
            StoreUnavailable: It may not be ended elsewhere.
        """
        self.forget(copy)
        await copy.close(SESSION_ENDED, patience=self._patience)
        if not copy.recorded:
            # Or an attempt to record it, of which nothing was heard, would open it again.
            await self._record(copy)
        async with within(self._patience):
            await self._store.sessions.close(copy.session_id)
        await asyncio.sleep(permits.LASTS)

    def forget(self, copy: Copy) -> None:
        """Drop a copy that the SDK has ended."""
        if self._copies.get(copy.session_id) is copy:
            del self._copies[copy.session_id]

    async def end(self, copy: Copy, why: str = NODE_GONE) -> None:
        """End a copy, which leaves the session as it is.

        Args:
            copy: Which.
            why: For whoever waits for an answer.
        """
        self.forget(copy)
        await copy.close(why, patience=self._patience)
        await asgi.request(self._app, copy.scope, "DELETE", session_id=copy.local_id)

    async def close(self) -> None:
        """End the calls of all copies; the SDK ends the copies themselves."""
        await self._permits.close()
        await asyncio.gather(*(copy.close(patience=self._patience) for copy in self._copies.values()))
        self._copies.clear()

    def __iter__(self) -> Iterator[Copy]:
        return iter([*self._copies.values()])


def _with_params(handshake: JSONValue, params: JSONValue) -> JSONValue:
    initialize: JSONValue = params
    return {**handshake, "initialize": initialize} if isinstance(params, dict) else handshake


def _with_level(handshake: JSONValue, params: JSONValue) -> JSONValue:
    level = value_of(params, "level")
    return {**handshake, "level": level} if isinstance(level, str) else handshake


def _with_subscription(handshake: JSONValue, params: JSONValue, wanted: bool) -> JSONValue:
    uri = value_of(params, "uri")
    if not isinstance(uri, str):
        return handshake
    others = [other for other in handshake.get("subscriptions", []) if other != uri]
    return {**handshake, "subscriptions": [*others, uri] if wanted else others}


_AMENDMENTS: dict[JSONValue, Callable[..., JSONValue]] = {
    "initialize": _with_params,
    "logging/setLevel": _with_level,
    "resources/subscribe": partial(_with_subscription, wanted=True),
    "resources/unsubscribe": partial(_with_subscription, wanted=False),
}
"""How requests change the handshake, by method."""
