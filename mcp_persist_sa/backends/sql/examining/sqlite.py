"""What is looked at in a SQLite file."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import sqlalchemy as sa

from mcp_persist_sa.options import Options
from mcp_persist_sa.oversight import Finding

_LEAST_ROOM = 256 * 1024 * 1024
_LONG_LOG = 1024 * 1024 * 1024
_REMOTE = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gluster", "lustre", "fuse.", "ncp", "virtiofs", "vboxsf")
_MOUNTS = Path("/proc/self/mounts")
_OTHERS = 0o007
_OTHERS_ENTER = 0o001


def examine(connection: sa.Connection, options: Options) -> Iterator[Finding]:
    """Look at the file, where it lies, and how it is written."""
    yield Finding("database", "ok", f"SQLite {sqlite3.sqlite_version}")
    yield _durability(options)
    rows = connection.exec_driver_sql("PRAGMA database_list")
    file = next(row.file for row in rows if row.name == "main")
    if file:
        yield _journal(connection)
        yield file_system(Path(file), _MOUNTS)
        yield room(Path(file), shutil.disk_usage(file).free)
        yield _log(Path(file))
        yield rights(Path(file), Path(file).resolve().parents)


def _durability(options: Options) -> Finding:
    found = f"synchronous is {options.synchronous}"
    if options.synchronous == "FULL":
        return Finding("durability", "ok", found)
    return Finding("durability", "note", found, "A power cut may take the last commits. FULL, the default, keeps them.")


def _journal(connection: sa.Connection) -> Finding:
    mode = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())
    if mode == "wal":
        return Finding("journal", "ok", "a write-ahead log")
    advice = (
        "Open it by DSN, or call configure_sqlite(engine): without the log, readers and writers wait for each other."
    )
    return Finding("journal", "wrong", f"the mode is {mode}", advice)


def file_system(file: Path, mounts: Path) -> Finding:
    """Find out whether the file is on this machine.

    Args:
        file: The database.
        mounts: What is mounted, as Linux tells.
    """
    kind = _kind_of(file.resolve(), mounts)
    if kind is None:
        return Finding("file system", "ok", "not known on this platform")
    if kind.startswith(_REMOTE):
        advice = (
            "Put the file on a disk of this machine, or use Postgres: locks do not work there, and files are broken."
        )
        return Finding("file system", "wrong", f"{kind}, which is not on this machine", advice)
    return Finding("file system", "ok", kind)


def _kind_of(file: Path, mounts: Path) -> str | None:
    if not mounts.exists():
        return None
    fields = [line.split() for line in mounts.read_text(errors="replace").splitlines()]
    places = [(point.replace("\\040", " "), kind) for _, point, kind, *_ in fields]
    inside = [(len(point), number, kind) for number, (point, kind) in enumerate(places) if file.is_relative_to(point)]
    return max(inside)[2] if inside else None


def room(file: Path, free: int) -> Finding:
    """Find out how much more can be written.

    Args:
        file: The database.
        free: Bytes that are free beside it.
    """
    size = file.stat().st_size
    found = f"{_size(free)} are free beside {_size(size)}"
    if free < _LEAST_ROOM:
        return Finding("room", "wrong", found, "Make room: when the disk is full, events cannot be stored.")
    if free < size:
        advice = "Not enough to VACUUM, nor for a copy beside it. Make room, or shorten event_ttl."
        return Finding("room", "note", found, advice)
    return Finding("room", "ok", found)


def _log(file: Path) -> Finding:
    log = file.with_name(f"{file.name}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size < _LONG_LOG:
        return Finding("log", "ok", f"{_size(size)} are not in the file yet")
    advice = "Somebody reads for very long, so that it cannot be emptied: look for open shells and backups."
    return Finding("log", "note", f"{_size(size)} are not in the file yet", advice)


def rights(file: Path, folders: Iterable[Path]) -> Finding:
    """Find out whether other users of this machine can read the file.

    Args:
        file: The database.
        folders: Those in which it lies, all of which others have to enter.
    """
    mode = file.stat().st_mode & 0o777
    if mode & _OTHERS == 0:
        return Finding("rights", "ok", f"{mode:o}")
    if any(folder.stat().st_mode & _OTHERS_ENTER == 0 for folder in folders):
        return Finding("rights", "ok", f"{mode:o}, in a folder that others cannot enter")
    advice = f"Other users of this machine can read what clients said: chmod o= '{file}' '{file}-wal' '{file}-shm'"
    return Finding("rights", "note", f"{mode:o}", advice)


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"
