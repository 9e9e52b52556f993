"""Events: what is appended is read, once, in order, in pages."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from mcp_persist_sa import Gap, HistoryLost, InvalidInput, NewEvent, Store, StreamNotFound, TooLarge, UnknownEvent
from tests.contract.beside import lose_events
from tests.contract.support import Clock, fill, messages, to_the_end
from tests.databases import Database

MEGABYTE = 1024 * 1024


async def test_what_is_appended_is_read(store: Store) -> None:
    ids = [await store.append("session", "1", f'{{"n":{n}}}') for n in range(3)]
    page = await store.read("session", stream_id="1")
    assert [event.event_id for event in page.events] == ids
    assert [event.message for event in page.events] == ['{"n":0}', '{"n":1}', '{"n":2}']
    assert [event.sequence for event in page.events] == [1, 2, 3]


async def test_many_events_are_appended_at_once_and_in_order(store: Store) -> None:
    first = await store.append("session", "1", "0")
    ids = await fill(store, "session", "1", 5)
    page = await store.read("session", after=first)
    assert [event.event_id for event in page.events] == ids
    assert messages(page) == ["1", "2", "3", "4", "5"]
    assert page.event_id == ids[-1]


async def test_more_events_than_a_transaction_takes_are_appended_by_one_call(store: Store) -> None:
    await fill(store, "session", "1", 4500)
    items = await to_the_end(store, "session", stream_id="1")
    assert [item.message for item in items if not isinstance(item, Gap)] == [str(n) for n in range(1, 4501)]


async def test_a_priming_event_has_an_id_and_no_message(store: Store) -> None:
    primed = await store.append("session", "1", None)
    empty = await store.append("session", "1", "")
    page = await store.read("session", stream_id="1")
    assert [(event.event_id, event.message) for event in page.events] == [(primed, None), (empty, "")]


async def test_a_final_event_finishes_its_stream(store: Store) -> None:
    first = await store.append("session", "1", "a")
    assert not (await store.read("session", stream_id="1")).finished
    last = await store.append("session", "1", "b", final=True)
    page = await store.read("session", after=first)
    assert ([event.final for event in page.events], page.finished) == ([True], True)
    after_it = await store.read("session", after=last)
    assert (after_it.items, after_it.event_id, after_it.finished) == ((), None, True)


async def test_the_next_event_after_a_final_one_begins_a_new_stream(store: Store) -> None:
    old = await fill(store, "session", "1", 2, final=True)
    new = await store.append("session", "1", "new")
    assert messages(await store.read("session", stream_id="1")) == ["new"]
    assert messages(await store.read("session", after=old[0])) == ["2"]
    assert not set(old) & {new}
    assert (await store.read("session", after=old[1])).items == ()
    assert len([info async for info in store.streams("session")]) == 2


async def test_the_newest_of_several_finished_streams_is_the_one_that_is_read(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    for n in range(5):
        await store.append("session", "1", str(n), final=True)
        clock.advance(seconds=1)
        assert messages(await store.read("session", stream_id="1")) == [str(n)]


async def test_an_event_says_when_it_was_stored(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    await store.append("session", "1", "a")
    clock.advance(microseconds=1)
    await store.append("session", "1", "b")
    first, second = (await store.read("session", stream_id="1")).events
    assert (second.created_at, second.created_at - first.created_at) == (clock.time, timedelta(microseconds=1))
    assert first.created_at.utcoffset() == timedelta(0)


MESSAGES = [
    '{"jsonrpc":"2.0", "id" : 1e400, "b":1,"a":2,"a":3}',
    '{"nul":"\\u0000","surrogate":"\\ud800"}',
    '  {"space":"kept"}\r\n\t',
    '{"n":123456789012345678901234567890.10}',
    '{"quotes":"\'\\"; DROP TABLE mcp_events; --", "percent":"%s %(x)s :x ? $1"}',
    '{"text":"äß漢字🙂\x7f\u2028\ufeff\x01"}',
    "not JSON at all",
]


async def test_a_message_comes_back_byte_for_byte(store: Store) -> None:
    for message in MESSAGES:
        await store.append("session", "1", message)
    assert messages(await store.read("session", stream_id="1")) == MESSAGES


async def test_messages_of_a_megabyte_are_stored_and_read_one_page_each(store: Store) -> None:
    texts = [f'"{letter * MEGABYTE}"' for letter in "aä漢"]
    await store.append_many("session", "1", [NewEvent(text) for text in texts])
    page = await store.read("session", stream_id="1")
    for text in texts:
        assert (messages(page), page.more) == ([text], text is not texts[-1])
        page = await store.read("session", after=page.event_id)
    assert (page.items, page.more) == ((), False)


# Pages


async def test_pages_have_at_most_so_many_events(database: Database) -> None:
    store = await database.open(page_events=2)
    ids = await fill(store, "session", "1", 5)
    seen: list[list[str | None]] = []
    page = await store.read("session", stream_id="1")
    while page.more:
        seen.append(messages(page))
        page = await store.read("session", after=page.event_id)
    assert [*seen, messages(page)] == [["1", "2"], ["3", "4"], ["5"]]
    assert page.event_id == ids[-1]


async def test_pages_have_at_most_so_many_bytes_unless_one_event_has_more(database: Database) -> None:
    store = await database.open(page_bytes=100)
    sizes = [60, 40, 1, 0, 98, 1, 99, 150, 0, 30, 80]
    await store.append_many("session", "1", [NewEvent("x" * size if size else None) for size in sizes])
    pages: list[list[int]] = []
    page = await store.read("session", stream_id="1")
    pages.append([len(text or "") for text in messages(page)])
    while page.more:
        page = await store.read("session", after=page.event_id)
        pages.append([len(text or "") for text in messages(page)])
    assert [size for sizes_of_page in pages for size in sizes_of_page] == sizes
    assert [sizes_of_page for sizes_of_page in pages if sum(sizes_of_page) > 100] == [[150]]


async def test_a_page_is_filled_to_the_last_byte(database: Database) -> None:
    store = await database.open(page_bytes=1000)
    await store.append_many("session", "1", [NewEvent(None), *[NewEvent("x" * 20)] * 60])
    page = await store.read("session", stream_id="1")
    assert (len(page.items), page.more) == (51, True)
    page = await store.read("session", after=page.event_id)
    assert (len(page.items), page.more) == (10, False)


async def test_a_page_has_the_first_event_that_has_bytes_however_many(database: Database) -> None:
    store = await database.open(page_bytes=100)
    ids = await store.append_many("session", "1", [NewEvent("x" * size if size else None) for size in (0, 150, 0, 30)])
    page = await store.read("session", stream_id="1")
    assert ([len(text or "") for text in messages(page)], page.more) == ([0, 150], True)
    page = await store.read("session", after=page.event_id)
    assert ([len(text or "") for text in messages(page)], page.more) == ([0, 30], False)
    page = await store.read_before("session", ids[3])
    assert ([len(text or "") for text in messages(page)], page.more) == ([150, 0], True)
    page = await store.read_before("session", ids[1])
    assert ([len(text or "") for text in messages(page)], page.more) == ([0], False)


async def test_the_bytes_of_a_page_are_those_of_utf_8(database: Database) -> None:
    store = await database.open(page_bytes=100)
    await store.append_many("session", "1", [NewEvent("漢" * 30), NewEvent("x" * 20)])
    assert messages(await store.read("session", stream_id="1")) == ["漢" * 30]


async def test_a_page_at_the_end_says_that_there_is_no_more(store: Store) -> None:
    ids = await fill(store, "session", "1", 3)
    page = await store.read("session", after=ids[1])
    assert (messages(page), page.more, page.finished, page.closed) == (["3"], False, False, False)
    page = await store.read("session", after=ids[2])
    assert (page.items, page.event_id, page.more) == ((), None, False)


async def test_a_page_says_that_the_session_was_closed(store: Store) -> None:
    await store.sessions.create("session")
    ids = await fill(store, "session", "1", 2)
    await store.sessions.close("session")
    assert (await store.read("session", after=ids[0])).closed
    assert (await store.read("session", after=ids[1])).closed


# Gaps


async def test_a_number_that_was_never_stored_is_a_gap(shared_database: Database) -> None:
    store = await shared_database.open()
    ids = await fill(store, "session", "1", 7)
    await lose_events(shared_database, 3, 4, 6)
    page = await store.read("session", after=ids[0])
    assert [item if isinstance(item, Gap) else item.sequence for item in page.items] == [2, Gap(3, 4), 5, Gap(6, 6), 7]
    assert [event.sequence for event in page.events] == [2, 5, 7]


async def test_a_gap_at_the_beginning_of_a_stream_is_said(shared_database: Database) -> None:
    store = await shared_database.open()
    await fill(store, "session", "1", 3)
    await lose_events(shared_database, 1)
    page = await store.read("session", stream_id="1")
    assert page.items[0] == Gap(1, 1)


async def test_a_gap_between_two_pages_is_said_once(shared_database: Database) -> None:
    store = await shared_database.open(page_events=2)
    await fill(store, "session", "1", 5)
    await lose_events(shared_database, 3)
    items = await to_the_end(store, "session", stream_id="1")
    assert [item if isinstance(item, Gap) else item.sequence for item in items] == [1, 2, Gap(3, 3), 4, 5]


async def test_the_recent_events_tell_of_a_gap_among_them(shared_database: Database) -> None:
    store = await shared_database.open()
    await fill(store, "session", "1", 5)
    await lose_events(shared_database, 4)
    items = (await store.recent("session", "1", limit=3)).items
    assert [item if isinstance(item, Gap) else item.sequence for item in items] == [2, 3, Gap(4, 4), 5]


# The other end


async def test_the_events_before_an_event_are_the_newest_in_order(store: Store) -> None:
    ids = await fill(store, "session", "1", 6)
    page = await store.read_before("session", ids[4], limit=3)
    assert (messages(page), page.event_id, page.more) == (["2", "3", "4"], ids[3], True)
    page = await store.read_before("session", ids[1], limit=3)
    assert (messages(page), page.more, page.finished) == (["1"], False, False)
    assert (await store.read_before("session", ids[0])).items == ()


async def test_a_place_from_before_leads_on(store: Store) -> None:
    ids = await fill(store, "session", "1", 6)
    page = await store.read_before("session", ids[3], limit=2)
    assert messages(await store.read("session", after=page.event_id)) == ["4", "5", "6"]


async def test_the_recent_events_are_the_newest_in_order(store: Store) -> None:
    await fill(store, "session", "1", 6, final=True)
    page = await store.recent("session", "1", limit=2)
    assert (messages(page), page.more, page.finished) == (["5", "6"], True, True)
    page = await store.recent("session", "1")
    assert (len(page.items), page.more) == (6, False)


async def test_looking_back_keeps_to_the_bytes_of_a_page(database: Database) -> None:
    store = await database.open(page_bytes=100)
    ids = await store.append_many("session", "1", [NewEvent("x" * size) for size in (150, 60, 30, 20)])
    page = await store.recent("session", "1")
    assert ([len(text or "") for text in messages(page)], page.more) == ([30, 20], True)
    page = await store.read_before("session", ids[1])
    assert ([len(text or "") for text in messages(page)], page.more) == ([150], False)


async def test_looking_back_refuses_what_reading_on_refuses(store: Store) -> None:
    ids = await fill(store, "session", "1", 3)
    with pytest.raises(StreamNotFound):
        await store.recent("session", "2")
    with pytest.raises(UnknownEvent):
        await store.read_before("other", ids[2])
    for limit in (0, -1):
        with pytest.raises(InvalidInput, match="limit"):
            await store.recent("session", "1", limit=limit)


async def test_looking_back_says_that_the_session_was_closed(store: Store) -> None:
    await store.sessions.create("session")
    ids = await fill(store, "session", "1", 2)
    await store.sessions.close("session")
    assert (await store.recent("session", "1")).closed
    assert (await store.read_before("session", ids[1])).closed


# Streams


async def test_what_is_known_of_a_stream(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    created = clock.time
    ids = await store.append_many("session", "1", [NewEvent(None), NewEvent("äö"), NewEvent("c")])
    last = clock.advance(seconds=5)
    ids.append(await store.append("session", "1", "four"))
    clock.advance(seconds=5)
    info = await store.stream("session", "1")
    assert (info.stream_id, info.count, info.size) == ("1", 4, 9)
    assert (info.first_event_id, info.last_event_id, info.last_sequence) == (ids[0], ids[3], 4)
    assert (info.created_at, info.last_activity_at) == (created, last)
    assert (info.finished, info.claimed) == (False, False)
    assert {event_id.split(".")[0] for event_id in ids} == {info.stream_key}


async def test_a_stream_knows_what_is_left_and_how_far_it_came(store: Store) -> None:
    ids = await fill(store, "session", "1", 4, final=True)
    await store.delete_before("session", ids[2])
    info = await store.stream("session", "1")
    assert (info.count, info.size, info.last_sequence, info.finished) == (2, 2, 4, True)
    assert (info.first_event_id, info.last_event_id) == (ids[2], ids[3])


async def test_the_streams_of_a_session_are_listed(store: Store) -> None:
    names = {str(n) for n in range(150)}
    await asyncio.gather(*(store.append("session", name, "x") for name in names))
    await store.append("other", "not mine", "x")
    listed = [info async for info in store.streams("session")]
    assert len(listed) == len(names)
    assert {info.stream_id for info in listed} == names
    assert {info.count for info in listed} == {1}


async def test_a_stream_that_never_was_is_not_found(store: Store) -> None:
    await store.append("other", "1", "x")
    with pytest.raises(StreamNotFound):
        await store.read("session", stream_id="1")
    with pytest.raises(StreamNotFound):
        await store.stream("session", "1")
    assert [info async for info in store.streams("session")] == []


# Removing


async def test_what_comes_before_an_event_is_deleted(store: Store) -> None:
    ids = await fill(store, "session", "1", 5)
    assert await store.delete_before("session", ids[3]) == 3
    assert messages(await store.read("session", stream_id="1")) == ["4", "5"]
    assert messages(await store.recent("session", "1")) == ["4", "5"]
    assert await store.delete_before("session", ids[3]) == 0


async def test_history_is_lost_below_what_was_deleted_but_not_at_its_edge(store: Store) -> None:
    ids = await fill(store, "session", "1", 5)
    await store.delete_before("session", ids[3])
    for lost in ids[:2]:
        with pytest.raises(HistoryLost):
            await store.read("session", after=lost)
    assert messages(await store.read("session", after=ids[2])) == ["4", "5"]


async def test_only_events_of_the_session_are_deleted(store: Store) -> None:
    ids = await fill(store, "session", "1", 2)
    with pytest.raises(UnknownEvent):
        await store.delete_before("other", ids[1])
    await store.append("session", "2", "x")
    assert await store.delete_before("session", ids[1]) == 1
    assert messages(await store.read("session", stream_id="2")) == ["x"]


async def test_a_long_history_is_deleted_whole(store: Store) -> None:
    ids = await fill(store, "session", "1", 2600)
    assert await store.delete_before("session", ids[-1]) == 2599
    assert (await store.stream("session", "1")).count == 1


async def test_the_events_of_a_session_are_deleted_and_the_session_stays(store: Store) -> None:
    await store.sessions.create("session")
    await store.state("session").set("key", 1)
    ids = await fill(store, "session", "1", 3)
    await fill(store, "session", "2", 2, final=True)
    await store.append("other", "1", "x")
    assert tuple(await store.delete_events("session")) == (0, 2, 5, 0)
    assert (await store.sessions.get("session")).status == "open"
    assert await store.state("session").get("key") == 1
    assert messages(await store.read("other", stream_id="1")) == ["x"]
    with pytest.raises(UnknownEvent):
        await store.read("session", after=ids[0])
    assert [info async for info in store.streams("session")] == []


async def test_events_that_follow_a_deletion_have_new_ids(store: Store) -> None:
    old = await fill(store, "session", "1", 2)
    await store.delete_events("session")
    new = await fill(store, "session", "1", 2)
    assert not set(old) & set(new)
    with pytest.raises(UnknownEvent):
        await store.read("session", after=old[0])
    assert messages(await store.read("session", after=new[0])) == ["2"]


# Concurrency


async def test_concurrent_writers_of_two_nodes_share_a_stream_without_hole_or_double(shared_database: Database) -> None:
    nodes = [await shared_database.open() for _ in range(2)]

    async def write(node: int, writer: int) -> list[str]:
        return [await nodes[node].append("session", "1", f"{node}.{writer}.{n}") for n in range(10)]

    written = await asyncio.gather(*(write(node, writer) for node in range(2) for writer in range(10)))
    items = await to_the_end(nodes[0], "session", stream_id="1")
    assert [item.sequence for item in items if not isinstance(item, Gap)] == list(range(1, 201))
    place = {item.event_id: index for index, item in enumerate(items) if not isinstance(item, Gap)}
    for ids in written:
        assert [place[event_id] for event_id in ids] == sorted(place[event_id] for event_id in ids)


async def test_calls_that_are_begun_in_an_order_are_stored_in_it(store: Store) -> None:
    calls = [asyncio.ensure_future(store.append("session", "1", str(n))) for n in range(300)]
    await asyncio.gather(*calls)
    items = await to_the_end(store, "session", stream_id="1")
    assert [item.message for item in items if not isinstance(item, Gap)] == [str(n) for n in range(300)]


async def test_a_message_that_cannot_be_stored_fails_alone(database: Database) -> None:
    store = await database.open(max_message_bytes=10)
    calls = [store.append("session", "1", "x" * size) for size in (5, 11, 10)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, TooLarge) for result in results] == [False, True, False]
    assert messages(await store.read("session", stream_id="1")) == ["x" * 5, "x" * 10]
