"""What an error of Redis means: whether to try again, and what to tell the caller."""

from __future__ import annotations

import asyncio
import re

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from mcp_persist_sa.faults import Fault

_DENIED = (AuthenticationError, AuthorizationError, NoPermissionError)
_UNDONE = (
    *(BusyLoadingError, ClusterDownError, MasterDownError, MaxConnectionsError),
    *(OutOfMemoryError, ReadOnlyError, RedisClusterException, TryAgainError),
)
# Up to Redis 6, what a command in a script is answered stands somewhere in the error of the script.
_SAID_DENIED = re.compile(
    r"NOPERM|NOAUTH|WRONGPASS|invalid password|invalid username-password|AUTH <password>"
    r"|ACL failure in script|user executing the script"
)
_SAID_UNDONE = re.compile(r"OOM|READONLY|LOADING|BUSY|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|max number of")


def fault_of(error: BaseException) -> Fault:
    """Tell what an error from the driver or the server means."""
    if isinstance(error, _DENIED) or _SAID_DENIED.search(str(error)):
        return Fault.DENIED
    if isinstance(error, _UNDONE) or (isinstance(error, ResponseError) and _SAID_UNDONE.search(str(error))):
        return Fault.UNDONE
    if isinstance(error, ConnectionError | TimeoutError | OSError | asyncio.TimeoutError):
        return Fault.LOST
    return Fault.OTHER
