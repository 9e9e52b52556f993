"""How a batch of events is stored: by one script, which numbers the events of streams to which anyone may append."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mcp_persist_sa.backends.redis.keys import milliseconds
from mcp_persist_sa.backends.redis.records import KINDS, NONE
from mcp_persist_sa.backends.redis.retention import Retention
from mcp_persist_sa.backends.redis.scripts import APPEND
from mcp_persist_sa.backends.redis.server import Call, Value
from mcp_persist_sa.batches import Append, Gate, Place
from mcp_persist_sa.faults import Failure
from mcp_persist_sa.identity import new_stream_key
from mcp_persist_sa.refusals import claim_refused, events_unknown, stream_claimed

logger = logging.getLogger(__name__)


class Appends(Retention):
    """Whoever writes events."""

    @property
    def writers(self) -> int:
        """See `EventBackend`."""
        return 2

    async def append(self, batch: Sequence[Append], gate: Gate) -> list[Place | Exception]:
        """See `EventBackend`."""
        parts = self._parts(batch)
        calls = [self._append_call(part, gate) for part in parts]
        try:
            answers = await self._server.once(calls)
        except Failure as failure:
            raise failure.error from failure.__cause__
        found: dict[int, Place | Exception] = {}
        for part, answer in zip(parts, answers, strict=True):
            keys_and_numbers = iter(answer.decode().split())
            for group, key, first in zip(part, keys_and_numbers, keys_and_numbers, strict=True):
                found[id(group)] = _place(group, key, first)
        places = [found[id(group)] for group in batch]
        await self._growth.trim(batch, places)
        return places

    def _parts(self, batch: Sequence[Append]) -> list[Sequence[Append]]:
        """What one script can store: everything, but in a cluster what is of one session."""
        if not self._server.is_split:
            return [batch]
        parts: dict[str, list[Append]] = {}
        for group in batch:
            parts.setdefault(group.session_key, []).append(group)
        return [*parts.values()]

    def _append_call(self, groups: Sequence[Append], gate: Gate) -> Call:
        kept = milliseconds(self._options.span("event_ttl"))
        arguments: list[Value] = [self._now(), kept, *gate]
        for group in groups:
            will = group.claim.will if group.claim is not None and group.opening else None
            arguments.append(_head(group, has_will=will is not None))
            if will is not None:
                arguments.append(will)
            arguments += [
                f"{nonce}{KINDS[message is not None, final]}{message or ''}"
                for message, final, nonce, _ in group.events
            ]
        return Call(APPEND, [self._keys.session(group.session_key) for group in groups], arguments)


def _head(group: Append, *, has_will: bool) -> str:
    count, final = len(group.events), int(group.events[-1].final)
    if group.claim is None or group.place is None:
        return f"s {count} {final} 0 {new_stream_key()} {NONE} 0 {group.stream_id}"
    kind, node = "o" if group.opening else "c", group.claim.node_id or NONE
    key, first = group.place
    return f"{kind} {count} {final} {first} {key} {node} {has_will:d} {group.stream_id}"


def _place(group: Append, key: str, first: str) -> Place | Exception:
    if key == "claimed":
        return stream_claimed() if group.claim is None else claim_refused()
    if key == "unknown":
        return events_unknown()
    return group.place or Place(key, int(first))
