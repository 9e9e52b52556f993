"""${message}

A revision expands first: what older releases read and write stays as it is. A later release contracts, and raises
`oldest_revision` in `mcp_schema` to the oldest revision whose code can still use the database. Each revision writes its
own id there. It imports nothing of the package: history is frozen.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
    op.execute(f"UPDATE mcp_schema SET revision = '{revision}'")


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
    op.execute(f"UPDATE mcp_schema SET revision = '{down_revision}'")
