"""Exporting to a file of JSON lines, and importing from one; with gzip where the name ends so."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncGenerator, Generator
from contextlib import (
    AbstractContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from gzip import BadGzipFile, GzipFile
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import IO, Any, Literal

from mcp_persist_sa.checks import check_whole
from mcp_persist_sa.errors import InvalidInput, PersistError, SessionNotFound
from mcp_persist_sa.identity import check_session_id, session_key
from mcp_persist_sa.operations.lines import FORMAT, VERSION, decoded, encoded, line_of, record_of
from mcp_persist_sa.operations.opening import check_namespaces, opened
from mcp_persist_sa.operations.progress import Moved, OnProgress
from mcp_persist_sa.operations.shipping import Shipping, stops_all
from mcp_persist_sa.operations.walking import MAX_BYTES, Size, record_pages
from mcp_persist_sa.records import EventRecord, Parcel, Record, StreamRecord
from mcp_persist_sa.store import Store


async def export_file(
    source: Store | str,
    path: str | Path,
    session: str | None = None,
    *,
    batch_size: int = 1000,
    on_progress: OnProgress | None = None,
) -> Moved:
    """Write sessions, handles and all that is theirs to a file, which is there when it is whole.

    Args:
        source: A store or its DSN. Nothing is changed there.
        path: The file, which is replaced; `.gz` at its end for gzip.
        session: A session id; None for everything.
        batch_size: Records that are held at a time.
        on_progress: Called after each step.

    Raises:
        SessionNotFound: The store does not have this session.
        StoreUnavailable: The store cannot be reached.
    """
    check_whole("batch_size", batch_size, 1)
    async with opened(source, reads=True) as store:
        writing = _Writing(store, Size(batch_size), on_progress)
        async with _replacing(Path(path)) as file:
            await writing.run(file, session)
    return writing.moved


class _Writing:
    def __init__(self, store: Store, size: Size, on_progress: OnProgress | None) -> None:
        self.moved = Moved(stage="export")
        self._backend = store.backend
        self._namespace = store.options.namespace
        self._size = size
        self._on_progress = on_progress
        self._digest = blake2b(digest_size=32)
        self._count = 0

    async def run(self, file: IO[bytes], only: str | None) -> None:
        await self._write(file, [encoded({"type": FORMAT, "version": VERSION, "namespace": self._namespace})])
        if only is not None:
            key = session_key(self._namespace, check_session_id(only))
            self.moved.total = 1
            if not await self._session(file, key):
                raise SessionNotFound("The store has no such session.")
        else:
            self.moved.total = sum([len(page) async for page in self._backend.session_keys()])
            async for page in self._backend.session_keys():
                for key in page:
                    await self._guarded(file, key)
        end = {"type": "end", "records": self._count, "digest": self._digest.hexdigest()}
        await asyncio.to_thread(file.write, encoded(end))
        self.moved.stage = "done"
        self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.moved)

    async def _guarded(self, file: IO[bytes], key: str) -> None:
        try:
            await self._session(file, key)
        except PersistError as error:
            if stops_all(error):
                raise
            self.moved.fail(key, error)

    async def _session(self, file: IO[bytes], key: str) -> bool:
        found = False
        async with aclosing(record_pages(self._backend, key, self._size)) as pages:
            async for page in pages:
                found = True
                await self._write(file, [line_of(key, record) for record in page])
                self._count += len(page)
                self.moved.count(page)
                self._report()
        self.moved.seen += 1
        return found

    async def _write(self, file: IO[bytes], lines: list[bytes]) -> None:
        text = b"".join(lines)
        self._digest.update(text)
        await asyncio.to_thread(file.write, text)


async def import_file(
    path: str | Path, target: Store | str, *, batch_size: int = 1000, on_progress: OnProgress | None = None
) -> Moved:
    """Write what a file of `export_file` holds to a store. It can be done again, after a kill or for a later export.

    Args:
        path: The file, which is checked as a whole before anything is written.
        target: A store of the same namespace, or its DSN.
        batch_size: Records that are held and written at a time.
        on_progress: Called after each step.

    Raises:
        InvalidInput: The file is none, was cut off, or is damaged.
        InvalidOption: The namespaces differ.
        StoreUnavailable: The store cannot be reached; what was written stays.
    """
    check_whole("batch_size", batch_size, 1)
    namespace = await asyncio.to_thread(_check_file, Path(path))
    moved = Moved(stage="import")
    async with opened(target) as store:
        check_namespaces(namespace, store.options.namespace)
        shipping = Shipping(store.backend, Size(batch_size), moved, on_progress)
        packing = _Packing(shipping, moved, batch_size)
        with _reading(Path(path)) as file:
            file.readline()
            while lines := await asyncio.to_thread(file.readlines, MAX_BYTES):
                for line in lines:
                    if not line.startswith(b'{"type":"end"'):
                        await packing.add(*record_of(line, namespace))
        await packing.end_stream()
        await shipping.flush()
    moved.stage = "done"
    shipping.report()
    return moved


class _Packing:
    """Makes parcels of records that come one by one."""

    def __init__(self, shipping: Shipping, moved: Moved, most: int) -> None:
        self._shipping = shipping
        self._moved = moved
        self._most = most
        self._key = ""
        self._stream: StreamRecord | None = None
        self._events: list[EventRecord] = []

    async def add(self, key: str, record: Record) -> None:
        """Take the next record of the file."""
        if isinstance(record, EventRecord):
            if self._stream is None or (key, record.stream_key) != (self._key, self._stream.stream_key):
                raise InvalidInput("An event does not follow the record of its stream.")
            self._events.append(record)
            if len(self._events) >= self._most:
                await self._ship_events(self._stream)
            return
        await self.end_stream()
        if key != self._key:
            self._key = key
            self._moved.seen += 1
        if isinstance(record, StreamRecord):
            self._stream = record
        else:
            await self._shipping.add(Parcel(key, (record,)))

    async def _ship_events(self, stream: StreamRecord) -> None:
        events, self._events = self._events, []
        if events:
            # Never more than is there: from this number on a copy goes on.
            so_far = stream._replace(last_sequence=events[-1].sequence)
            await self._shipping.add(Parcel(self._key, (so_far, *events)))

    async def end_stream(self) -> None:
        """Ship the stream that has come last."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await self._ship_events(stream)
            await self._shipping.add(Parcel(self._key, (stream,)))


