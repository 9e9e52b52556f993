"""Whatever a store holds, and whenever it was copied before, a copy equals it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_persist_sa import NewEvent, PersistError, Store, open_store
from mcp_persist_sa.operations import copy
from tests.contract.support import Clock
from tests.moving.support import contents, keys

EXAMPLES = int(os.environ.get("MCP_PERSIST_SA_TEST_EXAMPLES") or 40)

SESSIONS = st.sampled_from(["a", "b"])
STREAMS = st.sampled_from(["1", "2", "odd \0\u2028"])
VALUES = st.sampled_from([None, 1, 2.0, "é\ud800", [{}], {"z": 1, "a": 2**70}])
MESSAGES = st.lists(st.sampled_from(["1", None, '"é\U0001d11e"', "x" * 50]), min_size=1, max_size=4)

Step = Callable[[Store], Any]


async def _create(store: Store, name: str, value: object) -> None:
    await store.sessions.create(name, client_info=value, metadata={"m": value})


async def _append(store: Store, name: str, stream: str, texts: list[str | None], final: bool) -> None:
    events = [NewEvent(text, final and n == len(texts) - 1) for n, text in enumerate(texts)]
    await store.append_many(name, stream, events)


async def _claim(store: Store, name: str, stream: str, texts: list[str | None], will: str | None) -> None:
    await store.join()
    writer = store.claim(name, stream, will=will)
    receipts = [writer.append(text, final=will is None and n == len(texts) - 1) for n, text in enumerate(texts)]
    for receipt in receipts:
        await receipt.durable()


async def _cut(store: Store, name: str, stream: str, keep: int) -> None:
    page = await store.recent(name, stream, limit=keep)
    if page.events:
        await store.delete_before(name, page.events[0].event_id)


STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda name, value: lambda store: _create(store, name, value), SESSIONS, VALUES),
    st.builds(
        lambda name, stream, texts, final: lambda store: _append(store, name, stream, texts, final),
        *(SESSIONS, STREAMS, MESSAGES, st.booleans()),
    ),
    st.builds(
        lambda name, stream, texts, will: lambda store: _claim(store, name, stream, texts, will),
        *(SESSIONS, STREAMS, MESSAGES, st.sampled_from([None, "gone"])),
    ),
    st.builds(
        lambda name, stream, keep: lambda store: _cut(store, name, stream, keep),
        *(SESSIONS, STREAMS, st.integers(1, 3)),
    ),
    st.builds(lambda name, value: lambda store: store.state(name).set("k", value), SESSIONS, VALUES),
    st.builds(lambda name: lambda store: store.state(name).delete("k"), SESSIONS),
    st.builds(lambda name: lambda store: store.sessions.update(name, metadata={"n": 1}), SESSIONS),
    st.builds(lambda name: lambda store: store.sessions.close(name), SESSIONS),
)


async def _run(rounds: list[list[Step]], batch_size: int) -> None:
    clock = Clock()
    async with open_store("sqlite://", clock=clock) as source, open_store("sqlite://", clock=clock) as target:
        for steps in rounds:
            for step in steps:
                clock.advance(seconds=1)
                try:
                    await step(source)
                except PersistError:
                    continue
            moved = await copy(source, target, batch_size=batch_size)
            assert moved.failures == {}
            assert await keys(target) == await keys(source)
            for name in ("a", "b"):
                assert await contents(target, name) == await contents(source, name)


@given(st.lists(st.lists(STEPS, max_size=8), min_size=1, max_size=3), st.integers(1, 7))
@settings(
    max_examples=EXAMPLES,
    deadline=timedelta(seconds=60),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_a_copy_equals_its_source(rounds: list[list[Step]], batch_size: int) -> None:
    asyncio.run(_run(rounds, batch_size))
