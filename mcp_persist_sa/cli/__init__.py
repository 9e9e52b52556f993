"""The command line: `mcp-persist-sa`.

Each module is a group of commands, and knows `common` alone. Exit codes: 0 when all is well, 1 when something failed or
is wrong (said on standard error, or in the report that was asked for), 2 when the words of the command line were wrong.
"""

from __future__ import annotations

import click

from mcp_persist_sa.cli import (
    demonstration,
    examining,
    keeping,
    migrations,
    moving,
    policies,
    serving,
    sessions,
    watching,
)

_GROUPS = (serving, watching, migrations, examining, keeping, policies, moving, sessions, demonstration)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all is well, 1 something failed or is wrong, 2 the command line is not understood.",
)
@click.version_option(package_name="mcp-persist-sa")
def main() -> None:
    """The database of an MCP server.

    DSNs: sqlite:///file.db, postgresql://user:password@host/database, redis://user:password@host:6379/0. Options of the
    store stand in their query (?namespace=shop&event_ttl=3600).
    """


for _group in _GROUPS:
    for _command in _group.COMMANDS:
        main.add_command(_command)
