"""What whoever operates a store runs."""

from typing import TYPE_CHECKING, Any

from mcp_persist_sa.operations.copying import copy
from mcp_persist_sa.operations.doctor import doctor
from mcp_persist_sa.operations.files import export_file, import_file
from mcp_persist_sa.operations.progress import Moved, OnProgress

if TYPE_CHECKING:
    from mcp_persist_sa.operations.mcp_persist import import_mcp_persist

__all__ = ["Moved", "OnProgress", "copy", "doctor", "export_file", "import_file", "import_mcp_persist"]


def __getattr__(name: str) -> Any:
    """Import what needs the SDK when it is asked for."""
    if name != "import_mcp_persist":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mcp_persist_sa.operations.mcp_persist import import_mcp_persist

    return import_mcp_persist
