"""The ids of what a server asks its client: each names the node and the copy of the session that wait for the answer.

The SDK numbers these requests by itself, from the beginning in each copy of a session. Outside it they are known by
public ids, in which the SDK's own id is the last part.
"""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any, NamedTuple

from mcp_persist_sa.integrations import sdk
from mcp_persist_sa.models import JSONValue, value_of

CANCELLED = "notifications/cancelled"
_PROGRESS = "notifications/progress"
_PUBLIC = re.compile(r'([\w-]{16})\.([0-9]+)\.(-?[0-9]+|".*")', re.ASCII)
_copies = count(1)


class Asked(NamedTuple):
    """A request of a server to its client.

    Attributes:
        node_id: The node that waits.
        copy: Which of the copies of sessions that this node has had.
        own: The SDK's own id.
    """

    node_id: str
    copy: str
    own: JSONValue

    def __str__(self) -> str:
        return f"{self.node_id}.{self.copy}.{json.dumps(self.own)}"

    @classmethod
    def parse(cls, public: JSONValue) -> Asked | None:
        """The request of that id; None if it is no public id."""
        match = _PUBLIC.fullmatch(public) if isinstance(public, str) else None
        try:
            return None if match is None else cls(match[1], match[2], json.loads(match[3]))
        except ValueError:
            return None


def asked_of(message: JSONValue) -> Asked | None:
    """The request to which a client's message is the answer, or of which it tells the progress; None for any other."""
    if value_of(message, "method") is None:
        return Asked.parse(value_of(message, "id"))
    if value_of(message, "method") == _PROGRESS:
        return Asked.parse(value_of(value_of(message, "params"), "progressToken"))
    return None


class Numbering:
    """Puts public ids in the place of the SDK's own on the way out, and takes them back on the way in."""

    def __init__(self, node_id: str | None) -> None:
        """Make it, for one copy of a session.

        Args:
            node_id: Of this node; None if no other would know where it is: then ids stay as they are.
        """
        self._node_id = node_id
        self._copy = str(next(_copies))
        self._unanswered: set[str] = set()

    def outgoing(self, message: Any) -> Any:
        """The message as the client sees it; the same object unless it names a request of the server's."""
        changes = {} if self._node_id is None else self._changes(sdk.inner(message))
        return sdk.with_changes(message, changes) if changes else message

    def _changes(self, message: Any) -> dict[str, Any]:
        if isinstance(message, sdk.JSONRPCRequest):
            public = self._public(message.id)
            self._unanswered.add(public)
            return {"id": public, **self._token_changes(message.params)}
        if isinstance(message, sdk.JSONRPCNotification) and message.method == CANCELLED:
            return self._cancelled(message.params)
        return {}

    def _cancelled(self, params: Any) -> dict[str, Any]:
        cancelled = value_of(params, "requestId")
        if cancelled is None:
            return {}
        public = self._public(cancelled)
        self._unanswered.discard(public)
        return {"params": {**params, "requestId": public}}

    def _token_changes(self, params: Any) -> dict[str, Any]:
        meta = value_of(params, "_meta")
        token = value_of(meta, "progressToken")
        return {} if token is None else {"params": {**params, "_meta": {**meta, "progressToken": self._public(token)}}}

    def _public(self, own: JSONValue) -> str:
        return str(Asked(self._node_id or "", self._copy, own))

    def is_of(self, asked: Asked) -> bool:
        """Whether it is this copy that asked."""
        return (asked.node_id, asked.copy) == (self._node_id, self._copy)

    def incoming(self, message: JSONValue, asked: Asked) -> JSONValue | None:
        """A client's message as the SDK's copy has to see it; None if it does not wait for it (any more)."""
        if not self.is_of(asked):
            return None
        if value_of(message, "method") is not None:
            return {**message, "params": {**message["params"], "progressToken": asked.own}}
        return {**message, "id": asked.own} if str(asked) in self._unanswered else None

    def answered(self, asked: Asked) -> None:
        """Note that the SDK was given an answer: another one is for nobody."""
        self._unanswered.discard(str(asked))

    def not_answered(self, asked: Asked) -> None:
        """Note that the SDK refused it: it waits on."""
        self._unanswered.add(str(asked))
