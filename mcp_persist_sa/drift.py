"""What Alembic's comparison leaves out: the conditions of CHECK constraints and of partial indexes.

Alembic compares the former by name only, the latter by columns only. `PLUGINS` is for `autogenerate_plugins`.
"""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.runtime.plugins import Plugin
from alembic.util import PriorityDispatchResult
from sqlalchemy.schema import CreateIndex

PLUGINS = ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname", "mcp_persist_sa.drift"]


def _compare(
    context: AutogenContext,
    changes: ops.ModifyTableOps,
    schema: str | None,
    _: str,
    found: sa.Table | None,
    model: sa.Table | None,
) -> PriorityDispatchResult:
    if found is not None and model is not None:
        _compare_checks(context, changes, schema, found, model)
        _compare_indexes(context, changes, found, model)
    return PriorityDispatchResult.CONTINUE


def _compare_checks(
    context: AutogenContext, changes: ops.ModifyTableOps, schema: str | None, found: sa.Table, model: sa.Table
) -> None:
    dialect, inspector = context.dialect, context.inspector
    assert dialect is not None
    assert inspector is not None
    wanted = {
        dialect.identifier_preparer.format_constraint(check): check
        for check in model.constraints
        if isinstance(check, sa.CheckConstraint)
    }
    for reflected in inspector.get_check_constraints(found.name, schema=schema):
        check = wanted.get(str(reflected["name"]))
        if check is not None and _plain(reflected["sqltext"]) != _plain(str(check.sqltext)):
            old = sa.CheckConstraint(reflected["sqltext"], name=reflected["name"], table=found)
            changes.ops.append(ops.DropConstraintOp.from_constraint(old))
            changes.ops.append(ops.AddConstraintOp.from_constraint(check))


def _compare_indexes(context: AutogenContext, changes: ops.ModifyTableOps, found: sa.Table, model: sa.Table) -> None:
    present = {index.name: index for index in found.indexes}
    for index in model.indexes:
        old = present.get(index.name)
        if old is not None and _condition(old, context.dialect) != _condition(index, context.dialect):
            changes.ops.append(ops.DropIndexOp.from_index(old))
            changes.ops.append(ops.CreateIndexOp.from_index(index))


def _condition(index: sa.Index, dialect: Any) -> str:
    return _plain(str(CreateIndex(index).compile(dialect=dialect)).partition(" WHERE ")[2])


def _plain(condition: str) -> str:
    """Without what a server adds when it writes a condition down: brackets, quotes, casts."""
    return re.sub(r"::\w+( varying)?|[\s()\"]", "", condition).lower()


_plugin = Plugin("mcp_persist_sa.drift")
_plugin.add_autogenerate_comparator(_compare, "table", "conditions")
