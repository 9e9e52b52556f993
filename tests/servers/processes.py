"""Python programs as child processes that tests talk to line by line, stop, and kill."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .spawning import ServerError, dying_with_us, is_stopped, poll

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).resolve().parents[2]


class Process(Protocol):
    """What is needed of an `asyncio.subprocess.Process`, or of what is like one."""

    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...

    def send_signal(self, signal: signal.Signals, /) -> None: ...


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a Python child that imports from the repository's root and says at once what it says."""
    search_path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": search_path, "PYTHONUNBUFFERED": "1", **(given or {})}


class ChildProcess:
    """A Python child: `async with ChildProcess("-m", "tests.worker", "argument") as child`.

    It imports from the repository's root, runs there unless told otherwise, and is killed at the end of the block or
    when the tests' process dies, whichever is first. Start it in the main thread: the kernel ties it to the thread that
    started it.
    """

    def __init__(
        self,
        *arguments: str,
        interpreter: str | Path = sys.executable,
        env: Mapping[str, str] | None = None,
        cwd: Path = REPOSITORY,
        timeout: float = 30,
    ) -> None:
        self._interpreter = interpreter
        self._arguments = arguments
        self._env = environment(env)
        self._cwd = cwd
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the block ends
        self._process: Process | None = None

    async def __aenter__(self) -> ChildProcess:
        try:
            self._process = await self._start(self._errors.fileno())
        except BaseException:
            self._errors.close()
            raise
        return self

    async def _start(self, errors: int) -> Process:
        return await asyncio.create_subprocess_exec(
            *dying_with_us([self._interpreter, *self._arguments], signal.SIGKILL),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=self._cwd,
            env=self._env,
        )

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        self._errors.close()

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def returncode(self) -> int | None:
        return self._running().returncode

    async def read_line(self, timeout: float | None = None) -> str:
        """Return the next line of the child's output, without its end; raise if the child ends or stays silent."""
        stdout = self._running().stdout
        assert stdout is not None
        patience = timeout or self._timeout
        try:
            line = await asyncio.wait_for(stdout.readline(), patience)
        except asyncio.TimeoutError:
            raise ServerError(f"{self._arguments} said nothing for {patience} s\n{self.errors()}") from None
        if not line:
            code = await self.wait()
            raise ServerError(f"{self._arguments} ended with exit code {code}\n{self.errors()}")
        return line.decode().rstrip("\n")

    async def wait_for_line(self, prefix: str, timeout: float | None = None) -> str:
        """Return the next line that begins with `prefix`; the lines before it are dropped."""

        async def search() -> str:
            while True:
                line = await self.read_line(timeout)
                if line.startswith(prefix):
                    return line

        return await asyncio.wait_for(search(), timeout or self._timeout)

    async def write_line(self, text: str = "") -> None:
        """Write a line to the child's standard input: `input()` returns it there."""
        stdin = self._running().stdin
        assert stdin is not None
        stdin.write(f"{text}\n".encode())
        await stdin.drain()

    async def close_input(self) -> None:
        """End the child's standard input."""
        stdin = self._running().stdin
        assert stdin is not None
        stdin.close()
        await stdin.wait_closed()

    async def wait(self, timeout: float | None = None) -> int:
        """Return the exit code (minus the signal's number) when the child has ended by itself."""
        return await asyncio.wait_for(self._running().wait(), timeout or self._timeout)

    async def kill(self) -> int:
        """End the child by SIGKILL, if it has not ended yet, and return its exit code."""
        self.send_signal(signal.SIGKILL)
        return await self.wait()

    def pause(self) -> None:
        """Freeze the child, as a long garbage collection or a suspended machine would."""
        self.send_signal(signal.SIGSTOP)
        poll(lambda: is_stopped(self.pid), "the child is stopped")

    def resume(self) -> None:
        self.send_signal(signal.SIGCONT)

    def send_signal(self, number: signal.Signals) -> None:
        process = self._running()
        if process.returncode is None:
            process.send_signal(number)

    def errors(self) -> str:
        """Return what the child has written to its standard error."""
        length = os.fstat(self._errors.fileno()).st_size
        # Not read(): the child shares the file's position and writes at it.
        return os.pread(self._errors.fileno(), length, 0).decode(errors="replace")

    def _running(self) -> Process:
        if self._process is None:
            raise ServerError("the child process has not been started")
        return self._process
