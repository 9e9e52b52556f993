"""What tests of records, copies and files share: sessions of every kind, and all that is kept of one."""

from __future__ import annotations

from mcp_persist_sa import NewEvent, Store
from mcp_persist_sa.identity import session_key
from mcp_persist_sa.records import Outline, Record, StreamRecord

WILL = '{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"gone"}}'


def key_of(store: Store, session_id: str) -> str:
    return session_key(store.options.namespace, session_id)


async def outline(store: Store, session_id: str, *, limit: int = 100, max_bytes: int = 2**20) -> list[Outline]:
    """The records of a session but for its events, read page by page."""
    found: list[Outline] = []
    more = True
    while more:
        after = found[-1] if found else None
        page, more = await store.backend.read_outline(
            key_of(store, session_id), after=after, limit=limit, max_bytes=max_bytes
        )
        assert len(page) <= limit
        found += page
    return found


async def contents(store: Store, session_id: str, *, limit: int = 100, max_bytes: int = 2**20) -> list[Record]:
    """All records of a session, the events of a stream behind its own."""
    found: list[Record] = []
    for record in await outline(store, session_id, limit=limit, max_bytes=max_bytes):
        found.append(record)
        if not isinstance(record, StreamRecord):
            continue
        after, key = 0, key_of(store, session_id)
        while page := await store.backend.read_events(
            key, record.stream_key, after=after, limit=limit, max_bytes=max_bytes
        ):
            assert len(page) <= limit
            found += page
            after = page[-1].sequence
    return found


async def keys(store: Store) -> set[str]:
    """The keys of all sessions and handles."""
    return {key async for page in store.backend.session_keys() for key in page}


async def fill_all_kinds(store: Store, session_id: str = "session") -> None:
    """A session that has something of everything; the store must not have joined before."""
    await store.sessions.create(
        session_id,
        owner="alice",
        tenant="t",
        protocol_version="2025-11-25",
        client_info={"name": "c", "é": 2**70},
        handshake={"initialize": {"b": 1, "a": [1.0, None]}},
        metadata={"n": 1},
    )
    state = store.state(session_id)
    for key, value in {"null": None, "deleted": 1, "text": "\ud800", "list": [1, 2.0, {"a": False}]}.items():
        await state.set(key, value)
    await state.set("text", "again")
    await state.delete("deleted")
    await _fill_streams(store, session_id)


async def _fill_streams(store: Store, session_id: str) -> None:
    ids = await store.append_many(session_id, "shared", [NewEvent(text) for text in ("1", None, '"é"', "4")])
    await store.delete_before(session_id, ids[2])
    await store.append(session_id, "odd \0\u2028", "1")
    for _ in range(3):
        await store.append_many(session_id, "again", [NewEvent("x"), NewEvent("end", True)])
    await store.append(session_id, "again", "open")
    await store.join()
    writer = store.claim(session_id, "called", will=WILL)
    receipts = [writer.append(str(n)) for n in range(5)]
    finished = store.claim(session_id, "finished", will=WILL)
    receipts += [finished.append(None), finished.append("end", final=True)]
    for receipt in receipts:
        await receipt.durable()
