"""What whoever operates a store runs."""

from mcp_persist_sa.operations.doctor import doctor

__all__ = ["doctor"]
