"""Steps in which time passes, and in which what need not be kept is removed."""

from __future__ import annotations

from hypothesis.stateful import rule

from mcp_persist_sa import Purged
from tests.stateful import strategies as given
from tests.stateful.base import WHERE, At, Base
from tests.stateful.checks import check_purged
from tests.stateful.history import Stream
from tests.stateful.model import MARK_OF_DELETION, Holding
from tests.stateful.roles import Seen


class Retaining(Base):
    """Time, and the operator."""

    @rule(seconds=given.STEPS)
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(where=WHERE)
    def everything_is_as_it_should_be(self, where: int) -> None:
        self.audit(where)

    @rule(where=WHERE, seen=given.IDS)
    def delete_before(self, where: int, seen: Seen) -> None:
        place = self.near(seen.where, where)
        holding = place.space[seen.session_id]

        def expect() -> tuple[Stream, int]:
            stream, sequence = holding.place(seen.event_id)
            stream.items(sequence, holding.oldest)
            return stream, sequence

        def check(count: int, found: tuple[Stream, int]) -> None:
            stream, sequence = found
            least = [event for event in stream.visible(holding.oldest) if event.sequence < sequence]
            removed = stream.remove_through(max((n for n in stream.events if n < sequence), default=0))
            assert len(least) <= count <= len(removed)
            assert self.rules_kept.limited or count == len(removed)

        self.compare(expect, place.store.delete_before(seen.session_id, seen.event_id), check)

    @rule(where=WHERE, session=given.SESSIONS)
    def delete_events(self, where: int, session: str) -> None:
        place = self.at(where)
        holding = place.space[session]
        visible = sum(len(stream.visible(holding.oldest)) for stream in holding.streams)
        kept = sum(len(stream.kept) for stream in holding.streams)
        removed = self.run(place.store.delete_events(session))
        count = len(holding.streams)
        least = Purged(streams=count, events=visible if self.rules_kept.limited else kept)
        check_purged(removed, least, Purged(streams=count, events=kept))
        holding.drop_streams()

    @rule(where=WHERE)
    def purge(self, where: int) -> None:
        place = self.at(where)
        infos = self.run(place.store.purge())
        bounds = [self._purged(place, session_id, holding) for session_id, holding in place.space.holdings.items()]
        self.check_removed(infos, *bounds)
        # A second time there is nothing left to do.
        assert self.run(place.store.purge()) == Purged()

    def _purged(self, place: At, session_id: str, holding: Holding) -> tuple[Purged, Purged]:
        """Let the model remove what the store should have removed, and give the least and the most of it."""
        holding.settle_state()
        if holding.over:
            low, high = holding.wipe()
            return low._replace(sessions=1), high
        lapsed = holding.values.lapsed
        least, most = self._removed_events(holding)
        forgotten = self._forgotten(place, session_id, holding)
        holding.values.forget(self.clock() - MARK_OF_DELETION)
        return Purged(0, forgotten, least, lapsed), Purged(0, forgotten, most, lapsed)

    def _removed_events(self, holding: Holding) -> tuple[int, int]:
        over, visible, kept = holding.over_limits(), 0, 0
        for stream in holding.streams:
            through = max(stream.beginning(holding.oldest), over.get(stream.key, 0))
            visible += sum(event.sequence <= through for event in stream.visible(holding.oldest))
            kept += len(stream.remove_through(through))
        return (visible if self.rules_kept.limited else kept), kept

    def _forgotten(self, place: At, session_id: str, holding: Holding) -> int:
        """A stream without events that nobody can go on with may be forgotten once its last event has expired."""
        present = {info.stream_key for info in self.run(self.stream_list(place.store, session_id))}
        gone = [stream for stream in holding.streams if stream.key not in present]
        for stream in gone:
            stream.gone = True
            assert holding.oldest is not None
            assert stream.last.span.first <= holding.oldest
            assert stream.finished or holding.record is None
            assert not stream.kept
        holding.streams = [stream for stream in holding.streams if not stream.gone]
        return len(gone)
