"""Steps of those who claim a stream and number its events themselves."""

from __future__ import annotations

import asyncio

from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, multiple, rule

from mcp_persist_sa import InvalidInput, NewEvent, PersistError, Receipt, StreamClaimed, TooLarge
from tests.stateful import strategies as given
from tests.stateful.base import WHERE, Base
from tests.stateful.history import parts
from tests.stateful.roles import Writer
from tests.stateful.strategies import Message
from tests.stateful.writing import events_of


class Claiming(Base):
    """Writers of streams of their own."""

    @rule(target=given.WRITERS, where=WHERE, session=given.SESSIONS, stream=given.STREAMS)
    def claim(self, where: int, session: str, stream: str) -> Writer:
        return Writer(self.at(where).store.claim(session, stream), where, session, stream)

    @rule(target=given.IDS, writer=given.WRITERS, messages=given.SOME, final=given.SELDOM)
    def write(self, writer: Writer, messages: list[Message], final: bool) -> MultipleResults[str]:
        """Hand over some events without waiting, and then wait for each."""
        return multiple(*self._write(writer, events_of(messages, final)))

    @rule(
        target=given.IDS,
        where=WHERE,
        session=given.SESSIONS,
        stream=given.STREAMS,
        messages=given.SOME,
        final=st.booleans(),
    )
    def claim_and_write(
        self, where: int, session: str, stream: str, messages: list[Message], final: bool
    ) -> MultipleResults[str]:
        writer = Writer(self.at(where).store.claim(session, stream), where, session, stream)
        return multiple(*self._write(writer, events_of(messages, final)))

    def _write(self, writer: Writer, events: list[NewEvent]) -> list[str]:
        if writer.finished:
            self.refused(self._hand_over(writer, events), PersistError)
            return []
        may_write = self._may_write(writer)
        receipts = self.attempt(self._hand_over(writer, events))
        assert isinstance(receipts, list)
        writer.finished = events[-1].final
        ids = [receipt.event_id for receipt in receipts]
        self.new_ids(ids)
        self._check_places(writer, ids)
        if may_write:
            self._note(writer, receipts, events)
        else:
            for receipt in receipts:
                self.refused(receipt.durable(), StreamClaimed)
            assert not any(receipt.stored for receipt in receipts)
        return ids

    def _may_write(self, writer: Writer) -> bool:
        """Whether the stream is its own, or free if it comes to it for the first time."""
        if writer.stream is not None:
            return not writer.stream.gone
        free = self.at(writer.where).space[writer.session_id].open_stream(writer.stream_id) is None
        writer.refused = writer.refused or not free
        return not writer.refused

    async def _hand_over(self, writer: Writer, events: list[NewEvent]) -> list[Receipt]:
        receipts = [writer.claim.append(event.message, final=event.final) for event in events]
        await asyncio.gather(*(receipt.durable() for receipt in receipts), return_exceptions=True)
        return receipts

    def _check_places(self, writer: Writer, ids: list[str]) -> None:
        """Numbers follow one another; only a message that was refused may have used up one."""
        first = parts(ids[0])[1]
        assert writer.given < first <= writer.given + 1 + writer.skipped
        assert [parts(event_id)[1] for event_id in ids] == [*range(first, first + len(ids))]
        writer.given, writer.skipped = first + len(ids) - 1, 0

    def _note(self, writer: Writer, receipts: list[Receipt], events: list[NewEvent]) -> None:
        place, ids = self.at(writer.where), [receipt.event_id for receipt in receipts]
        for receipt in receipts:
            assert self.attempt(receipt.durable()) == receipt.event_id
            assert receipt.stored
        holding = place.space[writer.session_id]
        holding.appended(writer.stream_id, ids, events, self.handed_over, claimed=True)
        writer.stream = next(stream for stream in holding.streams if stream.key == parts(ids[0])[0])
        self.observe_limits(place, writer.session_id)

    @rule(writer=given.WRITERS, bad=given.BAD_MESSAGES, final=st.booleans())
    def write_what_cannot_be_stored(self, writer: Writer, bad: Message, final: bool) -> None:
        """Nothing is written, and the stream goes on."""
        if writer.finished:
            return
        try:
            writer.claim.append(bad.event().message, final=final)
        except InvalidInput as error:
            assert type(error) is (TooLarge if bad.filling else InvalidInput)
            writer.skipped += 1
        else:
            raise AssertionError("It was accepted.")

    @rule(target=given.IDS, writer=given.WRITERS, messages=given.SOME, how=st.sampled_from(["claim", "append"]))
    def hand_on(self, writer: Writer, messages: list[Message], how: str) -> MultipleResults[str]:
        """End a stream, and begin the next of that name, without waiting in between."""
        if writer.finished or not self._may_write(writer):
            return multiple()
        place, events = self.at(writer.where), events_of(messages, False)
        last = NewEvent("null", final=True)
        heir = Writer(
            place.store.claim(writer.session_id, writer.stream_id), writer.where, writer.session_id, writer.stream_id
        )
        if how == "claim":
            pass
        return multiple()
