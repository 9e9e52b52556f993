"""Copying between stores: resumable, verified, and, if wanted, following what is written meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from hashlib import blake2b
from time import monotonic

from anyio import move_on_after

from mcp_persist_sa.checks import check_whole
from mcp_persist_sa.errors import PersistError, SessionNotFound
from mcp_persist_sa.identity import check_session_id, inbox_of, session_key
from mcp_persist_sa.operations.opening import check_namespaces, opened
from mcp_persist_sa.operations.progress import Moved, OnProgress
from mcp_persist_sa.operations.shipping import Shipping, stops_all
from mcp_persist_sa.operations.walking import Outlines, Size, event_pages, records
from mcp_persist_sa.records import Parcel, Record, StreamRecord
from mcp_persist_sa.store import Store

_TOGETHER = 50
"""Sessions that are copied, then written, then compared."""

_PAUSE = 0.5
"""Seconds between two rounds that follow what is written, at least."""

_REMEMBERED = 500_000
"""Of so many sessions it is remembered how they were when they were copied."""

_ATTEMPTS = 3


async def copy(
    source: Store | str,
    target: Store | str,
    session: str | None = None,
    *,
    batch_size: int = 1000,
    on_progress: OnProgress | None = None,
    until: asyncio.Event | None = None,
    mirror: bool = False,
) -> Moved:
    """Copy sessions, handles and all that is theirs to another store, with their ids, numbers and times.

    What is there already is not written again, so a copy that was interrupted is begun again and goes on where it was.
    In the end all is read from both stores and compared. A session that fails is reported and does not stop the rest.

    Args:
        source: A store or its DSN. Nothing is changed there.
        target: Another one, of the same namespace. Nobody should serve from it before the copy is done.
        session: A session id; None for everything.
        batch_size: Records that are held and written at a time.
        on_progress: Called after each step.
        until: What is written to the source meanwhile is followed until this is set: after nobody writes there any
            more. None to copy once.
        mirror: Whether to remove from the target what the source has not (any more).

    Raises:
        SessionNotFound: The source does not have this session.
        StoreUnavailable: One of the stores cannot be reached; what was copied stays.
        InvalidOption: The namespaces differ.
    """
    check_whole("batch_size", batch_size, 1)
    async with opened(source, reads=True) as read_from, opened(target) as write_to:
        check_namespaces(read_from.options.namespace, write_to.options.namespace)
        copying = _Copying(read_from, write_to, Size(batch_size), on_progress, mirror=mirror)
        key = None if session is None else session_key(read_from.options.namespace, check_session_id(session))
        return await copying.run(key, until)


class _Copying:
    def __init__(
        self, source: Store, target: Store, size: Size, on_progress: OnProgress | None, *, mirror: bool
    ) -> None:
        self.moved = Moved()
        self._source, self._target = source.backend, target.backend
        self._namespace = source.options.namespace
        self._size = size
        self._mirror = mirror
        self._shipping = Shipping(target.backend, size, self.moved, on_progress)
        self._known: dict[str, tuple[bytes, bool]] = {}
        """How the outlines of sessions were when they were copied, and whether the copy was verified."""
        self._left_out: set[str] = set()

    async def run(self, only: str | None, until: asyncio.Event | None) -> Moved:
        if only is not None and not await self._has(only):
            raise SessionNotFound("The source has no such session.")
        while until is not None and not until.is_set():
            began = monotonic()
            await self._round(only, last=False)
            self._enter("follow")
            with move_on_after(max(_PAUSE, monotonic() - began)):
                await until.wait()
        await self._round(only, last=True)
        if self._mirror and only is None:
            await self._remove_others()
        self._enter("done")
        return self.moved

    def _enter(self, stage: str) -> None:
        self.moved.stage = stage
        self._shipping.report()

    async def _has(self, key: str) -> bool:
        """Whether the source has a session, be it one that cannot be read."""
        async with aclosing(Outlines(self._source, key, self._size._replace(records=1)).pages()) as pages:
            try:
                return bool(await anext(pages))
            except PersistError as error:
                if stops_all(error):
                    raise
                return True

    async def _round(self, only: str | None, *, last: bool) -> None:
        moved = self.moved
        moved.begin_again()
        # What nodes have written to each other is for nobody else.
        self._left_out = {session_key(self._namespace, inbox_of(node)) for node in await self._source.nodes()}
        moved.total = 1 if only else sum([len(page) async for page in self._source.session_keys()])
        async for page in _one(only) if only else self._source.session_keys():
            for first in range(0, len(page), _TOGETHER):
                await self._together(page[first : first + _TOGETHER], last=last)

    async def _together(self, keys: Sequence[str], *, last: bool) -> None:
        self.moved.stage = "copy"
        due: list[str] = []
        for key in keys:
            self.moved.seen += 1
            if key not in self._left_out and await self._guarded(key, last=last):
                due.append(key)
        await self._shipping.flush()
        self.moved.stage = "verify"
        for key in due:
            await self._verify(key)
        self._shipping.forget_names()
        self._shipping.report()

    async def _guarded(self, key: str, *, last: bool) -> bool:
        """Copy what of a session is not there yet; whether it is to be compared then."""
        try:
            return await self._copy_if_changed(key, last=last)
        except PersistError as error:
            if stops_all(error):
                raise
            self.moved.fail(self._shipping.name(key), error)
            return False

    async def _copy_if_changed(self, key: str, *, last: bool) -> bool:
        outlines = Outlines(self._source, key, self._size)
        digest = await _digest(outlines)
        known, verified = self._known.get(key, (b"", False))
        if known == digest:
            # Compared once it rests: who is busy would be read as a whole in each round.
            self.moved.verified += verified
            return not verified
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        await self._copy(key, outlines, Outlines(self._target, key, self._size))
        self._known[key] = (digest, False)
        return last

    async def _copy(self, key: str, outlines: Outlines, there: Outlines | None) -> None:
        """Write what is not there yet.

        Streams that have ended come first: they make room for others of their name.

        Args:
            key: Of the session.
            outlines: What the source has.
            there: What the target has; None not to trust it.
        """
        for finished in (True, False):
            async with aclosing(outlines.pages()) as pages, aclosing(_Streams(there)) as old:
                async for page in pages:
                    others = tuple(record for record in page if finished and not isinstance(record, StreamRecord))
                    if others:
                        await self._shipping.add(Parcel(key, others))
                    for record in page:
                        if isinstance(record, StreamRecord) and record.finished is finished:
                            await self._copy_stream(key, record, await old.find(record.stream_key))

    async def _copy_stream(self, key: str, stream: StreamRecord, there: StreamRecord | None) -> None:
        if stream == there:
            return
        begin = place = stream.purged_through if there is None else max(there.last_sequence, stream.purged_through)
        async with aclosing(event_pages(self._source, key, stream, place, self._size)) as pages:
            async for page in pages:
                place = page[-1].sequence
                # Never more than is there: from this number on a copy that was interrupted goes on.
                await self._shipping.add(Parcel(key, (stream._replace(last_sequence=place), *page)))
        if place == begin or place < stream.last_sequence:
            await self._shipping.add(Parcel(key, (stream,)))

    # Comparing

    async def _verify(self, key: str) -> None:
        """Compare a session with its copy, and try again to make them equal if they are not."""
        try:
            difference = await self._make_equal(key)
        except PersistError as error:
            if stops_all(error):
                raise
            self.moved.fail(self._shipping.name(key), error)
            return
        if difference is not None:
            self.moved.fail(self._shipping.name(key), difference)
            return
        digest, _ = self._known.get(key, (b"", False))
        self._known[key] = (digest, True)
        self.moved.verified += 1

    async def _make_equal(self, key: str) -> str | None:
        """Give what differs in the end."""
        moved, name = self.moved, self._shipping.name(key)
        difference = await self._difference(key)
        for _ in range(_ATTEMPTS):
            if difference is None or (moved.has_failed(name) and not self._mirror):
                break
            if self._mirror:
                moved.forgive(name)
                await self._target.delete_session(key)
            await self._copy(key, Outlines(self._source, key, self._size), None)
            await self._shipping.flush()
            difference = await self._difference(key)
        return difference

    async def _difference(self, key: str) -> str | None:
        here, there = (records(backend, key, self._size) for backend in (self._source, self._target))
        async with aclosing(here), aclosing(there):
            while True:
                mine, other = await anext(here, None), await anext(there, None)
                if mine != other:
                    return _said(mine, other)
                if mine is None:
                    return None

    async def _remove_others(self) -> None:
        """Remove from the target what the source has not."""
        async for page in self._target.session_keys():
            for key in page:
                if not await self._has(key):
                    await self._target.delete_session(key)
                    self.moved.removed += 1


class _Streams:
    """The streams that the target has, looked for in their order."""

    def __init__(self, outlines: Outlines | None) -> None:
        self._streams = None if outlines is None else outlines.streams()
        self._next: StreamRecord | None = None

    async def find(self, stream_key: str) -> StreamRecord | None:
        """A stream; each key is greater than the one before."""
        while self._streams is not None and (self._next is None or self._next.stream_key < stream_key):
            self._next = await anext(self._streams, None)
            if self._next is None:
                return None
        return self._next if self._next is not None and self._next.stream_key == stream_key else None

    async def aclose(self) -> None:
        """Stop looking."""
        if self._streams is not None:
            await self._streams.aclose()


async def _digest(outlines: Outlines) -> bytes:
    digest = blake2b(digest_size=16)
    async with aclosing(outlines.pages()) as pages:
        async for page in pages:
            digest.update(repr(page).encode())
    return digest.digest()


def _said(mine: Record | None, other: Record | None) -> str:
    names = [type(record).__name__.removesuffix("Record").lower() for record in (mine, other) if record is not None]
    if other is None:
        return f"The copy lacks a record ({names[0]}). Does somebody still write to the source, or purge the target?"
    if mine is None:
        return f"The copy has a record ({names[0]}) that the source lacks. Remove the session there, or use `mirror`."
    return f"The copy differs in a record ({' and '.join(sorted({*names}))}). Does somebody write to either store?"


async def _one(key: str) -> AsyncIterator[Sequence[str]]:
    yield [key]
