"""What one replica publishes, the listeners of all hear: once, also after a loss, and whatever a listener does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import pytest
from mcp.server.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from mcp_persist_sa import InvalidOption, NewEvent, Store, SubscriptionBus, open_store
from mcp_persist_sa.identity import SUBSCRIPTIONS
from tests.contract.beside import locked
from tests.contract.support import PATIENCE
from tests.databases import Database

KINDS: list[ServerEvent] = [
    ToolsListChanged(),
    PromptsListChanged(),
    ResourcesListChanged(),
    ResourceUpdated("memo://1"),
]


class Heard(list[ServerEvent]):
    """A listener of a bus."""

    def __init__(self, bus: SubscriptionBus) -> None:
        super().__init__()
        self._more = asyncio.Event()
        self.unsubscribe = bus.subscribe(self._hear)

    def _hear(self, event: ServerEvent) -> None:
        self.append(event)
        self._more.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not enough():
                self._more.clear()
                await self._more.wait()

        await asyncio.wait_for(wait(), PATIENCE)

    async def heard(self, *events: ServerEvent) -> None:
        await self.until(lambda: set(events) <= set(self))


class Appends:
    """Looks on as a store is written to."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.again = asyncio.Event()
        self._append_many = store.append_many
        monkeypatch.setattr(store, "append_many", self._count)

    async def _count(self, session_id: str, stream_id: str, events: Sequence[NewEvent]) -> list[str]:
        self.sizes.append(len(events))
        if len(self.sizes) > 2:
            self.again.set()
        return await self._append_many(session_id, stream_id, events)


def uris(start: int, end: int) -> list[ServerEvent]:
    return [ResourceUpdated(f"memo://{number}") for number in range(start, end)]


async def test_every_replica_hears_every_event_once(shared_database: Database) -> None:
    buses = [(await shared_database.open(poll_interval=60)).subscription_bus() for _ in range(3)]
    heard = [Heard(bus) for bus in buses]
    for bus, event in zip([*buses, buses[0]], KINDS, strict=True):
        await bus.publish(event)
    end = ResourceUpdated("memo://end")
    await asyncio.gather(*(buses[n % 3].publish(event) for n, event in enumerate(uris(2, 50))))
    await buses[0].publish(end)
    for each in heard:
        await each.heard(end, *KINDS, *uris(2, 50))
        assert len(each) == 53
    for bus in buses:
        await bus.aclose()


async def test_listeners_of_one_store_hear_once(store: Store) -> None:
    bus = store.subscription_bus()
    first, second = Heard(bus), Heard(bus)
    await bus.publish(KINDS[0])
    second.unsubscribe()
    second.unsubscribe()
    for event in KINDS[1:]:
        await bus.publish(event)
    assert first == KINDS
    assert second == KINDS[:1]
    # Its own entries are not heard again when they are read.
    other = store.subscription_bus()
    await other.publish(ResourceUpdated("memo://end"))
    await first.heard(ResourceUpdated("memo://end"))
    assert len(first) == len(KINDS) + 1
    await bus.aclose()
    await other.aclose()


async def test_what_is_published_as_soon_as_one_has_subscribed_is_heard(shared_database: Database) -> None:
    here, there = [(await shared_database.open()).subscription_bus() for _ in range(2)]
    await there.publish(ResourceUpdated("memo://before"))
    heard = Heard(here)
    # Before the reader had its first turn.
    await there.publish(KINDS[0])
    await heard.heard(KINDS[0])
    await here.aclose()


async def test_a_listener_that_raises_stops_nobody(shared_database: Database, caplog: pytest.LogCaptureFixture) -> None:
    here, there = [(await shared_database.open()).subscription_bus() for _ in range(2)]

    def raising(event: ServerEvent) -> None:
        raise RuntimeError("no")

    here.subscribe(raising)
    heard = Heard(here)
    for bus in (here, there):
        for event in KINDS:
            await bus.publish(event)
    await heard.until(lambda: len(heard) == 2 * len(KINDS))
    assert heard == [*KINDS, *KINDS]
    assert "A listener of subscriptions raised" in caplog.text
    await here.aclose()