def _layer(path: Path, file: IO[bytes], mode: Literal["rb", "wb"]) -> AbstractContextManager[Any]:
    """What packs or unpacks a file, if its name says that it is to be packed."""
    return GzipFile(path.name, mode, fileobj=file) if path.name.endswith(".gz") else nullcontext(file)


@asynccontextmanager
async def _replacing(path: Path) -> AsyncGenerator[IO[bytes], None]:
    """A file that takes the place of another when it is whole, and on the disk."""
    if not path.name:
        raise PersistError(f"The file {str(path)!r} cannot be written: this names none.")
    # Others may be writing one of that name.
    part = path.with_name(f"{path.name}.{token_hex(4)}.part")
    try:
        with part.open("xb") as raw:
            with _layer(path, raw, "wb") as file:
                yield file
            raw.flush()
            await asyncio.to_thread(os.fsync, raw.fileno())
        part.replace(path)
    except OSError as error:
        raise PersistError(f"The file {str(path)!r} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def _reading(path: Path) -> Generator[IO[bytes], None, None]:
    try:
        with path.open("rb") as raw, _layer(path, raw, "rb") as file:
            yield file
    except (EOFError, zlib.error, BadGzipFile) as error:
        raise InvalidInput(f"The file {str(path)!r} is damaged: {error}.") from error
    except OSError as error:
        raise PersistError(f"The file {str(path)!r} cannot be read: {error.strerror or error}.") from error


def _head(path: Path, line: bytes) -> dict[str, Any]:
    """What the first line of an export says.

    Raises:
        InvalidInput: It is none of an export.
    """
    try:
        head = decoded(line)
    except InvalidInput:
        head = {"type": None}
    if (head["type"], head.get("version")) != (FORMAT, VERSION) or not isinstance(head.get("namespace"), str):
        raise InvalidInput(f"The file {str(path)!r} is no export of this release.")
    return head


def _check_file(path: Path) -> str:
    """Read a file as a whole, and give the namespace that it was exported from.

    Raises:
        InvalidInput: It is no export, was cut off, or is damaged.
    """
    digest = blake2b(digest_size=32)
    with _reading(path) as file:
        first = last = file.readline()
        head = _head(path, first)
        for line in file:
            digest.update(last)
            last = line
    end = decoded(last)
    if end["type"] != "end":
        raise InvalidInput(f"The file {str(path)!r} was cut off. Export it again.")
    if end.get("digest") != digest.hexdigest():
        raise InvalidInput(f"The file {str(path)!r} was changed after it was exported. Export it again.")
    return head["namespace"]
