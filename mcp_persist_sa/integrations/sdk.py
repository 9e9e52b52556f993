"""What the lines of the SDK have in common, by their public names, and the little in which they differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcp.server.auth.middleware import bearer_auth
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.streamable_http import EventStore as EventStore
from mcp.types import JSONRPCError, JSONRPCMessage, JSONRPCResponse
from mcp.types import JSONRPCNotification as JSONRPCNotification
from mcp.types import JSONRPCRequest as JSONRPCRequest
from pydantic import RootModel, TypeAdapter

from mcp_persist_sa.models import JSONValue

try:
    from mcp_types import version as versions
except ImportError:
    # The 1.x line knows the handshake era alone.
    versions = None

GET_STREAM = "_GET_stream"
"""The stream id under which the SDK stores what belongs to no request."""

_NOBODY = "mcp-persist-sa"
UNHEARD: JSONValue = (
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": _NOBODY}}
    if versions is None
    else {"jsonrpc": "2.0", "id": _NOBODY, "result": {}}
)
"""A message that the SDK takes like any other and that reaches nobody.

1.x logs an answer to nothing as an error, and tells the client; 2.x shows each notification to the server's middleware.
"""

_ANSWERS = (JSONRPCResponse, JSONRPCError)
_MAX_OWNER = 255
_messages: TypeAdapter[Any] = TypeAdapter(JSONRPCMessage)


def is_stateless_era(protocol_version: str | None) -> bool:
    """Whether a request with this `MCP-Protocol-Version` header belongs to the era that has no sessions."""
    if versions is None or protocol_version is None:
        return False
    return protocol_version not in versions.HANDSHAKE_PROTOCOL_VERSIONS


def wire_text(message: Any) -> str:
    """The message as the SDK writes it into a frame, so that a replayed frame equals the live one byte for byte.

    Raises:
        ValueError: It cannot be encoded.
    """
    of_first_line = isinstance(message, RootModel)
    return message.model_dump_json(by_alias=True, exclude_none=of_first_line, exclude_unset=not of_first_line)


def inner(message: Any) -> Any:
    """The request, notification or response that a message is; 1.x wraps it."""
    # Its type is asked for: a model takes long to say that it has no such attribute.
    unwrapped: Any = message
    return unwrapped.root if isinstance(message, RootModel) else message


def with_changes(message: Any, changes: Mapping[str, Any]) -> Any:
    """A message with other values."""
    changed = inner(message).model_copy(update=changes)
    return changed if inner(message) is message else message.__class__(changed)


def answers(message: Any) -> bool:
    """Whether a message is the response to a request, with its result or an error."""
    return isinstance(inner(message), _ANSWERS)


def is_message(value: JSONValue) -> bool:
    """Whether the SDK would take it for a message."""
    try:
        _messages.validate_python(value, by_name=False)
    except ValueError:
        return False
    return True


def principal(user: Any) -> str | None:
    """Who sends a request, by the user that the host's authentication has put into its scope; None for anybody.

    The SDK compares client id, issuer and subject, so these are what a principal consists of.
    """
    if isinstance(user, AuthenticatedUser):
        return owner_name(_components(user))
    if user is None or not getattr(user, "is_authenticated", False):
        return None
    return owner_name([_identity(user)])


def _components(user: AuthenticatedUser) -> list[str | None]:
    context_of = getattr(bearer_auth, "authorization_context", None)
    if context_of is None:
        return [user.access_token.client_id]
    context: Mapping[str, str | None] = context_of(user)
    return [context["client_id"], context["issuer"], context["subject"]]


def _identity(user: Any) -> str:
    try:
        return str(user.identity)
    except (AttributeError, NotImplementedError):
        return str(user.display_name)


def owner_name(components: Sequence[str | None]) -> str:
    """A principal as it is kept with a session: client id alone, or with issuer and subject."""
    first = components[0] or ""
    if not any(components[1:]) and not first.startswith(("[", "sha256:")) and len(first) <= _MAX_OWNER:
        return first
    name = json.dumps([*components])
    return name if len(name) <= _MAX_OWNER else f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
