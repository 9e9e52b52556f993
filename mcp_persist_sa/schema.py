"""The one table model, for SQLite and Postgres alike.

Each key begins with the session, so that one session's rows lie together and a database that is split over machines
can be split by session. There are no foreign keys: rows are removed in chunks by their key, and an event may be stored
for a session that is not recorded (yet).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.sqltypes import Duration, JSONText, Key, Name, Timestamp

VERSION_TABLE = "mcp_persist_sa_version"
HEAD = "mcp_persist_sa_0001"
"""The newest revision of the migrations, for which this code was written."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

sessions = sa.Table(
    "mcp_sessions",
    metadata,
    sa.Column("session_key", Key, primary_key=True),
    sa.Column("namespace", Name, nullable=False),
    sa.Column("session_id", Name, nullable=False),
    sa.Column("owner", Name),
    sa.Column("tenant", Name),
    sa.Column("protocol_version", sa.Text),
    sa.Column("client_info", JSONText()),
    sa.Column("handshake", JSONText()),
    sa.Column("metadata", JSONText(), nullable=False),
    sa.Column("listener", Key),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("last_seen_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp),
    sa.Column("closed_at", Timestamp),
    sa.Index(None, "namespace", "created_at", "session_key"),
    sa.Index(None, "namespace", "owner"),
    sa.Index(None, "expires_at"),
)

_of_tenant: dict[str, Any] = {
    "sqlite_where": sessions.c.tenant.is_not(sa.null()),
    "postgresql_where": sessions.c.tenant.is_not(sa.null()),
}
tenant_sessions = sa.Index(
    "ix_mcp_sessions_tenant", sessions.c.namespace, sessions.c.tenant, sessions.c.session_key, **_of_tenant
)
tenant_uses = sa.Index(
    "ix_mcp_sessions_tenant_last_seen_at",
    sessions.c.namespace,
    sessions.c.tenant,
    sessions.c.last_seen_at,
    **_of_tenant,
)
"""Whoever has no tenants does not pay for their policies."""

session_state = sa.Table(
    "mcp_session_state",
    metadata,
    sa.Column("session_key", Key, primary_key=True),
    sa.Column("key", Name, primary_key=True),
    sa.Column("namespace", Name, nullable=False),
    sa.Column("value", JSONText(none_as_null=False)),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("written_by", Key, nullable=False),
    sa.Column("updated_at", Timestamp, nullable=False),
    sa.CheckConstraint("version > 0", name="version_positive"),
    sa.Index(None, "namespace", "updated_at"),
)
"""A value that was deleted is NULL for a while, so that its next version is not one that it had before."""

streams = sa.Table(
    "mcp_streams",
    metadata,
    sa.Column("session_key", Key, primary_key=True),
    sa.Column("stream_key", Key, primary_key=True),
    sa.Column("stream_id", Name, nullable=False),
    sa.Column("namespace", Name, nullable=False),
    sa.Column("claimed", sa.Boolean, nullable=False),
    sa.Column("finished", sa.Boolean, nullable=False),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
    sa.Column("purged_through", sa.BigInteger, nullable=False),
    sa.Column("purged_nonce", Key),
    sa.Column("node_id", Key),
    sa.Column("will", sa.Text),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("updated_at", Timestamp, nullable=False),
    sa.CheckConstraint("purged_through >= 0 AND last_sequence >= purged_through", name="sequence_order"),
    sa.Index(None, "namespace", "created_at"),
)
"""`last_sequence` of a claimed stream is written when the stream ends; until then the events themselves tell.

`node_id` is the node that writes a claimed stream, and `will` the message that ends it if that node dies.
"""

open_streams = sa.Index(
    "uq_mcp_streams_open",
    streams.c.session_key,
    streams.c.stream_id,
    unique=True,
    sqlite_where=streams.c.finished.is_(sa.false()),
    postgresql_where=streams.c.finished.is_(sa.false()),
)
"""A stream id names one unfinished stream; finished ones keep their keys, so that their event ids stay good."""

events = sa.Table(
    "mcp_events",
    metadata,
    sa.Column("session_key", Key, primary_key=True),
    sa.Column("stream_key", Key, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("nonce", Key, nullable=False),
    sa.Column("final", sa.Boolean, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("message", sa.Text),
    sa.CheckConstraint("sequence > 0", name="sequence_positive"),
)
"""`size` is that of the message in bytes of UTF-8, kept so that limits and totals need not read the message."""

writers = sa.Table(
    "mcp_writers",
    metadata,
    sa.Column("writer_id", Key, primary_key=True),
    sa.Column("batch", sa.BigInteger, nullable=False),
    sa.Column("updated_at", Timestamp, nullable=False),
)
"""The last batch that each writer committed. A batch that is sent again after a lost reply finds itself here."""

nodes = sa.Table(
    "mcp_nodes",
    metadata,
    sa.Column("node_id", Key, primary_key=True),
    sa.Column("namespace", Name, nullable=False),
    sa.Column("started_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
)
"""The leases of the processes that serve. One that has run out says that its node is dead."""

leases = sa.Table(
    "mcp_leases",
    metadata,
    sa.Column("namespace", Name, primary_key=True),
    sa.Column("duty", Name, primary_key=True),
    sa.Column("holder", Key, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
)
"""Which node has a duty of which there is one in a namespace, until the lease runs out."""

policies = sa.Table(
    "mcp_policies",
    metadata,
    sa.Column("namespace", Name, primary_key=True),
    sa.Column("tenant", Name, primary_key=True),
    sa.Column("session_ttl", Duration),
    sa.Column("event_ttl", Duration),
    sa.Column("max_events", sa.BigInteger),
    sa.Column("audit_ttl", Duration),
)
"""How much is kept of a tenant, and for how long it is known what was removed; NULL where the policy does not say.

The tenant with the empty name stands for what is of no tenant, or of one whose policy does not say.
"""

audit = sa.Table(
    "mcp_audit",
    metadata,
    sa.Column("entry_id", Key, primary_key=True),
    sa.Column("namespace", Name, nullable=False),
    sa.Column("tenant", Name),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("removed_by", Name, nullable=False),
    sa.Column("sessions", sa.BigInteger, nullable=False),
    sa.Column("streams", sa.BigInteger, nullable=False),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("state", sa.BigInteger, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Index(None, "namespace", "created_at", "entry_id"),
    sa.Index(None, "namespace", "tenant", "created_at", "entry_id"),
    sa.Index(None, "namespace", "expires_at"),
)
"""What was removed, written in the transaction that removed it: one row for each tenant of which it took anything."""

revisions = sa.Table(
    "mcp_schema",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.Text, nullable=False),
    sa.Column("oldest_revision", sa.Text, nullable=False),
    sa.Column("oldest_release", sa.Text, nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
)
"""One row: the revision of the tables, and the oldest whose code (that of its release) can still use them."""


def include_name(name: str | None, type_: str, _parents: object = None) -> bool:
    """Tell Alembic's autogenerate which tables are ours; for a host application that excludes them, see `not_ours`."""
    return type_ != "table" or name in metadata.tables


def not_ours(name: str | None, type_: str, _parents: object = None) -> bool:
    """An `include_name` for the Alembic environment of a host application: leaves our tables alone."""
    return type_ != "table" or (name not in metadata.tables and name != VERSION_TABLE)
