"""The ground of the machine: the stores of an example, the model beside them, and how the two are compared."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, initialize
from hypothesis.strategies import sampled_from

from mcp_persist_sa import Page, PersistError, Purged, Store, StreamInfo
from tests.stateful.checks import check_info, check_page, check_purged, check_session
from tests.stateful.clock import Clock
from tests.stateful.history import Refusal, Span, Stream
from tests.stateful.model import Holding, Rules, Space
from tests.stateful.roles import Follower
from tests.stateful.strategies import MAX_MESSAGE, MAX_STATE, OPTIONS
from tests.stateful.world import World

T = TypeVar("T")

LAYOUTS = ["aa", "aab", "ab", "a"]
"""The nodes of an example, by the namespace of each."""

WHERE = sampled_from([0, 1, 2])


class At(NamedTuple):
    """A store, and what it should hold."""

    store: Store
    space: Space
    node: int


class Base(RuleBasedStateMachine):
    """The stores of an example, each beside the model of its namespace.

    Attributes:
        span: When the last operation was.
    """

    span: Span
    rules_kept: Rules

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.clock = Clock()
        self.places: list[At] = []
        self.followers: list[Follower] = []
        self.seen: set[str] = set()

    @initialize(layout=sampled_from(LAYOUTS), options=OPTIONS)
    def open(self, layout: str, options: dict[str, Any]) -> None:
        self.rules_kept = Rules(options)
        spaces: dict[str, tuple[str, Space]] = {}
        for node, name in enumerate(layout[: 1 if self.world.nodes == 1 else None]):
            if name not in spaces:
                spaces[name] = (self.world.new_namespace(), Space(self.rules_kept, self.clock))
            namespace, space = spaces[name]
            store = self.run(self._open(node % 2, namespace, options))
            self.places.append(At(store, space, node))

    async def _open(self, node: int, namespace: str, options: dict[str, Any]) -> Store:
        return await self.world.open(
            node,
            namespace=namespace,
            clock=self.clock,
            poll_interval=0.01,
            pool_size=3,
            max_message_bytes=MAX_MESSAGE,
            max_state_bytes=MAX_STATE,
            **options,
        )

    def teardown(self) -> None:
        try:
            if self.places and sys.exc_info()[0] is None:
                self.audit(-1)
        finally:
            error = sys.exc_info()[1]
            if isinstance(error, AssertionError | PersistError):
                # Of a failure that does not come again, Hypothesis would only say that it does not.
                traceback.print_exception(error)
            self.run(self._close())

    async def _close(self) -> None:
        for follower in self.followers:
            await follower.stop()
        for place in self.places:
            await place.store.close()

    # Running and comparing

    def at(self, where: int) -> At:
        return self.places[where % len(self.places)]

    def near(self, here: int, there: int) -> At:
        """The other node if it serves the same namespace, or else this one."""
        other = self.at(there)
        return other if other.space is self.at(here).space else self.at(here)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        before = self.clock()
        try:
            return self.world.run(work)
        finally:
            self.span = Span(before, self.clock())

    def attempt(self, work: Coroutine[Any, Any, T]) -> T | PersistError:
        """The answer, or the error; an error that is none of the package's is a failure."""
        try:
            return self.run(work)
        except PersistError as error:
            return error

    def refused(self, work: Coroutine[Any, Any, Any], *kinds: type[PersistError]) -> None:
        outcome = self.attempt(work)
        assert type(outcome) in kinds, f"{outcome!r} instead of {[kind.__name__ for kind in kinds]}"

    def compare(self, expect: Callable[[], T], work: Coroutine[Any, Any, Any], check: Callable[[Any, T], None]) -> bool:
        """Run an operation beside the model; whether it was not refused, as the model expected or not."""
        try:
            expected = expect()
        except Refusal as refusal:
            self.refused(work, *refusal.kinds)
            return False
        outcome = self.attempt(work)
        if isinstance(outcome, PersistError):
            raise AssertionError(f"{outcome!r} instead of {expected!r}") from outcome
        check(outcome, expected)
        return True

    def new_ids(self, ids: list[str]) -> None:
        """Note event ids, none of which may have been given before."""
        assert self.seen.isdisjoint(ids)
        assert len({*ids}) == len(ids)
        self.seen.update(ids)

    def observe_limits(self, place: At, session_id: str) -> None:
        """Where there are limits, find out what was removed, and check that it was over one."""
        holding = place.space[session_id]
        if not self.rules_kept.limited or holding.over:
            return
        infos = {info.stream_key: info for info in self.run(self.stream_list(place.store, session_id))}
        for key, through in holding.over_limits().items():
            stream = next(stream for stream in holding.streams if stream.key == key)
            visible = [event.sequence for event in stream.visible(holding.oldest)]
            removed = len(visible) - infos[key].count
            assert 0 <= removed <= sum(sequence <= through for sequence in visible)
            if removed:
                stream.remove_through(visible[removed - 1])

    # The whole of it

    async def stream_list(self, store: Store, session_id: str) -> list[StreamInfo]:
        return [info async for info in store.streams(session_id)]

    async def pages(self, store: Store, session_id: str, **place: Any) -> list[Page]:
        """All pages from a place on."""
        found = [await store.read(session_id, **place)]
        while found[-1].more:
            assert found[-1].event_id is not None
            found.append(await store.read(session_id, after=found[-1].event_id))
        return found

    def audit(self, where: int) -> None:
        """Compare everything that a store can tell with the model."""
        place = self.at(where)
        listed = self.run(place.store.sessions.list(limit=1000)).sessions
        expected = place.space.alive()
        assert len(listed) == len(expected)
        for mine, other in zip(listed, expected, strict=True):
            check_session(mine, other)
        for session_id, holding in place.space.holdings.items():
            self.audit_streams(place, session_id, holding)
            holding.settle_state()
            if not holding.limbo:
                assert self.run(place.store.state(session_id).keys()) == holding.values.keys()

    def audit_streams(self, place: At, session_id: str, holding: Holding) -> None:
        if holding.over:
            return
        infos = {info.stream_key: info for info in self.run(self.stream_list(place.store, session_id))}
        assert infos.keys() == {stream.key for stream in holding.streams}
        for stream in holding.streams:
            check_info(infos[stream.key], stream, holding)
            if holding.named(stream.stream_id) is stream:
                self.audit_stream(place, session_id, holding, stream)

    def audit_stream(self, place: At, session_id: str, holding: Holding, stream: Stream) -> None:
        rest = stream.items(stream.beginning(holding.oldest), holding.oldest)
        for page in self.run(self.pages(place.store, session_id, stream_id=stream.stream_id)):
            check_page(page, stream, rest, self.rules_kept, closed=holding.closed)
            rest = rest[len(page.items) :]
        assert not rest

    # Removals

    def check_removed(self, purged: Purged, *bounds: tuple[Purged, Purged]) -> None:
        least, most = Purged(), Purged()
        for low, high in bounds:
            least, most = least.plus(low), most.plus(high)
        check_purged(purged, least, most)
