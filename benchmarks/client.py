"""A client that costs little: one connection that is kept, and a session where the era has them."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any, NamedTuple

HANDSHAKE, STATELESS = "2025-11-25", "2026-07-28"

Params = dict[str, Any]

_STATELESS_META = {
    "io.modelcontextprotocol/protocolVersion": STATELESS,
    "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Address(NamedTuple):
    """Of an endpoint on this machine."""

    port: int
    path: str


class Client:
    """Of one server."""

    def __init__(self, address: Address, version: str = HANDSHAKE, *, session_id: bytes = b"") -> None:
        self.session_id = session_id
        self._address = address
        self._version = version
        self._numbers = count(1)

    async def open(self) -> None:
        """Connect, and shake hands, unless there is a session already."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._address.port, limit=2**22)
        if self._version == HANDSHAKE and not self.session_id:
            who = {"name": "benchmark", "version": "1"}
            await self.request("initialize", {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": who})
            await self._send({"jsonrpc": "2.0", "method": "notifications/initialized"}, "notifications/initialized", "")

    async def request(self, method: str, params: Params) -> None:
        """Make a request, and read the whole answer."""
        if self._version == STATELESS:
            params = {**params, "_meta": {**params.get("_meta", {}), **_STATELESS_META}}
        message = {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}
        body = await self._send(message, method, params.get("name", ""))
        assert b'"result":' in body, body
        assert b'"isError":true' not in body, body

    async def _send(self, message: Params, method: str, name: str) -> bytes:
        body = json.dumps(message).encode()
        lines = [
            f"POST {self._address.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self._address.port}",
            "Content-Type: application/json",
            "Accept: application/json, text/event-stream",
            f"MCP-Protocol-Version: {self._version}",
            f"Content-Length: {len(body)}",
        ]
        if self._version == STATELESS:
            lines += [f"Mcp-Method: {method}", *([f"Mcp-Name: {name}"] if name else [])]
        if self.session_id:
            lines.append(f"Mcp-Session-Id: {self.session_id.decode()}")
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        return await self._answer()

    async def _answer(self) -> bytes:
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, *lines = head[:-4].split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        assert status.split()[1] in (b"200", b"202"), head
        self.session_id = headers.get(b"mcp-session-id", self.session_id)
        if headers.get(b"transfer-encoding") != b"chunked":
            return await self._reader.readexactly(int(headers.get(b"content-length", b"0")))
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)
        return body

    def close(self) -> None:
        """Let go of the connection."""
        self._writer.close()
