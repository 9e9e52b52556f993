"""The state of the session whose request is being served."""

from __future__ import annotations

from mcp_persist_sa.errors import SessionNotFound
from mcp_persist_sa.integrations.calls import current
from mcp_persist_sa.state import State


def session_state() -> State:
    """Give the state of the current session, from within a tool, resource or prompt of a persisted server.

    Raises:
        SessionNotFound: There is no session: the request is of the stateless era, or of no persisted server.
    """
    copy = current.get()
    if copy is None or not copy.local_id:
        raise SessionNotFound(
            "This request has no session. In the stateless era, give the client a handle of your own, and keep its "
            "state with store.state(handle)."
        )
    return copy.store.state(copy.session_id)


def session_id() -> str:
    """The `Mcp-Session-Id` by which the client knows the current session; the SDK's own id differs from node to node.

    Raises:
        SessionNotFound: There is no session.
    """
    copy = current.get()
    if copy is None or not copy.local_id:
        raise SessionNotFound("This request has no session.")
    return copy.session_id