async def test_after_a_loss_all_that_is_known_is_told_once(shared_database: Database) -> None:
    writer = await shared_database.open()
    here, there = (await shared_database.open(poll_interval=0.05)).subscription_bus(), writer.subscription_bus()
    heard = Heard(here)
    await there.publish(KINDS[3])
    await heard.heard(KINDS[3])
    await writer.delete_events(SUBSCRIPTIONS)
    await heard.until(lambda: len(heard) >= 1 + len(KINDS))
    assert heard == [KINDS[3], *KINDS]
    await there.publish(ResourceUpdated("memo://2"))
    await heard.heard(ResourceUpdated("memo://2"))
    assert len(heard) == 2 + len(KINDS)
    await here.aclose()


async def test_what_is_old_is_removed(shared_database: Database) -> None:
    store = await shared_database.open()
    # It removes only what it has read itself, so it misses nothing, however short the time is.
    here, there = store.subscription_bus(keep=0.01), (await shared_database.open()).subscription_bus()
    heard = Heard(here)
    published = 0
    # How fast they are removed depends on the machine: that they are shows in how few are left.
    while published < 20 or (await store.stream(SUBSCRIPTIONS, "events")).count > published // 2:
        published += 1
        assert published < 2000
        await there.publish(ResourceUpdated(f"memo://{published}"))
    await heard.heard(ResourceUpdated(f"memo://{published}"))
    assert heard == uris(1, published + 1)
    await here.aclose()


async def test_a_bus_ends_with_its_store_and_goes_on_with_it(shared_database: Database) -> None:
    store = await shared_database.open(poll_interval=0.05)
    other = (await shared_database.open()).subscription_bus()
    bus = store.subscription_bus()
    before = asyncio.all_tasks()
    heard = Heard(bus)
    [reader] = asyncio.all_tasks() - before
    await other.publish(KINDS[0])
    await heard.heard(KINDS[0])
    await store.close()
    await asyncio.wait_for(reader, PATIENCE)
    await bus.publish(KINDS[1])
    assert heard[-1] == KINDS[1]
    await store.open()
    again = Heard(bus)
    await other.publish(KINDS[2])
    await again.heard(KINDS[2])
    await bus.aclose()


async def test_with_the_store_closed_listeners_here_are_told(caplog: pytest.LogCaptureFixture) -> None:
    bus = open_store("sqlite://").subscription_bus()
    heard = Heard(bus)
    with caplog.at_level(logging.WARNING):
        await bus.publish(KINDS[0])
    assert heard == KINDS[:1]
    assert "not stored" in caplog.text


async def test_with_the_store_away_others_hear_when_it_is_there_again(
    shared_database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await shared_database.open(timeout=1)
    here = store.subscription_bus(patience=0.05)
    there = (await shared_database.open()).subscription_bus()
    heard, there_heard = Heard(here), Heard(there)
    await there.publish(ResourceUpdated("memo://before"))
    await heard.heard(ResourceUpdated("memo://before"))
    appends = Appends(store, monkeypatch)
    async with locked(shared_database):
        for event in KINDS:
            await here.publish(event)
        assert heard[1:] == KINDS
        assert not set(KINDS) & set(there_heard)
        assert caplog.text.count("only when it is there again") == 1
        # Longer than the store tries by itself.
        await asyncio.wait_for(appends.again.wait(), PATIENCE)
    await there_heard.heard(*KINDS)
    await here.publish(ResourceUpdated("memo://after"))
    await there_heard.heard(ResourceUpdated("memo://after"))
    for bus in (here, there):
        await bus.aclose()


async def test_publications_that_come_together_share_an_append(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = store.subscription_bus()
    appends = Appends(store, monkeypatch)
    await asyncio.gather(*(bus.publish(event) for event in uris(0, 400)))
    assert sum(appends.sizes) == 400
    assert len(appends.sizes) <= 2


@pytest.mark.parametrize("options", [{"keep": 0}, {"patience": 0}])
async def test_times_are_above_zero(options: dict[str, float]) -> None:
    with pytest.raises(InvalidOption):
        open_store("sqlite://").subscription_bus(**options)
