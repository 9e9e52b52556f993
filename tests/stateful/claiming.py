"""Steps of those who claim a stream and number its events themselves."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, multiple, rule

from mcp_persist_sa import InvalidInput, NewEvent, PersistError, Receipt, StreamClaimed, TooLarge
from tests.stateful import strategies as given
from tests.stateful.base import WHERE, Base
from tests.stateful.history import Span, parts
from tests.stateful.roles import Seen, Writer
from tests.stateful.strategies import Message
from tests.stateful.writing import events_of


class Claiming(Base):
    """Writers of streams of their own."""

    handed_over: Span

    def _writer(self, where: int, session: str, stream: str) -> Writer:
        return Writer(self.at(where).store.claim(session, stream), where, session, stream)

    @rule(target=given.WRITERS, where=WHERE, session=given.SESSIONS, stream=given.STREAMS)
    def claim(self, where: int, session: str, stream: str) -> Writer:
        return self._writer(where, session, stream)

    @rule(target=given.IDS, writer=given.WRITERS, messages=given.SOME, final=given.SELDOM)
    def write(self, writer: Writer, messages: list[Message], final: bool) -> MultipleResults[Seen]:
        """Hand over some events without waiting, and then wait for each."""
        return multiple(*self._write(writer, events_of(messages, final)))

    @rule(
        target=given.IDS,
        where=WHERE,
        session=given.SESSIONS,
        stream=given.STREAMS,
        bad=st.none() | given.BAD_MESSAGES,
        messages=given.MANY,
        final=st.booleans(),
    )
    def claim_and_write(
        self, where: int, session: str, stream: str, bad: Message | None, messages: list[Message], final: bool
    ) -> MultipleResults[Seen]:
        writer = self._writer(where, session, stream)
        if bad is not None:
            self._write_bad(writer, bad, final)
        return multiple(*self._write(writer, events_of(messages, final)))

    @rule(writer=given.WRITERS, bad=given.BAD_MESSAGES, final=st.booleans())
    def write_what_cannot_be_stored(self, writer: Writer, bad: Message, final: bool) -> None:
        if not writer.finished:
            self._write_bad(writer, bad, final)

    def _write_bad(self, writer: Writer, bad: Message, final: bool) -> None:
        """Nothing is written, and the stream goes on."""
        try:
            writer.claim.append(bad.event().message, final=final)
        except InvalidInput as error:
            refusal = type(error)
        else:
            raise AssertionError("It was accepted.")
        assert refusal is (TooLarge if bad.filling else InvalidInput)
        writer.skipped += 1

    def _write(self, writer: Writer, events: list[NewEvent]) -> list[Seen]:
        if writer.finished:
            self.refused(self._hand_over(writer, events), PersistError)
            return [Seen(writer.where, writer.session_id) for _ in events]
        may_write = self._may_write(writer)
        writer.refused = not may_write
        receipts: Any = self.attempt(self._hand_over(writer, events))
        assert isinstance(receipts, list), receipts
        self.handed_over = self.span
        seen = self._check_places(writer, receipts, events)
        if may_write:
            self._note_claimed(writer, receipts, events)
            self.observe_limits(self.at(writer.where), writer.session_id)
        else:
            for receipt in receipts:
                self.refused(receipt.durable(), StreamClaimed)
            assert not any(receipt.stored for receipt in receipts)
        return seen

    def _may_write(self, writer: Writer) -> bool:
        """Whether the stream is its own, or free if it comes to it for the first time."""
        if writer.stream is not None:
            return not writer.stream.gone
        free = self.at(writer.where).space[writer.session_id].open_stream(writer.stream_id) is None
        return free and not writer.refused

    async def _hand_over(self, writer: Writer, events: list[NewEvent], *, wait: bool = True) -> list[Receipt]:
        receipts = [writer.claim.append(event.message, final=event.final) for event in events]
        if wait:
            await asyncio.gather(*(receipt.durable() for receipt in receipts), return_exceptions=True)
        return receipts

    def _check_places(self, writer: Writer, receipts: list[Receipt], events: list[NewEvent]) -> list[Seen]:
        """Numbers follow one another; only a message that was refused may have used up one."""
        ids = [receipt.event_id for receipt in receipts]
        self.new_ids(ids)
        first = parts(ids[0])[1]
        assert writer.given < first <= writer.given + 1 + writer.skipped
        assert [parts(event_id)[1] for event_id in ids] == [*range(first, first + len(ids))]
        writer.given, writer.skipped, writer.finished = first + len(ids) - 1, 0, events[-1].final
        return [Seen(writer.where, writer.session_id, event_id) for event_id in ids]

    def _note_claimed(self, writer: Writer, receipts: list[Receipt], events: list[NewEvent]) -> None:
        ids = [receipt.event_id for receipt in receipts]
        for receipt in receipts:
            assert self.attempt(receipt.durable()) == receipt.event_id
            assert receipt.stored
        holding = self.at(writer.where).space[writer.session_id]
        holding.appended(writer.stream_id, ids, events, self.handed_over, claimed=True)
        writer.stream = next(stream for stream in holding.streams if stream.key == parts(ids[0])[0])

    @rule(target=given.IDS, writer=given.WRITERS, messages=given.SOME, how=st.sampled_from(["claim", "append"]))
    def hand_on(self, writer: Writer, messages: list[Message], how: str) -> MultipleResults[Seen]:
        """End a stream, and begin the next of that name, without waiting in between."""
        if writer.finished or not self._may_write(writer):
            return multiple(*[Seen(writer.where, writer.session_id)] * (1 + len(messages)))
        last, events = [NewEvent("null", final=True)], events_of(messages, False)
        seen = (self._hand_on_to_one if how == "claim" else self._hand_on_to_all)(writer, last, events)
        self.observe_limits(self.at(writer.where), writer.session_id)
        return multiple(*seen)

    def _hand_on_to_one(self, writer: Writer, last: list[NewEvent], events: list[NewEvent]) -> list[Seen]:
        heir = self._writer(writer.where, writer.session_id, writer.stream_id)

        async def work() -> list[Receipt]:
            # Handing over does not wait, so the events come in this order.
            return [*await self._hand_over(writer, last, wait=False), *await self._hand_over(heir, events)]

        receipts = self.run(work())
        first = self._end(writer, receipts[:1], last)
        seen = self._check_places(heir, receipts[1:], events)
        self._note_claimed(heir, receipts[1:], events)
        return [*first, *seen]

    def _hand_on_to_all(self, writer: Writer, last: list[NewEvent], events: list[NewEvent]) -> list[Seen]:
        place = self.at(writer.where)

        async def work() -> tuple[list[Receipt], list[str]]:
            receipts = await self._hand_over(writer, last, wait=False)
            return receipts, await place.store.append_many(writer.session_id, writer.stream_id, events)

        receipts, ids = self.run(work())
        first = self._end(writer, receipts, last)
        self.new_ids(ids)
        place.space[writer.session_id].appended(writer.stream_id, ids, events, self.handed_over)
        return [*first, *(Seen(writer.where, writer.session_id, event_id) for event_id in ids)]

    def _end(self, writer: Writer, receipts: list[Receipt], last: list[NewEvent]) -> list[Seen]:
        self.handed_over = self.span
        seen = self._check_places(writer, receipts, last)
        self._note_claimed(writer, receipts, last)
        return seen
