"""Revisions that a later release might have, added to a copy of the migrations."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

from tests.migrations.support import scripts

_SOURCE = '''\
"""An extra revision."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
{upgrade}
    op.execute("UPDATE mcp_schema SET revision = '{revision}'{oldest}")
{last}

def downgrade() -> None:
{downgrade}
    op.execute("UPDATE mcp_schema SET revision = '{before}'")
'''


def add_revision(
    folder: Path, upgrade: str, downgrade: str = "pass", *, contracts: bool = False, last: str = "pass"
) -> str:
    """Add a revision after the newest one and return its id.

    Args:
        folder: The copied migrations.
        upgrade: The body of `upgrade`.
        downgrade: The body of `downgrade`.
        contracts: Whether older releases cannot use the database any more.
        last: What `upgrade` does at its very end.
    """
    before = scripts(folder).get_current_head()
    assert before is not None
    prefix, _, number = before.rpartition("_")
    revision = f"{prefix}_{int(number) + 1:04}"
    oldest = f", oldest_revision = '{revision}', oldest_release = '9.9.0'" if contracts else ""
    bodies = {"upgrade": upgrade, "downgrade": downgrade, "last": last}
    text = _SOURCE.format(
        revision=revision,
        before=before,
        oldest=oldest,
        **{name: indent(dedent(body).strip(), "    ") for name, body in bodies.items()},
    )
    (folder / "versions" / f"{revision}_extra.py").write_text(text)
    return revision


EXPAND = """
with op.batch_alter_table("mcp_events") as batch:
    batch.add_column(sa.Column("note", sa.Text()))
with op.batch_alter_table("mcp_sessions") as batch:
    batch.add_column(sa.Column("note", sa.Text()))
op.create_table("mcp_extra", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("note", sa.Text()))
op.create_index("ix_mcp_extra_note", "mcp_extra", ["note"])
"""
"""What older releases do not notice."""

UNEXPAND = """
op.drop_table("mcp_extra")
with op.batch_alter_table("mcp_sessions") as batch:
    batch.drop_column("note")
with op.batch_alter_table("mcp_events") as batch:
    batch.drop_column("note")
"""

REBUILD = """
with op.batch_alter_table("mcp_events") as batch:
    batch.alter_column("size", type_=sa.BigInteger(), existing_type=sa.Integer(), existing_nullable=False)
"""
"""On SQLite, another table takes the place of this one."""

UNBUILD = REBUILD.replace("BigInteger", "_").replace("sa.Integer", "sa.BigInteger").replace("sa._", "sa.Integer")

FAMILY = """
op.create_table("mcp_parents", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("name", sa.String(10)))
op.create_table(
    "mcp_children",
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("parent_id", sa.Integer(), sa.ForeignKey("mcp_parents.id", ondelete="CASCADE"), nullable=False),
)
op.execute("INSERT INTO mcp_parents VALUES (1, 'one'), (2, 'two')")
op.execute("INSERT INTO mcp_children VALUES (1, 1), (2, 1), (3, 2)")
"""
"""A parent table and a child table, with rows."""

REBUILD_PARENTS = """
with op.batch_alter_table("mcp_parents") as batch:
    batch.alter_column("name", type_=sa.String(100), existing_type=sa.String(10))
"""
