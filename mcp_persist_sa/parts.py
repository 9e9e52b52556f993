"""What the parts of the store have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mcp_persist_sa.opening import Opened
from mcp_persist_sa.options import Options


class Part(ABC):
    """A part of the store."""

    _options: Options

    @property
    @abstractmethod
    def _now_open(self) -> Opened:
        """What stands behind the store while it is open."""
