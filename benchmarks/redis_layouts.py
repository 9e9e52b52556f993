"""Which structure of Redis keeps events best? Prints bytes and microseconds per event; see docs/architecture.md.

    python -m benchmarks.redis_layouts

Each structure is filled by a script, 50 events a call, as the backend's batches are; then read in pages of 500.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.servers.redis import Binary, RedisServer, find_redis, find_valkey

BATCH = 50
PAGE = 500
_EACH = "for i = 2, #ARGV do local n = ARGV[1] + i - 1 %s end redis.call('PEXPIRE', KEYS[1], 86400000)"


class Layout(NamedTuple):
    """How events are added (with `n`, their number, and ARGV[i], their content), and how a page of them is read."""

    name: str
    add: str
    page: str


LAYOUTS = [
    Layout(
        "stream, time in the id, one field",
        "redis.call('XADD', KEYS[1], n .. '-1764000000' .. 123456 + n, 'e', ARGV[i])",
        "local r, o = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2]), {} "
        "for i, e in ipairs(r) do o[2 * i - 1] = e[1] o[2 * i] = e[2][2] end return o",
    ),
    Layout(
        "stream, four fields",
        "redis.call('XADD', KEYS[1], n .. '-0', 'n', string.sub(ARGV[i], 1, 8), 'f', '0', 't', 1764000000123456 + n, "
        "'m', string.sub(ARGV[i], 10))",
        "return redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])",
    ),
    Layout(
        "sorted set",
        "redis.call('ZADD', KEYS[1], n, '1764000000' .. 123456 + n .. ARGV[i])",
        "return redis.call('ZRANGE', KEYS[1], ARGV[1], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[2])",
    ),
    Layout(
        "hash by number",
        "redis.call('HSET', KEYS[1], n, '1764000000' .. 123456 + n .. ARGV[i])",
        "local f = {} for n = ARGV[1], ARGV[1] + ARGV[2] - 1 do f[#f + 1] = n end "
        "return redis.call('HMGET', KEYS[1], unpack(f))",
    ),
    Layout(
        "list (no gaps)",
        "redis.call('RPUSH', KEYS[1], '1764000000' .. 123456 + n .. ARGV[i])",
        "return redis.call('LRANGE', KEYS[1], ARGV[1] - 1, ARGV[1] + ARGV[2] - 2)",
    ),
]


def content(size: int, number: int) -> str:
    """An event that looks like those of servers."""
    message = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": str(number)}}
    text = json.dumps(message)
    return "noncenoncm"[:9] + text[:-3] + "x" * (size - len(text)) + '"}}'


def used(client: Any) -> int:
    return client.info("memory")["used_memory"]


def write(client: Any, layout: Layout, streams: int, length: int, size: int) -> tuple[float, float]:
    """Bytes and microseconds per event, of so many streams of that length."""
    client.flushall()
    script = client.register_script(_EACH % layout.add)
    calls = list(_calls(streams, length, size))
    script(keys=["warm"], args=[0, content(size, 0)])
    client.delete("warm")
    before, began = used(client), time.perf_counter()
    for key, arguments in calls:
        script(keys=[key], args=arguments)
    took = time.perf_counter() - began
    return (used(client) - before) / streams / length, took / streams / length * 1e6


def _calls(streams: int, length: int, size: int) -> Iterator[tuple[str, list[Any]]]:
    for stream in range(streams):
        for first in range(0, length, BATCH):
            count = min(BATCH, length - first)
            yield f"{{mcp:session{stream:013}}}:e:{stream:016}", [first, *(content(size, n) for n in range(count))]


def read(client: Any, layout: Layout, length: int) -> float:
    """Microseconds per event to read the first stream."""
    script, key = client.register_script(layout.page), f"{{mcp:session{0:013}}}:e:{0:016}"
    took: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        for first in range(1, length, PAGE):
            script(keys=[key], args=[first, PAGE])
        took.append(time.perf_counter() - began)
    return statistics.median(took) / length * 1e6


def measure(binary: Binary) -> None:
    """Print all figures of one server."""
    with RedisServer(binary) as server:
        print(server.choice)
        for size in (300, 8192):
            for streams, length in ((4000, 3), (20, 1000 if size == 300 else 500)):
                print(f"  messages of {size} bytes, {length} a stream: bytes, us to write, us to read, per event")
                for layout in LAYOUTS:
                    with server.client() as client:
                        memory, writing = write(client, layout, streams, length, size)
                        reading = read(client, layout, length)
                    print(f"    {layout.name:36}{memory:9.0f}{writing:9.1f}{reading:9.1f}")


if __name__ == "__main__":
    for found in (find_valkey(), find_redis()):
        if found is not None:
            measure(found)
