"""What whoever operates a store runs."""

from mcp_persist_sa.operations.copying import copy
from mcp_persist_sa.operations.doctor import doctor
from mcp_persist_sa.operations.files import export_file, import_file
from mcp_persist_sa.operations.progress import Moved, OnProgress

__all__ = ["Moved", "OnProgress", "copy", "doctor", "export_file", "import_file"]
