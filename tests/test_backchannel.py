"""The parts of the back-channel, each by itself; what they do together is tested in `tests/nodes`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from mcp_types import JSONRPCNotification, JSONRPCRequest, JSONRPCResponse
from sse_starlette import ServerSentEvent
from starlette.types import Message

from mcp_persist_sa import Store, open_store, persist
from mcp_persist_sa.identity import inbox_of, new_stream_key
from mcp_persist_sa.integrations import asgi
from mcp_persist_sa.integrations.calls import Copy
from mcp_persist_sa.integrations.gate import Durability, Gate
from mcp_persist_sa.integrations.inbox import Inbox, Letter, post
from mcp_persist_sa.integrations.numbering import Asked, Numbering, asked_of
from mcp_persist_sa.integrations.sdk import wire_text
from tests.contract.support import PATIENCE, take
from tests.test_integrations import INITIALIZE, scope

NODE = "a-node_456789012"
PROGRESS = "notifications/progress"
OWN_IDS = [0, 7, -1, 10**20, "7", "", 'a "b" \\ c.d', "\u00e9\n\0\ud800"]


def asking(own: Any = 0, **params: Any) -> JSONRPCRequest:
    return JSONRPCRequest(jsonrpc="2.0", id=own, method="roots/list", params=params)


def told(message: Any) -> dict[str, Any]:
    return json.loads(wire_text(message))


# Ids


@pytest.mark.parametrize("own", OWN_IDS, ids=ascii)
def test_an_id_comes_back_as_it_was(own: str | int) -> None:
    numbering = Numbering(NODE)
    public = numbering.outgoing(asking(own)).id
    assert isinstance(public, str)
    answer = {"jsonrpc": "2.0", "id": public, "result": {}}
    asked = asked_of(answer)
    assert asked is not None
    assert (asked.node_id, asked.own, type(asked.own)) == (NODE, own, type(own))
    assert numbering.incoming(answer, asked) == {**answer, "id": own}


def test_an_answer_is_for_the_copy_that_asked_and_for_one_time() -> None:
    first, second, elsewhere = Numbering(NODE), Numbering(NODE), Numbering(new_stream_key())
    ids = [each.outgoing(asking()).id for each in (first, second, elsewhere)]
    assert len({*ids}) == 3
    answer = {"id": ids[0], "result": {}}
    asked = Asked.parse(ids[0])
    assert asked is not None
    for other in (second, elsewhere):
        assert other.incoming(answer, asked) is None
    assert first.incoming(answer, asked) == {**answer, "id": 0}
    first.answered(asked)
    assert first.incoming(answer, asked) is None
    never = asked._replace(own=1)
    assert first.incoming({**answer, "id": str(never)}, never) is None


def test_a_progress_token_is_numbered_with_its_request() -> None:
    numbering = Numbering(NODE)
    request = told(numbering.outgoing(asking(3, _meta={"progressToken": 3, "x": 1}, y=2)))
    assert request["params"] == {"_meta": {"progressToken": request["id"], "x": 1}, "y": 2}
    progress = {"method": PROGRESS, "params": {"progressToken": request["id"], "progress": 1}}
    asked = asked_of(progress)
    assert asked is not None
    assert numbering.incoming(progress, asked) == {**progress, "params": {"progressToken": 3, "progress": 1}}
    assert Numbering(NODE).incoming(progress, asked) is None


def test_what_a_server_takes_back_is_named_as_the_client_knows_it() -> None:
    numbering = Numbering(NODE)
    asked = numbering.outgoing(asking(5)).id
    params = {"requestId": 5, "reason": "x"}
    cancelled = JSONRPCNotification(jsonrpc="2.0", method="notifications/cancelled", params=params)
    assert told(numbering.outgoing(cancelled))["params"] == {**params, "requestId": asked}
    late = {"id": asked, "result": {}}
    assert numbering.incoming(late, asked_of(late) or Asked("", "", "")) is None


@pytest.mark.parametrize(
    "message",
    [
        JSONRPCResponse(jsonrpc="2.0", id=1, result={}),
        JSONRPCNotification(jsonrpc="2.0", method=PROGRESS, params={"progressToken": 1, "progress": 1}),
        JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={"data": {"requestId": 1}}),
        JSONRPCNotification(jsonrpc="2.0", method="notifications/tools/list_changed"),
        None,
    ],
    ids=lambda message: str(getattr(message, "method", message and "answer")),
)
def test_what_names_nothing_that_a_server_asks_stays_the_same_object(message: Any) -> None:
    assert Numbering(NODE).outgoing(message) is message


def test_where_no_other_node_would_know_this_one_ids_stay_as_they_are() -> None:
    request = asking()
    assert Numbering(None).outgoing(request) is request


FORGED = ["", ".", ".1", ".1.", ".x.0", ".1.true", ".1.1.5", ".1.[[[[", '.1."', '.1."\\x"', f".1.{'9' * 5000}", ".1.0 "]


@pytest.mark.parametrize(
    "public", [0, None, True, [], {}, "", "0", "a.1.0", *(NODE + rest for rest in FORGED)], ids=lambda x: ascii(x)[:30]
)
def test_what_is_no_public_id_is_nobodys(public: Any) -> None:
    assert Asked.parse(public) is None
    assert asked_of({"id": public, "result": {}}) is None
    assert asked_of({"method": PROGRESS, "params": {"progressToken": public}}) is None


@pytest.mark.parametrize("message", [None, 1, [], {"method": "ping", "id": f"{NODE}.1.0"}, {"method": PROGRESS}])
def test_only_answers_and_progress_are_about_what_a_server_asks(message: Any) -> None:
    assert asked_of(message) is None


# Frames


async def test_a_question_that_cannot_be_stored_has_its_public_id_in_its_frame() -> None:
    sent: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(message: Message) -> None:
        sent.put_nowait(message["body"])

    async with open_store("sqlite://", max_message_bytes=300) as store:
        await store.join()
        copy = Copy(store, "session", None, scope())
        call = copy.begin({"jsonrpc": "2.0", "id": 7, "method": "tools/call"})
        gate = Gate(send, Durability(PATIENCE))
        for size, has_id in ((1, True), (1000, False)):
            request = asking(size, text="x" * size)
            event_id = copy.store_event("7", request)
            frame = ServerSentEvent(wire_text(request), id=event_id, event="message").encode()
            await gate.body({"body": frame, "more_body": True}, call)
            lines = (await sent.get()).decode().split("\r\n")
            assert [line.partition(":")[0] for line in lines if line] == ["id"] * has_id + ["event", "data"]
            public = json.loads(lines[-3].removeprefix("data: "))
            assert public["id"] == f"{store.node_id}.{public['id'].split('.')[1]}.{size}"
            assert public["params"] == {"text": "x" * size}
        assert not call or not call.texts
        stored = await store.read("session", stream_id="7")
        assert [json.loads(event.message or "")["params"]["text"] for event in stored.events] == ["x"]


# Bodies


def parts(*bodies: bytes) -> Iterator[Message]:
    for number, body in enumerate(bodies, 1):
        yield {"type": "http.request", "body": body, "more_body": number < len(bodies)}
    while True:
        yield {"type": "http.disconnect"}


class Reading:
    """A body that is replaced by `instead`, of which no more than 10 bytes are held back."""

    def __init__(self, *bodies: bytes, instead: bytes | None) -> None:
        self.seen: list[Any] = []
        self._coming, self._instead = parts(*bodies), instead
        self.body = asgi.Body(self._receive, self._whole, most=10)

    async def _receive(self) -> Message:
        return next(self._coming)

    async def _whole(self, message: Any) -> bytes | None:
        self.seen.append((message, self.body.replaceable))
        return self._instead

    async def read(self) -> list[bytes]:
        bodies: list[bytes] = []
        while (message := await self.body())["type"] == "http.request":
            bodies.append(message["body"])
        return bodies


async def test_a_body_is_replaced_as_a_whole() -> None:
    reading = Reading(b'{"a":', b"1}", instead=b"other")
    assert await reading.read() == [b"other"]
    assert reading.seen == [({"a": 1}, True)]
    # Another copy of the session looks into it anew.
    reading.body.again()
    assert await reading.read() == [b'{"a":', b"1}"]
    assert len(reading.seen) == 1


async def test_a_body_that_was_not_read_is_not_looked_into_when_it_is_handed_on() -> None:
    reading = Reading(b'{"a":', b"1}", instead=b"other")
    reading.body.again()
    assert await reading.read() == [b'{"a":', b"1}"]
    assert reading.seen == []


async def test_a_body_is_replaced_also_when_it_was_peeked_at() -> None:
    reading = Reading(b'{"a":', b"1}", instead=b"other")
    await reading.body.peek("7")
    assert reading.body.json() == {"a": 1}
    assert await reading.read() == [b"other"]


async def test_no_more_of_a_body_is_held_back_than_is_allowed() -> None:
    bodies = (b'{"a":"aaaaa', b"aaaaaaaaa", b'"}')
    reading = Reading(*bodies, instead=b"other")
    assert await reading.read() == [*bodies]
    assert reading.seen == [({"a": "a" * 14}, False)]


async def test_a_client_that_leaves_in_the_middle_is_seen_to() -> None:
    left: Any = iter([{"type": "http.request", "body": b"{", "more_body": True}, *[{"type": "http.disconnect"}] * 2])

    async def receive() -> Message:
        return next(left)

    async def whole(message: Any) -> None:
        raise AssertionError

    body = asgi.Body(receive, whole, most=10)
    assert [(await body())["type"] for _ in range(3)] == ["http.request", "http.disconnect", "http.disconnect"]


@pytest.mark.parametrize("pieces", [1, 3])
async def test_an_answer_that_is_too_large_to_be_passed_on_is_refused(pieces: int) -> None:
    store = open_store("sqlite://", max_message_bytes=5000)
    app = persist(MCPServer("x"), store)
    async with app.router.lifespan_context(app):
        opened = await asgi.request(app, scope(), "POST", body=INITIALIZE)
        session_id = dict(opened.headers)[asgi.SESSION_ID].decode()
        answer = {"jsonrpc": "2.0", "id": f"{store.node_id}.0.0", "result": {"x": "x" * 20_000}}
        text = asgi.encoded(answer)
        size = -(-len(text) // pieces)
        coming = parts(*(text[start : start + size] for start in range(0, len(text), size)))

        async def receive() -> Message:
            return next(coming)

        said = asgi.Exchange()
        await app(asgi.own_scope(scope(), "POST", session_id, len(text)), receive, said.send)
        assert said.status == 413
        assert b"max_message_bytes" in said.messages[-1]["body"]


# Inboxes


async def test_letters_come_once_and_in_order(store: Store) -> None:
    sent = [Letter(f"session {number}", {"id": number, "result": {"text": "\ud800"}}) for number in range(5)]
    for letter in sent[:2]:
        await post(store, NODE, letter)
    async with aclosing(Inbox(store, NODE).letters()) as letters:
        assert await take(letters, 2) == sent[:2]
        for letter in sent[2:]:
            await post(store, NODE, letter)
        await post(store, new_stream_key(), sent[0])
        assert await take(letters, 3) == sent[2:]


async def test_what_was_read_is_removed_but_not_at_once(store: Store) -> None:
    inbox = Inbox(store, NODE)
    counts: list[int] = []
    async with aclosing(inbox.letters()) as letters:
        for number in range(4):
            await post(store, NODE, Letter("session", number))
        await take(letters, 3)
        for _ in range(3):
            await inbox.tidy()
            counts.append(len((await store.read(inbox_of(NODE), stream_id="inbox")).events))
        assert [letter.message for letter in await take(letters, 1)] == [3]
    assert counts == [4, 2, 2]


async def test_an_inbox_goes_on_after_its_history_was_lost(store: Store) -> None:
    async with aclosing(Inbox(store, NODE).letters()) as letters:
        for number in range(3):
            await post(store, NODE, Letter("session", number))
            assert [letter.message for letter in await take(letters, 1)] == [number]
            await store.delete_events(inbox_of(NODE))
