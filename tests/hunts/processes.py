"""The child processes as the tests hold them: what they have acknowledged, and what they have read."""

from __future__ import annotations

import json
from contextlib import suppress

from tests.databases import Database
from tests.hunts.support import PATIENCE
from tests.servers import ChildProcess, ServerError


class WriterProcess(ChildProcess):
    """A writer in another process; `async with` starts it, `begin` lets it write.

    Attributes:
        acknowledged: Messages by event id, as far as they were read from its output.
    """

    def __init__(self, database: Database, name: str, limit: int | None = None) -> None:
        argument = json.dumps({"dsn": database.dsn, "name": name, "limit": limit})
        super().__init__("-m", "tests.hunts.child_writer", argument, timeout=PATIENCE)
        self.acknowledged: dict[str, str] = {}

    async def __aenter__(self) -> WriterProcess:
        await super().__aenter__()
        return self

    async def begin(self) -> None:
        await self.wait_for_line("ready")
        await self.write_line()

    async def follow(self, count: int | None = None) -> None:
        """Read so many acknowledgements; None for all until it is done."""
        while count is None or count > 0:
            line = await self.read_line()
            if line == "done":
                assert count is None
                return
            self._note(line)
            count = None if count is None else count - 1

    async def finish(self) -> None:
        """Tell it to stop, and wait until it has."""
        await self.write_line()
        await self.follow()
        assert await self.wait() == 0, self.errors()

    async def kill_now(self) -> None:
        """End it by SIGKILL, and read what it said before."""
        assert await self.kill() == -9, self.errors()
        with suppress(ServerError):
            while True:
                self._note(await self.read_line())

    def _note(self, line: str) -> None:
        sign, event_id, message = line.split(" ")
        assert sign == "+"
        self.acknowledged[event_id] = message


class ReaderProcess(ChildProcess):
    """A reader in another process."""

    def __init__(self, database: Database) -> None:
        super().__init__("-m", "tests.hunts.child_reader", json.dumps({"dsn": database.dsn}), timeout=PATIENCE)

    async def __aenter__(self) -> ReaderProcess:
        await super().__aenter__()
        return self

    async def read_all(self) -> list[str]:
        """All that it is given, as it prints it."""
        lines: list[str] = []
        while (line := await self.read_line()) != "done":
            lines.append(line)
        return lines
