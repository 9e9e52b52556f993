"""Start, find and watch operating-system processes; none outlives the test process that started it."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LAUNCHER = Path(__file__).with_name("launch.py")
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="test-servers")


class ServerError(Exception):
    """A test server cannot be found, started or controlled; the text says what to do."""


Command: TypeAlias = "Sequence[str | Path]"


class Account(NamedTuple):
    uid: int
    gid: int


def unprivileged() -> Account | None:
    """Return the account for servers that refuse to run as root; None when the tests do not run as root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def dying_with_us(argv: Command, death_signal: signal.Signals, account: Account | None = None) -> list[str]:
    """Return the command line that runs `argv` as `account` and sends it `death_signal` when its parent dies."""
    uid, gid = account or (os.geteuid(), os.getegid())
    ours = [sys.executable, "-I", "-S", _LAUNCHER, int(death_signal), uid, gid, os.getpid(), *argv]
    return [str(argument) for argument in ours]


def clean_environment() -> dict[str, str]:
    """Return the environment without libpq's variables, which would redirect a server or a client."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def spawn(argv: Command, death_signal: signal.Signals, account: Account | None, log: Path) -> subprocess.Popen[bytes]:
    """Start a server in the folder of its log file."""

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                dying_with_us(argv, death_signal, account),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env=clean_environment(),
            )

    # The kernel sends the death signal when the thread that forked ends, so the fork is left to a thread that stays.
    return _SPAWNER.submit(start).result()


def run(argv: Command, account: Account | None, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a short command to its end, with its output captured."""
    return subprocess.run(
        dying_with_us(argv, signal.SIGKILL, account),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=folder,
        env=clean_environment(),
        timeout=60,
        check=False,
    )


def private_folder(name: str, account: Account | None) -> tempfile.TemporaryDirectory[str]:
    """Make a temporary directory that `account` owns and can reach."""
    parent = tempfile.gettempdir()
    if account and not all(folder.stat().st_mode & 0o001 for folder in (Path(parent), *Path(parent).parents)):
        parent = "/tmp"
    folder = tempfile.TemporaryDirectory(prefix=f"mcp-persist-sa-{name}-", dir=parent, ignore_cleanup_errors=True)
    if account:
        os.chown(folder.name, *account)
    return folder


def _own_ports() -> deque[int]:
    """Those of this process of pytest-xdist, in any order: each has its part of them."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = [*range(20_000 + number, 32_000, count)]
    random.shuffle(ports)
    return deque(ports)


_ports = _own_ports()


def free_port() -> int:
    """Return a free loopback port below the ephemeral ranges; no other process of this run of the tests is given it.

    An ephemeral port could be taken by any outgoing connection while its server is down, and a client that retries
    would sooner or later connect to itself. For the same reason the port that was given longest ago is the next one: a
    free one may be that of a server that is down.
    """
    for _ in range(200):
        _ports.rotate()
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", _ports[0]))
            except OSError:
                continue
            return _ports[0]
    raise ServerError("no free loopback port between 20000 and 32000")


def poll(condition: Callable[[], bool], what: str, timeout: float = 10) -> None:
    """Wait until another process has come to `condition`, which it cannot announce by an event."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"{what}: not within {timeout} s")
        time.sleep(0.005)


class ProcessState(NamedTuple):
    parent: int
    letter: str


def processes() -> dict[int, ProcessState]:
    """Return every process of the machine."""
    if not Path("/proc/self/stat").exists():
        return _processes_from_ps()
    found = {int(entry.name): process_state(int(entry.name)) for entry in Path("/proc").glob("[0-9]*")}
    return {pid: state for pid, state in found.items() if state}


def process_state(pid: int) -> ProcessState | None:
    """Return the parent and the state letter (T stopped, Z dead but not reaped) of a process, None when it is gone."""
    if not Path("/proc/self/stat").exists():
        return _processes_from_ps().get(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return ProcessState(int(fields[1]), fields[0])


def _processes_from_ps() -> dict[int, ProcessState]:
    lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in lines.splitlines())
    return {int(pid): ProcessState(int(parent), state[0]) for pid, parent, state in rows}


def is_alive(pid: int) -> bool:
    state = process_state(pid)
    return state is not None and state.letter not in "ZX"


def is_stopped(pid: int) -> bool:
    state = process_state(pid)
    return state is None or state.letter in "TtZX"


def family(pid: int) -> list[int]:
    """Return a process and its children, itself first."""
    return [pid, *(child for child, state in processes().items() if state.parent == pid)]


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
