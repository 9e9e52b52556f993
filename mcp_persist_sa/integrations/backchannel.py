"""Answers, progress and cancellations of a client, which have to reach the node that they concern."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import NamedTuple

from mcp_persist_sa.errors import PersistError, StoreUnavailable
from mcp_persist_sa.integrations import inbox, sdk
from mcp_persist_sa.integrations.adoption import Copies
from mcp_persist_sa.integrations.calls import Copy
from mcp_persist_sa.integrations.inbox import Inbox, Letter
from mcp_persist_sa.integrations.numbering import CANCELLED, Asked, asked_of
from mcp_persist_sa.models import JSONValue, value_of
from mcp_persist_sa.store import Store

logger = logging.getLogger(__name__)

Nodes = Mapping[str, bool]


class Route(NamedTuple):
    """Where a message of a client goes.

    Attributes:
        here: What the SDK of this node is given: it says whether the request is to be taken.
        settle: What has to be done once it was, and before the client learns of that.
        undo: What has to be taken back if it was not.
    """

    here: JSONValue
    settle: Callable[[], Awaitable[None]] | None = None
    undo: Callable[[], None] | None = None


class BackChannel:
    """Passes messages of clients on to other nodes, and those from other nodes to the SDK of this one."""

    def __init__(self, store: Store, copies: Copies, patience: float) -> None:
        self._store = store
        self._copies = copies
        self._patience = patience
        self._inbox: Inbox | None = None

    # To other nodes

    def route(self, copy: Copy, message: JSONValue) -> Route:
        """Find out where a message has to go."""
        asked = asked_of(message)
        if asked is not None and sdk.is_message(message):
            return self._route_to_asking(copy, message, asked)
        cancelled = _cancelled(message)
        if cancelled is not None and cancelled not in copy.calls:
            return Route(message, partial(self._send, copy, message, self._others))
        return Route(message)

    def _route_to_asking(self, copy: Copy, message: JSONValue, asked: Asked) -> Route:
        if not copy.numbering.is_of(asked):
            return Route(sdk.UNHEARD, partial(self._send, copy, message, partial(_known, asked.node_id)))
        given = copy.numbering.incoming(message, asked)
        if given is None:
            logger.debug(
                "Session %(session_id)s: %(asked)s does not wait for an answer any more",
                {"session_id": copy.session_id, "asked": asked},
            )
            return Route(sdk.UNHEARD)
        if value_of(message, "method") is not None:
            return Route(given)
        # Before the SDK has it, or the same answer by way of another node would come in between.
        copy.numbering.answered(asked)
        return Route(given, undo=partial(copy.numbering.not_answered, asked))

    def _others(self, nodes: Nodes) -> list[str]:
        return [node_id for node_id, alive in nodes.items() if alive and node_id != self._store.node_id]

    async def _send(self, copy: Copy, message: JSONValue, choose: Callable[[Nodes], Iterable[str]]) -> None:
        # It goes on when it is not waited for any more: clients do not send again what was refused.
        sending = copy.spawn(self._post(Letter(copy.session_id, message), choose))
        await asyncio.wait({sending}, timeout=self._patience)
        error = _failure(sending)
        if error is None:
            return
        if value_of(message, "method") is None:
            raise error
        # Nobody waits for a notification, and clients take a refusal of one badly.
        logger.warning(
            "A notification of session %(session_id)s may not reach its node: %(error)s",
            {"session_id": copy.session_id, "error": error},
        )

    async def _post(self, letter: Letter, choose: Callable[[Nodes], Iterable[str]]) -> PersistError | None:
        try:
            chosen = choose(await self._store.nodes())
            await asyncio.gather(*(inbox.post(self._store, node_id, letter) for node_id in chosen))
        except PersistError as error:
            return error
        return None

    # From other nodes

    async def run(self, node_id: str) -> None:
        """Deliver what other nodes send to this one, until cancelled."""
        self._inbox = Inbox(self._store, node_id)
        async with aclosing(self._inbox.letters()) as letters:
            async for session_id, message in letters:
                copy = self._copies.held(session_id)
                if copy is None:
                    logger.debug(
                        "Session %(session_id)s is not served here (any more): a message is dropped",
                        {"session_id": session_id},
                    )
                else:
                    copy.spawn(self._deliver(copy, message))

    async def tidy(self) -> None:
        """Remove from the inbox what was delivered."""
        if self._inbox is not None:
            await self._inbox.tidy()

    async def _deliver(self, copy: Copy, message: JSONValue) -> None:
        """Give the SDK a message as if its client had sent it here; one at a time, so that they keep their order."""
        async with copy.delivering:
            asked = asked_of(message)
            given = copy.numbering.incoming(message, asked) if asked else message
            if given is None or (asked is None and _cancelled(message) not in copy.calls):
                logger.debug(
                    "Session %(session_id)s: nothing here waits for a message, which is dropped",
                    {"session_id": copy.session_id},
                )
                return
            if asked is not None and value_of(message, "method") is None:
                copy.numbering.answered(asked)
            try:
                said = await self._copies.post(copy, given)
            except Exception:
                logger.exception(
                    "Session %(session_id)s: a message from another node could not be delivered",
                    {"session_id": copy.session_id},
                )
            else:
                if said.status != 202:
                    logger.info(
                        "Session %(session_id)s: a message from another node got %(status)d",
                        {"session_id": copy.session_id, "status": said.status},
                    )


def _failure(sending: asyncio.Task[PersistError | None]) -> PersistError | None:
    """Why a letter is not in the inboxes for which it is meant."""
    if not sending.done() or sending.cancelled():
        return StoreUnavailable("It is not known yet whether the message could be passed on.")
    return sending.result()


def _cancelled(message: JSONValue) -> str | None:
    """The stream id of the call that a client cancels."""
    if value_of(message, "method") != CANCELLED:
        return None
    request_id = value_of(value_of(message, "params"), "requestId")
    return None if request_id is None else str(request_id)


def _known(node_id: str, nodes: Nodes) -> list[str]:
    """A node, also one that is taken for dead: it may only have been slow."""
    if node_id not in nodes:
        logger.info(
            "Node %(node_id)s, which waited for an answer, is gone: the answer is dropped", {"node_id": node_id}
        )
    return [node_id] if node_id in nodes else []
