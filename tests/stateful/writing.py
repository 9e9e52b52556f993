"""Steps that append to streams to which anyone may append: together, at once, and giving up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, multiple, precondition, rule

from mcp_persist_sa import NewEvent
from tests.stateful import strategies as given
from tests.stateful.base import WHERE, At, Base
from tests.stateful.history import Refusal, Span, parts
from tests.stateful.model import Holding
from tests.stateful.roles import Seen
from tests.stateful.strategies import Message

Group = tuple[At, list[NewEvent]]
"""Events that are appended in one call, and at which store."""


def events_of(messages: Sequence[Message], final: bool) -> list[NewEvent]:
    """The messages as events, the last of which may be final."""
    return [message.event(final and n == len(messages)) for n, message in enumerate(messages, 1)]


class Writing(Base):
    """Whoever appends to a shared stream."""

    def _append(self, where: int, session: str, stream: str, events: list[NewEvent]) -> MultipleResults[Seen]:
        place, seen = self.at(where), [Seen(where, session) for _ in events]
        holding = place.space[session]

        def check(ids: list[str], _: object) -> None:
            self._note(holding, stream, events, ids, self.span)
            seen[:] = [Seen(where, session, event_id) for event_id in ids]

        self.compare(lambda: holding.shared(stream), place.store.append_many(session, stream, events), check)
        self.observe_limits(place, session)
        return multiple(*seen)

    def _note(self, holding: Holding, stream: str, events: list[NewEvent], ids: list[str], span: Span) -> None:
        self.new_ids(ids)
        assert len(ids) == len(events)
        holding.appended(stream, ids, events, span)

    @rule(target=given.IDS, where=WHERE, messages=given.SOME)
    def append(self, where: int, messages: list[Message]) -> MultipleResults[Seen]:
        return self._append(where, "s", "1", events_of(messages, False))

    @rule(
        target=given.IDS,
        where=WHERE,
        session=given.SESSIONS | given.FRESH,
        stream=given.STREAMS,
        messages=given.MANY,
        final=given.SELDOM,
    )
    def append_anywhere(
        self, where: int, session: str, stream: str, messages: list[Message], final: bool
    ) -> MultipleResults[Seen]:
        return self._append(where, session, stream, events_of(messages, final))

    # At once. Not where there are limits: which of two nodes' events is the newer one is not known.

    @precondition(lambda self: not self.rules_kept.limited)
    @rule(
        target=given.IDS,
        session=given.SESSIONS,
        stream=given.STREAMS,
        groups=st.lists(st.tuples(WHERE, given.SOME), min_size=2, max_size=4),
        final=st.sampled_from([None, None, 0, 1]),
    )
    def append_at_once(
        self, session: str, stream: str, groups: list[tuple[int, list[Message]]], final: int | None
    ) -> MultipleResults[Seen]:
        """In whatever order they come: no group is torn, and what follows a final event is a new stream."""
        work = [(self.at(where), events_of(messages, n == final)) for n, (where, messages) in enumerate(groups)]
        outcomes: Any = self.attempt(self._all(session, stream, work))
        for space in {place.space for place, _ in work}:
            mine = [(events, outcomes[n]) for n, (place, events) in enumerate(work) if place.space is space]
            self._note_all(space[session], stream, mine)
        seen = list[Seen]()
        for (where, messages), ids in zip(groups, outcomes, strict=True):
            stored = isinstance(ids, list)
            seen += [Seen(where, session, *ids[n : n + 1] if stored else ()) for n in range(len(messages))]
        return multiple(*seen)

    async def _all(self, session: str, stream: str, work: list[Group]) -> list[list[str] | BaseException]:
        calls = [place.store.append_many(session, stream, events) for place, events in work]
        return await asyncio.gather(*calls, return_exceptions=True)

    def _note_all(self, holding: Holding, stream: str, work: list[tuple[list[NewEvent], Any]]) -> None:
        try:
            present = holding.shared(stream)
        except Refusal as refusal:
            if not {type(outcome) for _, outcome in work} <= refusal.kinds:
                raise AssertionError(work) from refusal
            return
        assert not any(isinstance(outcome, BaseException) for _, outcome in work), work
        ending = {parts(ids[0])[0] for events, ids in work if events[-1].final}

        def order(group: tuple[list[NewEvent], list[str]]) -> tuple[bool, bool, int]:
            key, sequence = parts(group[1][0])
            return present is None or key != present.key, key not in ending, sequence

        for events, ids in sorted(work, key=order):
            self._note(holding, stream, events, ids, self.span)

    @precondition(lambda self: not self.rules_kept.limited)
    @rule(
        target=given.IDS,
        where=WHERE,
        session=given.SESSIONS,
        messages=st.tuples(given.MESSAGES, given.MESSAGES),
        patience=st.sampled_from([0, 1, 2, 3, 5, 8, 13]),
    )
    def append_and_give_up(self, where: int, session: str, messages: tuple[Message, Message], patience: int) -> Seen:
        """The event of a caller who was cancelled is there once or not at all, and whole if it is."""
        place = self.at(where)
        holding = place.space[session]
        given_up, following = events_of(messages, False)
        present = holding.open_stream("1")
        if holding.over or (present is not None and present.claimed):
            return Seen(where, session)
        last = max(present.events) if present is not None else 0
        event_id = self.run(self._give_up(place, session, given_up, following, patience))
        span, ids, events = self.span, [event_id], [following]
        if parts(event_id)[1] == last + 2:
            page = self.run(place.store.read_before(session, event_id, limit=1))
            ids, events = [page.events[0].event_id, event_id], [given_up, following]
        self._note(holding, "1", events, ids, span)
        return Seen(where, session, event_id)

    async def _give_up(self, place: At, session: str, event: NewEvent, following: NewEvent, patience: int) -> str:
        call = asyncio.ensure_future(place.store.append(session, "1", event.message))
        for _ in range(patience):
            await asyncio.sleep(0)
        call.cancel()
        event_id = await place.store.append(session, "1", following.message)
        await asyncio.wait({call})
        return event_id
