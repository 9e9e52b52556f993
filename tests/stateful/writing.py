"""Steps that append to streams to which anyone may append: together, at once, and giving up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, multiple, precondition, rule

from mcp_persist_sa import InvalidInput, NewEvent, TooLarge
from tests.stateful import strategies as given
from tests.stateful.base import WHERE, At, Base
from tests.stateful.history import Refusal, Span, parts
from tests.stateful.model import Holding
from tests.stateful.strategies import Message

Group = tuple[At, list[NewEvent]]
"""Events that are appended in one call, and at which store."""


def events_of(messages: Sequence[Message], final: bool) -> list[NewEvent]:
    """The messages as events, the last of which may be final."""
    return [message.event(final and n == len(messages)) for n, message in enumerate(messages, 1)]


class Writing(Base):
    """Whoever appends to a shared stream."""

    big_ones = 0

    def _append(self, where: int, session: str, stream: str, events: list[NewEvent]) -> MultipleResults[str]:
        place, seen = self.at(where), [given.NO_ID] * len(events)
        holding = place.space[session]

        def check(ids: list[str], _: object) -> None:
            self._note(holding, stream, events, ids)
            seen[:] = ids

        self.compare(lambda: holding.shared(stream), place.store.append_many(session, stream, events), check)
        self.observe_limits(place, session)
        return multiple(*seen)

    def _note(
        self, holding: Holding, stream: str, events: list[NewEvent], ids: list[str], span: Span | None = None
    ) -> None:
        self.new_ids(ids)
        assert len(ids) == len(events)
        holding.appended(stream, ids, events, span or self.span)

    @rule(
        target=given.IDS,
        where=WHERE,
        session=given.SESSIONS,
        stream=given.STREAMS,
        messages=given.SOME,
        final=given.SELDOM,
    )
    def append(
        self, where: int, session: str, stream: str, messages: list[Message], final: bool
    ) -> MultipleResults[str]:
        return self._append(where, session, stream, events_of(messages, final))

    @rule(target=given.IDS, where=WHERE, session=given.FRESH, messages=given.SOME, final=given.SELDOM)
    def append_to_a_fresh_session(
        self, where: int, session: str, messages: list[Message], final: bool
    ) -> MultipleResults[str]:
        return self._append(where, session, "1", events_of(messages, final))

    @precondition(lambda self: self.big_ones < 2)
    @rule(target=given.IDS, where=WHERE, session=given.SESSIONS, before=given.MESSAGES)
    def append_a_megabyte(self, where: int, session: str, before: Message) -> MultipleResults[str]:
        self.big_ones += 1
        return self._append(where, session, "1", events_of([before, given.BIG], False))

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
    ) -> MultipleResults[str]:
        """In whatever order they come: no group is torn, and what follows a final event is a new stream."""
        work = [(self.at(where), events_of(messages, n == final)) for n, (where, messages) in enumerate(groups)]
        outcomes: Any = self.attempt(self._all(session, stream, work))
        seen = list[str]()
        for space in {place.space for place, _ in work}:
            mine = [(events, outcomes[n]) for n, (place, events) in enumerate(work) if place.space is space]
            seen += self._note_all(space[session], stream, mine)
        return multiple(*seen)

    async def _all(self, session: str, stream: str, work: list[Group]) -> list[list[str] | BaseException]:
        calls = [place.store.append_many(session, stream, events) for place, events in work]
        return await asyncio.gather(*calls, return_exceptions=True)

    def _note_all(self, holding: Holding, stream: str, work: list[tuple[list[NewEvent], Any]]) -> list[str]:
        try:
            present = holding.shared(stream)
        except Refusal as refusal:
            assert {type(outcome) for _, outcome in work} <= refusal.kinds
            return [given.NO_ID for events, _ in work for _ in events]
        assert not any(isinstance(outcome, BaseException) for _, outcome in work), work
        ending = {parts(ids[0])[0] for events, ids in work if events[-1].final}

        def order(group: tuple[list[NewEvent], list[str]]) -> tuple[bool, bool, int]:
            key, sequence = parts(group[1][0])
            return present is None or key != present.key, key not in ending, sequence

        for events, ids in sorted(work, key=order):
            self._note(holding, stream, events, ids)
        return [event_id for _, ids in work for event_id in ids]

    @precondition(lambda self: not self.rules_kept.limited)
    @rule(
        target=given.IDS,
        where=WHERE,
        session=given.SESSIONS,
        messages=st.tuples(given.MESSAGES, given.MESSAGES),
        patience=st.sampled_from([0, 1, 2, 3, 5, 8, 13]),
    )
    def append_and_give_up(
        self, where: int, session: str, messages: tuple[Message, Message], patience: int
    ) -> MultipleResults[str]:
        """The event of a caller who was cancelled is there once or not at all, and whole if it is."""
        place = self.at(where)
        holding = place.space[session]
        given_up, following = events_of(messages, False)
        if holding.over or ((present := holding.open_stream("1")) is not None and present.claimed):
            return multiple(given.NO_ID)
        last = max(present.events) if present is not None else 0
        event_id = self.attempt(self._give_up(place, session, given_up, following, patience))
        assert isinstance(event_id, str)
        span = self.span
        ids, events = [event_id], [following]
        if parts(event_id)[1] == last + 2:
            page = self.run(place.store.read_before(session, event_id, limit=1))
            ids, events = [page.events[0].event_id, event_id], [given_up, following]
        self._note(holding, "1", events, ids, span)
        return multiple(event_id)

    async def _give_up(self, place: At, session: str, event: NewEvent, following: NewEvent, patience: int) -> str:
        call = asyncio.ensure_future(place.store.append(session, "1", event.message))
        for _ in range(patience):
            await asyncio.sleep(0)
        call.cancel()
        event_id = await place.store.append(session, "1", following.message)
        await asyncio.wait({call})
        return event_id

    # What must be refused

    @rule(where=WHERE, session=given.SESSIONS, good=given.SOME, bad=given.BAD_MESSAGES, at=st.sampled_from([0, 1, -1]))
    def append_what_cannot_be_stored(
        self, where: int, session: str, good: list[Message], bad: Message, at: int
    ) -> None:
        events = events_of(good, False)
        events.insert(at if at >= 0 else len(events), bad.event())
        kind = TooLarge if bad.filling else InvalidInput
        self.refused(self.at(where).store.append_many(session, "1", events), kind)

    @rule(
        where=WHERE,
        session=given.BAD_SESSIONS,
        stream=given.BAD_STREAMS,
        which=st.sampled_from(["session", "stream", "nothing", "after final"]),
    )
    def append_in_the_wrong_way(self, where: int, session: str, stream: str, which: str) -> None:
        store, event = self.at(where).store, NewEvent("{}")
        calls = {
            "session": lambda: store.append(session, "1", "{}"),
            "stream": lambda: store.append("s", stream, "{}"),
            "nothing": lambda: store.append_many("s", "1", []),
            "after final": lambda: store.append_many("s", "1", [event._replace(final=True), event]),
        }
        self.refused(calls[which](), InvalidInput)


