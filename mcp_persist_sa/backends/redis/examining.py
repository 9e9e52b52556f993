"""What a doctor looks at in the servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from mcp_persist_sa import verdicts
from mcp_persist_sa.backends.redis.checking import facts_of, says_never, setting_of
from mcp_persist_sa.backends.redis.faults import fault_of
from mcp_persist_sa.backends.redis.keys import micros, moment
from mcp_persist_sa.backends.redis.listing import Listing
from mcp_persist_sa.backends.redis.nodes import Nodes
from mcp_persist_sa.backends.redis.scripts import RIGHTS, SESSION
from mcp_persist_sa.backends.redis.server import Call, Value
from mcp_persist_sa.faults import Fault
from mcp_persist_sa.options import Options
from mcp_persist_sa.oversight import Finding

_QUESTIONS: tuple[tuple[Value, ...], ...] = (
    ("INFO",),
    ("CONFIG", "GET", "save"),
    ("CONFIG", "GET", "appendfsync"),
    ("ACL", "WHOAMI"),
    ("TIME",),
)
_LOOKED_AT = 1000
_NEARLY_FULL = 0.9
_GRAVITY = ("ok", "note", "wrong")

_DISK_ADVICE = "Set `appendonly yes`: a restart loses events that clients were given."
_EVICTION_ADVICE = "Set `maxmemory-policy noeviction`: sessions and events are removed when the memory is full."
_ROOM_ADVICE = "Raise maxmemory, or shorten event_ttl: when the memory is full, events cannot be stored."


class Examining(Listing, Nodes):
    """Whoever looks at the servers; of several, the worst finding counts."""

    async def examine(self) -> list[Finding]:
        """See `OversightBackend`."""
        servers = await self._server.ask(*_QUESTIONS)
        skew = max(_skew(answers[4]) for answers in servers)
        found = [list(_of_server(answers, self._options)) for answers in servers]
        findings = [_worst(same) for same in zip(*found, strict=True)]
        if self._server.is_split:
            findings.append(await self._cluster())
        return [*findings, await self._rights(), await self._clock(skew), await self._housekeeping()]

    async def _cluster(self) -> Finding:
        answers = [facts_of(answer) for (answer,) in await self._server.ask(["CLUSTER", "INFO"])]
        states = {facts.get("cluster_state", "not told") for facts in answers}
        found = f"{len(answers)} masters, state {', '.join(sorted(states))}"
        if states <= {"ok", "not told"}:
            return Finding("cluster", "ok", found)
        return Finding("cluster", "wrong", found, "See CLUSTER INFO: some sessions have no server at the moment.")

    async def _rights(self) -> Finding:
        """Try all commands in a form that changes nothing, on a key and a channel that are not there."""
        publishing = ("SPUBLISH" if self._server.is_split else "PUBLISH") if self._options.background else ""
        (refused,) = await self._server.read(Call(RIGHTS, [self._keys.nodes], [self._now(), publishing]))
        missing = {name.decode() for name in refused}
        alone = [*_not_in_scripts(self._options)]
        for answers in await self._server.ask(*alone):
            missing |= {str(command[0]) for command, answer in zip(alone, answers, strict=True) if _is_denial(answer)}
        if not missing:
            return Finding("rights", "ok", "this user may do all that the store does")
        # Whoever may not publish is polled for.
        status = "note" if missing == {publishing} else "wrong"
        found = f"this user may not use {', '.join(sorted(missing))}"
        return Finding("rights", status, found, "See docs/redis.md, Rights.")

    async def _clock(self, skew: timedelta) -> Finding:
        newest = (await self._server.read(self._index("newest")))[0]
        return verdicts.clock(self._time(), moment(int(float(newest))) if newest else None, skew)

    async def _housekeeping(self) -> Finding:
        before = micros(self._time() - verdicts.OVERDUE)
        keys = (await self._server.read(self._index("overdue", before, _LOOKED_AT)))[0]
        calls = [self._call(SESSION, key.decode(), "is_overdue", before) for key in keys]
        return verdicts.housekeeping(sum(await self._server.read(*calls)) if calls else 0)


def _not_in_scripts(options: Options) -> Iterator[Sequence[Value]]:
    yield "SCAN", 0, "COUNT", 1
    if options.wait_aof:
        yield "WAITAOF", 0, 0, 0
    elif options.wait_replicas:
        yield "WAIT", 0, 0


def _is_denial(answer: Any) -> bool:
    return isinstance(answer, Exception) and fault_of(answer) is Fault.DENIED


def _worst(findings: Iterable[Finding]) -> Finding:
    return max(findings, key=lambda finding: _GRAVITY.index(finding.status))


def _of_server(answers: list[Any], options: Options) -> Iterator[Finding]:
    info, save, sync, user, _ = answers
    facts = facts_of(info)
    yield _server(facts)
    yield _writing(facts, options)
    yield _durability(facts, setting_of(sync) or "", saves=not says_never(save))
    yield _eviction(facts)
    yield _memory(facts)
    yield _role(user)


def _server(facts: Mapping[str, str]) -> Finding:
    if not facts:
        advice = "ACL SETUSER ... +info +config|get, so that its settings can be looked at."
        return Finding("database", "note", "the server tells nothing of itself", advice)
    mode = facts.get("server_mode") or facts.get("redis_mode", "standalone")
    name = f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {facts.get('redis_version')}"
    return Finding("database", "ok", f"{name}, {mode}")


def _writing(facts: Mapping[str, str], options: Options) -> Finding:
    if not facts:
        return Finding("writing", "ok", "not told")
    if facts.get("role") == "slave":
        return Finding("writing", "wrong", "this is a replica", "Name the master in the DSN, or Sentinel.")
    replicas = int(facts.get("connected_slaves", "0"))
    found = f"a master with {replicas} replicas"
    if replicas < options.wait_replicas:
        advice = f"wait_replicas is {options.wait_replicas}: no write is acknowledged until they are connected."
        return Finding("writing", "wrong", found, advice)
    return Finding("writing", "ok", found)


def _durability(facts: Mapping[str, str], sync: str, *, saves: bool) -> Finding:
    if facts.get("aof_enabled") == "1":
        found = f"appendfsync is {sync or 'not told'}"
        if sync == "always":
            return Finding("durability", "ok", found)
        return Finding(
            "durability", "note", found, "A power cut, or a kill, may take the last seconds. `always` keeps them."
        )
    if not facts:
        return Finding("durability", "ok", "not told")
    if not saves:
        return Finding("durability", "wrong", "nothing is written to disk", _DISK_ADVICE)
    return Finding("durability", "note", "snapshots alone", _DISK_ADVICE)


def _eviction(facts: Mapping[str, str]) -> Finding:
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return Finding("eviction", "ok", "noeviction" if facts else "not told")
    is_bounded = facts.get("maxmemory", "0") != "0"
    return Finding("eviction", "wrong" if is_bounded else "note", policy, _EVICTION_ADVICE)


def _memory(facts: Mapping[str, str]) -> Finding:
    used, most = int(facts.get("used_memory", "0")), int(facts.get("maxmemory", "0"))
    if not most:
        return Finding("memory", "ok", f"{used:,} bytes, without a bound" if facts else "not told")
    is_full = used > _NEARLY_FULL * most
    found = f"{used:,} of {most:,} bytes"
    return Finding("memory", "wrong", found, _ROOM_ADVICE) if is_full else Finding("memory", "ok", found)


def _role(user: Any) -> Finding:
    name = user.decode() if isinstance(user, bytes) else str(user)
    if isinstance(user, Exception):
        return Finding("role", "ok", "not told")
    if name != "default":
        return Finding("role", "ok", f"{name} is not the default user")
    return Finding("role", "note", "this is the default user", "Make a user for the store: docs/redis.md, Rights.")


def _skew(answer: Any) -> timedelta:
    if isinstance(answer, Exception):
        return timedelta()
    seconds, microseconds = map(int, answer)
    theirs = datetime.fromtimestamp(seconds, timezone.utc) + timedelta(microseconds=microseconds)
    return abs(theirs - datetime.now(timezone.utc))
