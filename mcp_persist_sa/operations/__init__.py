"""What an operator runs: moving data between stores and files."""

from mcp_persist_sa.operations.copying import copy
from mcp_persist_sa.operations.progress import Moved, OnProgress

__all__ = ["Moved", "OnProgress", "copy"]
