"""Steps that read events: from any id that was ever seen, by stream, backwards, and page by page."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import rule

from mcp_persist_sa import Gap, HistoryLost, Page, StreamInfo, StreamNotFound
from tests.stateful import strategies as given
from tests.stateful.base import WHERE, At, Base
from tests.stateful.checks import check_back, check_info, check_page
from tests.stateful.history import Known, Refusal, Stream
from tests.stateful.model import Holding
from tests.stateful.roles import Reader, Seen

LIMIT = st.sampled_from([1, 2, 3, 100])
Found = tuple[Stream, list[Known | Gap]]
"""A stream, and what of it is expected."""


class Reading(Base):
    """Whoever reads."""

    # Forwards

    def _following(self, holding: Holding, event_id: str) -> Found:
        stream, sequence = holding.place(event_id)
        return stream, stream.items(sequence, holding.oldest)

    def _beginning(self, holding: Holding, stream_id: str) -> Found:
        stream = holding.find(stream_id)
        return stream, stream.items(stream.beginning(holding.oldest), holding.oldest)

    def _check(self, holding: Holding) -> Callable[[Page, Found], None]:
        return lambda page, found: check_page(page, *found, self.rules_kept, closed=holding.closed)

    @rule(where=WHERE, seen=given.IDS, how=given.FORGERY)
    def read_after(self, where: int, seen: Seen, how: str) -> None:
        place, event_id = self.near(seen.where, where), given.FORGERIES[how](seen.event_id)
        holding = place.space[seen.session_id]
        work = place.store.read(seen.session_id, after=event_id)
        answered = self.compare(lambda: self._following(holding, event_id), work, self._check(holding))
        assert not answered or how == given.AS_IT_IS

    @rule(where=WHERE, session=given.SESSIONS, seen=given.IDS)
    def read_what_may_be_of_another_session(self, where: int, session: str, seen: Seen) -> None:
        """Or of another namespace."""
        place = self.at(where)
        holding = place.space[session]
        work = place.store.read(session, after=seen.event_id)
        self.compare(lambda: self._following(holding, seen.event_id), work, self._check(holding))

    @rule(where=WHERE, session=given.SESSIONS, stream=given.STREAMS)
    def read_stream(self, where: int, session: str, stream: str) -> None:
        place = self.at(where)
        holding = place.space[session]
        work = place.store.read(session, stream_id=stream)
        self.compare(lambda: self._beginning(holding, stream), work, self._check(holding))

    @rule(where=WHERE, seen=given.IDS)
    def read_to_the_end(self, where: int, seen: Seen) -> None:
        """Page by page, all that follows."""
        place = self.near(seen.where, where)
        holding = place.space[seen.session_id]

        def check(pages: list[Page], found: Found) -> None:
            stream, rest = found
            for page in pages:
                check_page(page, stream, rest, self.rules_kept, closed=holding.closed)
                rest = rest[len(page.items) :]
            assert not rest

        work = self.pages(place.store, seen.session_id, after=seen.event_id)
        self.compare(lambda: self._following(holding, seen.event_id), work, check)

    # Clients that go on from where they were

    @rule(target=given.READERS, where=WHERE, session=given.SESSIONS, stream=given.STREAMS)
    def begin_to_read(self, where: int, session: str, stream: str) -> Reader:
        reader = Reader(where, session, stream)
        self._read_on(reader, self.at(where))
        return reader

    @rule(reader=given.READERS, where=WHERE)
    def read_on(self, reader: Reader, where: int) -> None:
        """A page more, at this node or another."""
        self._read_on(reader, self.near(reader.where, where))

    def _read_on(self, reader: Reader, place: At) -> None:
        holding, last = place.space[reader.session_id], reader.last

        def check(page: Page, found: Found) -> None:
            assert reader.stream in (None, found[0])
            self._check(holding)(page, found)
            if page.event_id is not None:
                reader.stream, reader.last = found[0], page.event_id

        if last is None:
            work = place.store.read(reader.session_id, stream_id=reader.stream_id)
            self.compare(lambda: self._beginning(holding, reader.stream_id), work, check)
        else:
            work = place.store.read(reader.session_id, after=last)
            self.compare(lambda: self._following(holding, last), work, check)

    # Backwards

    @rule(where=WHERE, seen=given.IDS, how=given.FORGERY, limit=LIMIT)
    def read_before(self, where: int, seen: Seen, how: str, limit: int) -> None:
        place, event_id = self.near(seen.where, where), given.FORGERIES[how](seen.event_id)
        holding = place.space[seen.session_id]

        def check(page: Page, found: tuple[Stream, int]) -> None:
            check_back(page, *found, limit, holding.oldest, self.rules_kept.page_bytes)
            assert page.closed is holding.closed

        work = place.store.read_before(seen.session_id, event_id, limit=limit)
        if self._is_lost(holding, event_id):
            outcome = self.attempt(work)
            assert type(outcome) is HistoryLost or (isinstance(outcome, Page) and not outcome.items), outcome
        else:
            self.compare(lambda: holding.place(event_id), work, check)

    def _is_lost(self, holding: Holding, event_id: str) -> bool:
        """Whether it was an event of the session, and is gone."""
        try:
            stream, sequence = holding.place(event_id)
        except Refusal:
            return False
        return sequence <= stream.beginning(holding.oldest)

    @rule(where=WHERE, session=given.SESSIONS, stream=given.STREAMS, limit=LIMIT)
    def read_recent(self, where: int, session: str, stream: str, limit: int) -> None:
        place = self.at(where)
        holding = place.space[session]

        def check(page: Page, found: Stream) -> None:
            check_back(page, found, None, limit, holding.oldest, self.rules_kept.page_bytes)
            assert page.finished is found.finished
            assert page.closed is holding.closed

        work = place.store.recent(session, stream, limit=limit)
        self.compare(lambda: holding.find(stream), work, check)

    # What is known of streams

    @rule(where=WHERE, session=given.SESSIONS, stream=given.STREAMS)
    def look_at_streams(self, where: int, session: str, stream: str) -> None:
        place = self.at(where)
        holding = place.space[session]

        def expect() -> Stream:
            try:
                return holding.find(stream)
            except Refusal as refusal:
                raise Refusal(StreamNotFound, *refusal.kinds) from None

        def check(info: StreamInfo, found: Stream) -> None:
            check_info(info, found, holding)

        self.compare(expect, place.store.stream(session, stream), check)
        if holding.over:
            assert self.attempt(self.stream_list(place.store, session)) == []
        else:
            self.audit_streams(place, session, holding)
