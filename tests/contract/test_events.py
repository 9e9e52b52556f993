"""Events: what is appended is read, once, in order, by its session alone."""

from mcp_persist_sa.store import Store


async def test_what_is_appended_is_read(store: Store) -> None:
    ids = [await store.append("session", "1", f'{{"n":{n}}}') for n in range(3)]
    page = await store.read("session", stream_id="1")
    assert [event.event_id for event in page.events] == ids
    assert [event.message for event in page.events] == ['{"n":0}', '{"n":1}', '{"n":2}']
