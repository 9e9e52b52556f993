"""The app of a node for `uvicorn --workers`, with the options of `hosts.Options` in an environment variable."""

from __future__ import annotations

import json
import os

from tests.nodes.hosts import Options, build
from tests.nodes.tools import Gates, Tools

OPTIONS = "MCP_PERSIST_SA_TEST_NODE"

_given = os.environ.get(OPTIONS)
app = None if _given is None else build(Options(**json.loads(_given)), Tools(f"worker {os.getpid()}", Gates()))
