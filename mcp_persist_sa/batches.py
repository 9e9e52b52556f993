"""What a writer hands to a backend at once, and what it is told of it."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where a group of events was stored."""

    stream_key: str
    first_sequence: int


class Claim(NamedTuple):
    """That a stream has one writer, which numbers its events itself.

    Attributes:
        stream_key: Of the stream.
        node_id: The node that writes, or None if nobody is to look after it.
        will: The message that ends the stream if that node dies.
    """

    stream_key: str
    node_id: str | None = None
    will: str | None = None


class Arrival(NamedTuple):
    """An event that has not been stored yet.

    Attributes:
        message: JSON text, or None for a priming event.
        final: Whether it ends its stream.
        nonce: By which a backend knows an event that it has stored already.
        size: The bytes of the message.
    """

    message: str | None
    final: bool
    nonce: str
    size: int


class Append(NamedTuple):
    """Events of one stream that are to be stored together, in order.

    Attributes:
        session_key: Of the session.
        stream_id: Escaped.
        events: At least one; none but the last is final.
        size: The bytes of all messages.
        claim: None for a stream to which anyone may append: the backend gives the numbers.
        place: In a claimed stream, where they belong.
        opening: In a claimed stream, whether no events of it were handed over before.
    """

    session_key: str
    stream_id: str
    events: tuple[Arrival, ...]
    size: int
    claim: Claim | None = None
    place: Place | None = None
    opening: bool = False


class Gate(NamedTuple):
    """Lets a batch through once.

    Attributes:
        writer_id: Who sends it.
        batch_number: Greater than that of each batch that this writer has sent before.
    """

    writer_id: str
    batch_number: int
