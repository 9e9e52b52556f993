"""Databases of mcp-persist, as its version 2.2.0 makes them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import asyncpg

ONE, OTHER = "0123456789abcdef0123456789abcdef", "f123456789abcdef0123456789abcdef"
THEN = 1893499200.25
"""2030-01-01T12:00:00.25Z, when the clock of the tests begins."""

_EVENTS = {
    "sqlite": "CREATE TABLE {} (event_id INTEGER PRIMARY KEY AUTOINCREMENT, stream_id TEXT NOT NULL, "
    "payload TEXT NOT NULL, created_at REAL NOT NULL{})",
    "postgres": "CREATE TABLE {} (event_id BIGINT PRIMARY KEY, stream_id TEXT NOT NULL, payload TEXT NOT NULL, "
    "created_at DOUBLE PRECISION NOT NULL{})",
}
_SESSIONS = {
    "sqlite": "CREATE TABLE {} (session_id TEXT NOT NULL, tenant_id TEXT NOT NULL DEFAULT '', "
    "created_at REAL NOT NULL, last_seen_at REAL NOT NULL, terminated INTEGER NOT NULL DEFAULT 0, owner TEXT{}, "
    "PRIMARY KEY (session_id, tenant_id))",
    "postgres": "CREATE TABLE {} (session_id TEXT NOT NULL, tenant_id TEXT NOT NULL DEFAULT '', "
    "created_at DOUBLE PRECISION NOT NULL, last_seen_at DOUBLE PRECISION NOT NULL, "
    "terminated BOOLEAN NOT NULL DEFAULT FALSE, owner JSONB{}, PRIMARY KEY (session_id, tenant_id))",
}

ANSWER = '{"jsonrpc":"2.0","id":7,"result":{}}'
HANDSHAKE = {"protocolVersion": "2025-11-25", "clientInfo": {"name": "c", "version": "1"}, "capabilities": {}}


class Old:
    """One of them."""

    def __init__(self, kind: str, dsn: str) -> None:
        self.kind = kind
        self.dsn = dsn

    async def execute(self, *statements: str) -> None:
        if self.kind == "postgres":
            connection: Any = await asyncpg.connect(self.dsn)
            for statement in statements:
                await connection.execute(statement)
            await connection.close()
            return
        with closing(sqlite3.connect(self.dsn.removeprefix("sqlite:///"))) as file, file:
            for statement in statements:
                file.execute(statement)

    async def create(self, events: str = "mcp_events", sessions: str = "mcp_sessions", *, old: bool = False) -> None:
        json_type = " JSONB" if self.kind == "postgres" else " TEXT"
        await self.execute(
            _EVENTS[self.kind].format(events, "" if old else ", tenant_id TEXT"),
            _SESSIONS[self.kind].format(sessions, "" if old else f", handshake{json_type}"),
        )

    async def add(self, number: int, stream: str, payload: str, table: str = "mcp_events", **values: Any) -> None:
        given = {"event_id": number, "stream_id": stream, "payload": payload, "created_at": THEN + number}
        await self._insert(table, {**given, **values})

    async def add_session(self, session_id: str, **values: Any) -> None:
        given = {"session_id": session_id, "created_at": THEN, "last_seen_at": THEN + 5, **values}
        await self._insert("mcp_sessions", given)

    async def _insert(self, table: str, values: dict[str, Any]) -> None:
        names = ", ".join(values)
        quoted = (f"'{each}'" if isinstance(each, str) else str(each) for each in values.values())
        await self.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join(quoted)})")
