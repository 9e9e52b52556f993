"""Real servers for the tests, and faults to inflict on them."""

from .admin import ADVISORY_LOCKS
from .databases import Databases
from .pgbouncer import PgBouncer
from .postgres import PostgresServer
from .processes import ChildProcess
from .proxy import FaultProxy, contains
from .redis import RedisCluster, RedisServer
from .spawning import ServerError

__all__ = [
    "ADVISORY_LOCKS",
    "ChildProcess",
    "Databases",
    "FaultProxy",
    "PgBouncer",
    "PostgresServer",
    "RedisCluster",
    "RedisServer",
    "ServerError",
    "contains",
]
