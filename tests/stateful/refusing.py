"""Steps in which something must be refused, whatever the store holds. Nothing of it may leave a trace."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from mcp_persist_sa import InvalidInput, NewEvent, PersistError, SessionNotFound, Store, TooLarge, UnknownEvent
from tests.stateful import strategies as given
from tests.stateful.base import WHERE, Base

Call = Callable[[Store], Coroutine[Any, Any, Any]]
_LOST = (UnknownEvent, SessionNotFound)
_EVENT = NewEvent("{}")
_TOO_MUCH = "x" * given.MAX_STATE


def _bad_message(session: str, message: given.Message, at: int) -> Call:
    events = [_EVENT, _EVENT]
    events.insert(at, message.event())
    return lambda store: store.append_many(session, "1", events)


async def _state(store: Store, session: str) -> None:
    await store.state(session).get("k")


def _on_session(session: str) -> list[Call]:
    return [
        lambda store: store.append(session, "1", "{}"),
        lambda store: store.read(session, stream_id="1"),
        lambda store: store.stream(session, "1"),
        lambda store: store.delete_events(session),
        lambda store: store.sessions.create(session),
        lambda store: store.sessions.get(session),
        lambda store: store.sessions.touch(session),
        lambda store: store.sessions.close(session),
        lambda store: store.sessions.delete(session),
        lambda store: _state(store, session),
    ]


def _on_stream(stream: str) -> list[Call]:
    return [
        lambda store: store.append("s", stream, "{}"),
        lambda store: store.read("s", stream_id=stream),
        lambda store: store.recent("s", stream),
        lambda store: store.stream("s", stream),
    ]


def _on_place(event_id: str) -> list[Call]:
    return [
        lambda store: store.read("s", after=event_id),
        lambda store: store.read_before("s", event_id),
        lambda store: store.delete_before("s", event_id),
    ]


def _on_fields(fields: dict[str, Any]) -> list[Call]:
    return [
        lambda store: store.sessions.create("s", **fields),
        lambda store: store.sessions.create(**fields),
        lambda store: store.sessions.update("s", **fields),
    ]


def _on_key(key: str) -> list[Call]:
    return [
        lambda store: store.state("s").get(key),
        lambda store: store.state("s").set(key, 1),
        lambda store: store.state("s").delete(key),
        lambda store: store.state("s").compare_and_set(key, 1, version=0),
    ]


def _on_value(value: Any) -> list[Call]:
    return [
        lambda store: store.state("s").set("k", value),
        lambda store: store.state("s").compare_and_set("k", value, version=0),
        lambda store: store.state("s").update("k", lambda _: value),
    ]


def _on_owner(name: str) -> list[Call]:
    return [
        lambda store: store.sessions.delete_owner(name),
        lambda store: store.sessions.list(owner=name),
        lambda store: store.sessions.count(tenant=name),
    ]


_WRONG_CALLS: list[Call] = [
    lambda store: store.append_many("s", "1", []),
    lambda store: store.append_many("s", "1", [_EVENT._replace(final=True), _EVENT]),
    lambda store: store.read("s"),
    lambda store: store.read("s", after="x", stream_id="1"),
    lambda store: store.sessions.list(limit=0),
    lambda store: store.sessions.list(status="gone"),  # type: ignore[arg-type]
    lambda store: store.sessions.update("s", expires_at=None),
    lambda store: store.state("s").compare_and_set("k", 1, version=-1),
]
_NO_PAGES = ["", "x", "\0", "2030-01-01", "2030-01-01 x", "2030-01-01T00:00:00+00:00 \ud800", "\ud800"]


class Refusing(Base):
    """Whoever does it wrong."""

    def _all_refused(self, where: int, calls: list[Call], *kinds: type[PersistError]) -> None:
        for call in calls:
            self.refused(call(self.at(where).store), *kinds)

    @rule(
        where=WHERE,
        which=st.one_of(
            st.tuples(st.just("message"), given.BAD_MESSAGES),
            st.tuples(st.just("session"), given.BAD_SESSIONS),
            st.tuples(st.just("stream"), given.BAD_STREAMS),
            st.tuples(st.just("place"), given.MALFORMED),
            st.tuples(st.sampled_from(["owner", "protocol_version", "key", "filter"]), given.BAD_NAMES),
            st.tuples(st.sampled_from(["client_info", "metadata", "value"]), given.NO_JSON),
            st.tuples(st.sampled_from(["size", "call"]), st.none()),
        ),
    )
    def refuse(self, where: int, which: tuple[str, Any]) -> None:
        what, bad = which
        calls: dict[str, Callable[[], list[Call]]] = {
            "session": lambda: _on_session(bad),
            "stream": lambda: _on_stream(bad),
            "key": lambda: _on_key(bad),
            "filter": lambda: _on_owner(bad),
            "value": lambda: _on_value(bad),
            "call": lambda: [
                *_WRONG_CALLS,
                *(lambda store, page=page: store.sessions.list(after=page) for page in _NO_PAGES),
            ],
        }
        if what == "message":
            kind = TooLarge if bad.filling else InvalidInput
            self._all_refused(where, [_bad_message("s", bad, at) for at in range(3)], kind)
        elif what == "place":
            self._all_refused(where, _on_place(bad), *_LOST)
        elif what == "size":
            self._all_refused(where, _on_fields({"handshake": _TOO_MUCH}) + _on_value(_TOO_MUCH), TooLarge)
        elif what in calls:
            self._all_refused(where, calls[what](), InvalidInput)
        else:
            self._all_refused(where, _on_fields({what: {"a": bad} if what == "metadata" else bad}), InvalidInput)
