"""Steps on the state of sessions, and of handles that are no recorded session."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule
from pydantic import BaseModel

from mcp_persist_sa import InvalidInput, PersistError, State, StateEntry, TooLarge, VersionConflict
from mcp_persist_sa.models import JSONValue
from tests.stateful import strategies as given
from tests.stateful.base import WHERE, Base
from tests.stateful.model import Holding
from tests.stateful.values import Value, same_json


class Counter(BaseModel):
    """A model that a value may be."""

    count: int
    label: str = "x"


COUNTERS = st.builds(Counter, count=st.integers(-9, 9), label=given.NAMES)


class Keeping(Base):
    """Whoever keeps state."""

    def _state(self, where: int, session: str) -> tuple[State, Holding]:
        place = self.at(where)
        holding = place.space[session]
        holding.settle_state()
        return place.store.state(session), holding

    def _is_undecided(self, holding: Holding, outcome: Any) -> bool:
        """Whether the session has expired: what is written then may be served or not, until it is removed."""
        if not holding.over:
            return holding.limbo
        holding.limbo = True
        assert not isinstance(outcome, PersistError) or type(outcome) is VersionConflict, outcome
        return True

    def _written(self, holding: Holding, key: str, value: JSONValue, version: Any) -> None:
        if not self._is_undecided(holding, version):
            holding.values.put(key, value, version, self.span.first)

    @rule(where=WHERE, session=given.SESSIONS, key=given.KEYS, value=given.JSON_VALUES | COUNTERS)
    def set(self, where: int, session: str, key: str, value: JSONValue) -> None:
        state, holding = self._state(where, session)
        plain = value.model_dump() if isinstance(value, Counter) else value
        self._written(holding, key, plain, self.attempt(state.set(key, value)))

    @rule(
        where=WHERE,
        session=given.SESSIONS,
        key=given.KEYS,
        value=given.JSON_VALUES,
        guess=st.sampled_from(["right", "right", 0, 1, 2, 3, 2**40]),
    )
    def compare_and_set(self, where: int, session: str, key: str, value: JSONValue, guess: int | str) -> None:
        state, holding = self._state(where, session)
        present = holding.values.get(key)
        version = guess if isinstance(guess, int) else 0 if present is None else present.version
        work = state.compare_and_set(key, value, version=version)
        if holding.over or holding.limbo:
            self._is_undecided(holding, self.attempt(work))
            return
        self.compare(
            lambda: holding.values.check_version(key, version),
            work,
            lambda written, _: holding.values.put(key, value, written, self.span.first),
        )

    @rule(where=WHERE, session=given.SESSIONS, key=given.KEYS, default=given.JSON_VALUES)
    def update_state(self, where: int, session: str, key: str, default: JSONValue) -> None:
        state, holding = self._state(where, session)
        present = holding.values.get(key)
        before = default if present is None else present.value
        after = self.attempt(state.update(key, lambda value: [value][:1], default))
        if self._is_undecided(holding, after):
            return
        expected, entry = [before], self.run(state.entry(key))
        if isinstance(after, InvalidInput):
            # A value that is put into itself again and again outgrows the limit.
            assert type(after) is TooLarge
            return
        assert same_json(after, expected)
        assert entry is not None
        holding.values.put(key, expected, entry.version, self.span.first)

    @rule(where=WHERE, session=given.SESSIONS, key=given.KEYS)
    def get_state(self, where: int, session: str, key: str) -> None:
        state, holding = self._state(where, session)
        entry, default = self.run(state.entry(key)), object()
        value = self.run(state.get(key, default))
        assert value is default if entry is None else same_json(value, entry.value)
        if not holding.limbo:
            self._check_entry(entry, holding.values.get(key))
            assert self.run(state.keys()) == holding.values.keys()
        self._check_typed(None if entry is None else entry.value, self.attempt(state.get(key, as_type=Counter)))

    def _check_entry(self, entry: StateEntry | None, expected: Value | None) -> None:
        assert (entry is None) == (expected is None), (entry, expected)
        if entry is not None and expected is not None:
            assert same_json(entry.value, expected.value)
            assert entry.version == expected.version

    def _check_typed(self, value: Any, outcome: Any) -> None:
        if value is None:
            assert outcome is None or type(outcome) is InvalidInput
        elif isinstance(value, dict) and "label" in value:
            assert outcome == Counter.model_validate(value)
        else:
            assert type(outcome) is InvalidInput

    @rule(where=WHERE, session=given.SESSIONS, key=given.KEYS)
    def delete_state(self, where: int, session: str, key: str) -> None:
        state, holding = self._state(where, session)
        deleted = self.run(state.delete(key))
        if not self._is_undecided(holding, deleted):
            assert deleted is holding.values.delete(key, self.span.first)

    @rule(where=WHERE, session=given.SESSIONS)
    def clear_state(self, where: int, session: str) -> None:
        state, holding = self._state(where, session)
        count = self.run(state.clear())
        if not self._is_undecided(holding, count):
            keys = holding.values.keys()
            assert count == len(keys)
            for key in keys:
                holding.values.delete(key, self.clock())
