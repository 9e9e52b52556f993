"""What whoever operates a store asks of its backend."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

Status = Literal["ok", "note", "wrong"]


class Finding(NamedTuple):
    """What was found when something was looked at.

    Attributes:
        check: What was looked at.
        status: `ok`; `note`: to be known; `wrong`: a promise is not kept, or will not be.
        found: How it is.
        advice: What to do, unless all is well.
    """

    check: str
    status: Status
    found: str
    advice: str | None = None


class OversightBackend(Protocol):
    """Can be looked at."""

    async def examine(self) -> list[Finding]:
        """Look at the database: its version, clock, durability, rights, room, and what stands between.

        Raises:
            StoreUnavailable: It cannot be reached.
        """
        ...
