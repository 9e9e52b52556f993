"""Sessions, their state, streams and events."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "mcp_persist_sa_0001"
down_revision = None
branch_labels = ("mcp_persist_sa",)
depends_on = None

key = sa.String(20).with_variant(postgresql.VARCHAR(20, collation="C"), "postgresql")
name = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
moment = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
duration = sa.BigInteger().with_variant(postgresql.INTERVAL(), "postgresql")


def upgrade() -> None:
    _create_sessions()
    _create_events()
    _create_policies()
    op.create_table(
        "mcp_writers",
        sa.Column("writer_id", key, nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("writer_id", name="pk_mcp_writers"),
    )
    op.create_table(
        "mcp_nodes",
        sa.Column("node_id", key, nullable=False),
        sa.Column("namespace", name, nullable=False),
        sa.Column("started_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("node_id", name="pk_mcp_nodes"),
    )
    op.create_table(
        "mcp_leases",
        sa.Column("namespace", name, nullable=False),
        sa.Column("duty", name, nullable=False),
        sa.Column("holder", key, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "duty", name="pk_mcp_leases"),
    )
    schema = op.create_table(
        "mcp_schema",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("oldest_revision", sa.Text(), nullable=False),
        sa.Column("oldest_release", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_mcp_schema_one_row")),
        sa.PrimaryKeyConstraint("id", name="pk_mcp_schema"),
    )
    op.bulk_insert(schema, [{"id": 1, "revision": revision, "oldest_revision": revision, "oldest_release": "0.1.0"}])


def _create_sessions() -> None:
    op.create_table(
        "mcp_sessions",
        sa.Column("session_key", key, nullable=False),
        sa.Column("namespace", name, nullable=False),
        sa.Column("session_id", name, nullable=False),
        sa.Column("owner", name),
        sa.Column("tenant", name),
        sa.Column("protocol_version", sa.Text()),
        sa.Column("client_info", sa.Text()),
        sa.Column("handshake", sa.Text()),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("listener", key),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("last_seen_at", moment, nullable=False),
        sa.Column("expires_at", moment),
        sa.Column("closed_at", moment),
        sa.PrimaryKeyConstraint("session_key", name="pk_mcp_sessions"),
    )
    op.create_index(
        "ix_mcp_sessions_namespace_created_at_session_key",
        "mcp_sessions",
        ["namespace", "created_at", "session_key"],
    )
    op.create_index("ix_mcp_sessions_namespace_owner", "mcp_sessions", ["namespace", "owner"])
    op.create_index("ix_mcp_sessions_expires_at", "mcp_sessions", ["expires_at"])
    for tenant_index, last in (("tenant", "session_key"), ("tenant_last_seen_at", "last_seen_at")):
        op.create_index(
            f"ix_mcp_sessions_{tenant_index}",
            "mcp_sessions",
            ["namespace", "tenant", last],
            sqlite_where=sa.text("tenant IS NOT NULL"),
            postgresql_where=sa.text("tenant IS NOT NULL"),
        )
    op.create_table(
        "mcp_session_state",
        sa.Column("session_key", key, nullable=False),
        sa.Column("key", name, nullable=False),
        sa.Column("namespace", name, nullable=False),
        sa.Column("value", sa.Text()),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("written_by", key, nullable=False),
        sa.Column("updated_at", moment, nullable=False),
        sa.CheckConstraint("version > 0", name=op.f("ck_mcp_session_state_version_positive")),
        sa.PrimaryKeyConstraint("session_key", "key", name="pk_mcp_session_state"),
    )
    op.create_index("ix_mcp_session_state_namespace_updated_at", "mcp_session_state", ["namespace", "updated_at"])


def _create_events() -> None:
    op.create_table(
        "mcp_streams",
        sa.Column("session_key", key, nullable=False),
        sa.Column("stream_key", key, nullable=False),
        sa.Column("stream_id", name, nullable=False),
        sa.Column("namespace", name, nullable=False),
        sa.Column("claimed", sa.Boolean(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("purged_through", sa.BigInteger(), nullable=False),
        sa.Column("purged_nonce", key),
        sa.Column("node_id", key),
        sa.Column("will", sa.Text()),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("updated_at", moment, nullable=False),
        sa.CheckConstraint(
            "purged_through >= 0 AND last_sequence >= purged_through", name=op.f("ck_mcp_streams_sequence_order")
        ),
        sa.PrimaryKeyConstraint("session_key", "stream_key", name="pk_mcp_streams"),
    )
    op.create_index("ix_mcp_streams_namespace_created_at", "mcp_streams", ["namespace", "created_at"])
    op.create_index(
        "uq_mcp_streams_open",
        "mcp_streams",
        ["session_key", "stream_id"],
        unique=True,
        sqlite_where=sa.text("finished IS 0"),
        postgresql_where=sa.text("finished IS false"),
    )
    op.create_table(
        "mcp_events",
        sa.Column("session_key", key, nullable=False),
        sa.Column("stream_key", key, nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("nonce", key, nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("message", sa.Text()),
        sa.CheckConstraint("sequence > 0", name=op.f("ck_mcp_events_sequence_positive")),
        sa.PrimaryKeyConstraint("session_key", "stream_key", "sequence", name="pk_mcp_events"),
    )


def _create_policies() -> None:
    op.create_table(
        "mcp_policies",
        sa.Column("namespace", name, nullable=False),
        sa.Column("tenant", name, nullable=False),
        sa.Column("session_ttl", duration),
        sa.Column("event_ttl", duration),
        sa.Column("max_events", sa.BigInteger()),
        sa.Column("audit_ttl", duration),
        sa.PrimaryKeyConstraint("namespace", "tenant", name="pk_mcp_policies"),
    )
    op.create_table(
        "mcp_audit",
        sa.Column("entry_id", key, nullable=False),
        sa.Column("namespace", name, nullable=False),
        sa.Column("tenant", name),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("removed_by", name, nullable=False),
        sa.Column("sessions", sa.BigInteger(), nullable=False),
        sa.Column("streams", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.BigInteger(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name="pk_mcp_audit"),
    )
    for columns in (
        ["namespace", "created_at", "entry_id"],
        ["namespace", "tenant", "created_at", "entry_id"],
        ["namespace", "expires_at"],
    ):
        op.create_index(f"ix_mcp_audit_{'_'.join(columns)}", "mcp_audit", columns)


def downgrade() -> None:
    tables = (
        "policies",
        "audit",
        "schema",
        "leases",
        "nodes",
        "writers",
        "events",
        "streams",
        "session_state",
        "sessions",
    )
    for table in tables:
        op.drop_table(f"mcp_{table}")
