"""Steps that follow a stream while others write, and the check that whoever follows gets everything, once."""

from __future__ import annotations

from typing import Any

from hypothesis.stateful import invariant, precondition, rule

from mcp_persist_sa import HistoryLost, PersistError, SessionNotFound, UnknownEvent
from tests.stateful import strategies as given
from tests.stateful.base import WHERE, At, Base
from tests.stateful.checks import check_items
from tests.stateful.history import Refusal, parts
from tests.stateful.roles import Follower, Seen

MOST = 2
"""How many follow at a time."""


class Following(Base):
    """Tails. Where there are limits there are none: how much a tail sees before it is trimmed is a matter of time."""

    @precondition(lambda self: not self.rules_kept.limited)
    @rule(where=WHERE, session=given.SESSIONS, stream=given.STREAMS)
    def follow_a_stream(self, where: int, session: str, stream: str) -> None:
        """From its beginning, or from when it begins."""
        place = self.at(where)
        holding = place.space[session]
        present = holding.named(stream)
        begun = present is not None and (present.finished or bool(present.visible(holding.oldest)))
        follower = Follower(holding, stream, present if begun else None, 0)
        if present is not None and begun:
            follower.position = present.beginning(holding.oldest)
        self._follow(place, session, follower, stream_id=stream)

    @precondition(lambda self: not self.rules_kept.limited)
    @rule(where=WHERE, seen=given.IDS)
    def follow_from_an_event(self, where: int, seen: Seen) -> None:
        place = self.near(seen.where, where)
        holding = place.space[seen.session_id]
        try:
            stream, position = holding.place(seen.event_id)
            stream.items(position, holding.oldest)
        except Refusal as refusal:
            self.refused(self._first(place, seen), *refusal.kinds)
            return
        self._follow(place, seen.session_id, Follower(holding, None, stream, position), after=seen.event_id)

    async def _first(self, place: At, seen: Seen) -> None:
        async for item in place.store.tail(seen.session_id, after=seen.event_id):
            raise AssertionError(item)

    def _follow(self, place: At, session: str, follower: Follower, **where: Any) -> None:
        if len(self.followers) == MOST:
            self.run(self.followers.pop(0).stop())
        self.run(follower.start(place.store.tail(session, **where)))
        self.followers.append(follower)

    @invariant()
    def followers_have_everything(self) -> None:
        """Wait until each has what the model says that it gets."""
        followers, self.followers = self.followers, []
        for follower in followers:
            if self._goes_on(follower):
                self.followers.append(follower)

    def _goes_on(self, follower: Follower) -> bool:
        holding = follower.holding
        if follower.stream is None:
            return self._waits(follower)
        if holding.over:
            return self._ends(follower, SessionNotFound)
        if follower.stream.gone:
            # A deletion closes the session, removes the events and then the streams, and a tail may look in between.
            return self._ends(follower, UnknownEvent, HistoryLost, type(None))
        expected = follower.stream.items(follower.position, holding.oldest)
        self.run(follower.reach(follower.taken + len(expected)))
        check_items(follower.items[follower.taken :], expected)
        follower.taken = len(follower.items)
        follower.position = max([follower.position, *(item.sequence for item in follower.events)])
        if follower.stream.finished or holding.closed:
            return self._ends(follower, type(None))
        assert not follower.task.done(), follower.error
        return True

    def _waits(self, follower: Follower) -> bool:
        """The same, for a stream that had not begun."""
        holding = follower.holding
        if holding.over:
            return self._ends(follower, SessionNotFound)
        if follower.is_forgotten:
            self.run(follower.stop())
            return False
        candidates = [stream for stream in holding.streams if stream.stream_id == follower.stream_id]
        if any(stream.visible(holding.oldest) for stream in candidates):
            self.run(follower.reach(1))
            assert follower.items, follower.error
            key = parts(follower.events[0].event_id)[0]
            follower.stream = next(stream for stream in candidates if stream.key == key)
            follower.position = follower.stream.beginning(holding.oldest)
            return self._goes_on(follower)
        if holding.closed:
            return self._ends(follower, type(None))
        assert not follower.items
        follower.look()
        return True

    def _ends(self, follower: Follower, *kinds: type[PersistError] | type[None]) -> bool:
        self.run(follower.end())
        assert type(follower.error) in kinds, follower.error
        assert len(follower.items) == follower.taken
        return False
