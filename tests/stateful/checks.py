"""Comparing what the store answers with what the model expects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mcp_persist_sa import Event, Gap, Page, Purged, Session, StreamInfo
from tests.stateful.history import Known, Stream, with_gaps
from tests.stateful.model import Holding, Rules
from tests.stateful.values import same_json


def check_items(items: Sequence[Event | Gap], expected: Sequence[Known | Gap]) -> None:
    """Compare events and gaps, all of them."""
    for item, other in zip(items, expected, strict=False):
        if isinstance(item, Gap) or isinstance(other, Gap):
            assert item == other, (item, other)
        else:
            assert other.is_same(item), (item, other)
    assert len(items) == len(expected), (len(items), expected[len(items) :] or items[len(expected) :])


def check_page(page: Page, stream: Stream, expected: Sequence[Known | Gap], rules: Rules, *, closed: bool) -> None:
    """Compare a page with all that it could hold."""
    check_items(page.items, expected[: len(page.items)])
    whole = len(page.items) == len(expected)
    assert page.more or whole, "The page says that there is no more."
    assert page.events or not expected, "The page is empty, and something follows."
    assert len(page.events) <= rules.page_events
    sizes = [len(event.message.encode()) for event in page.events if event.message]
    assert len(sizes) <= 1 or sum(sizes) <= rules.page_bytes, sizes
    assert page.event_id == (page.events[-1].event_id if page.events else None)
    assert page.finished is (whole and stream.finished)
    assert page.closed is closed


def check_back(
    page: Page, stream: Stream, before: int | None, limit: int, oldest: datetime | None, page_bytes: int
) -> None:
    """Compare the newest events before a number (None: at all)."""
    known = [event for event in stream.visible(oldest) if before is None or event.sequence < before]
    size, expected = 0, list[Known]()
    for event in reversed(known[-limit:]):
        size += event.size
        if size > page_bytes and any(other.size for other in expected):
            break
        expected.insert(0, event)
    items = [*page.items]
    if items and isinstance(items[0], Gap):
        items = items[1:]
    check_items(items, with_gaps(expected[0].sequence - 1, expected) if expected else [])
    assert page.more or len(expected) == len(known)
    assert page.event_id == (expected[-1].event_id if expected else None)


def check_info(info: StreamInfo, stream: Stream, holding: Holding) -> None:
    """Compare what is known of a stream."""
    visible = stream.visible(holding.oldest)
    assert (info.stream_id, info.stream_key) == (stream.stream_id, stream.key)
    assert (info.count, info.size) == (len(visible), sum(event.size for event in visible))
    assert type(info.size) is int
    assert info.first_event_id == (visible[0].event_id if visible else None)
    assert info.last_event_id == (visible[-1].event_id if visible else None)
    assert info.last_sequence == stream.last.sequence
    assert (info.finished, info.claimed) == (stream.finished, stream.claimed)
    assert stream.created.has(info.created_at)
    assert stream.last.span.has(info.last_activity_at)


def check_session(mine: Session, expected: Session) -> None:
    assert mine == expected, (mine, expected)
    for name in ("client_info", "handshake", "metadata"):
        assert same_json(getattr(mine, name), getattr(expected, name))


def check_purged(purged: Purged, least: Purged, most: Purged) -> None:
    for name, low, count, high in zip(Purged._fields, least, purged, most, strict=True):
        assert low <= count <= high, f"{count} {name}, not {low} to {high}"
