"""The proxy, PgBouncer and child processes do what the tests of faults rely on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import (
    ChildProcess,
    FaultProxy,
    PgBouncer,
    PostgresServer,
    ServerError,
    chromium,
    contains,
)
from tests.servers import pgbouncer as pgbouncer_module
from tests.servers.conftest import LOST, Connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def proxy(postgres_server: PostgresServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(postgres_server.host, postgres_server.port) as running:
        yield running


async def test_the_proxy_forwards_and_counts_round_trips(
    proxy: FaultProxy, postgres_database: str, connect: Connect
) -> None:
    connection = await connect(proxy.dsn(postgres_database))
    assert (proxy.accepted, proxy.connections) == (1, 1)
    before = proxy.round_trips
    await connection.execute("SELECT 1")
    await connection.execute("SELECT 2")
    assert proxy.round_trips == before + 2
    await connection.close()
    await proxy.wait_until(lambda proxy: proxy.connections == 0)


async def test_the_proxy_refuses(proxy: FaultProxy, postgres_database: str, connect: Connect) -> None:
    connection = await connect(proxy.dsn(postgres_database))
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy.dsn(postgres_database))
    assert await connection.fetchval("SELECT 1") == 1
    proxy.pass_through()
    assert await (await connect(proxy.dsn(postgres_database))).fetchval("SELECT 1") == 1


async def test_the_proxy_delays_each_direction(proxy: FaultProxy, postgres_database: str, connect: Connect) -> None:
    connection = await connect(proxy.dsn(postgres_database))
    proxy.delay(0.05)
    begin = asyncio.get_running_loop().time()
    await connection.execute("SELECT 1")
    assert asyncio.get_running_loop().time() - begin >= 0.1


async def test_a_black_hole_keeps_everything_until_it_is_closed(
    proxy: FaultProxy, postgres_database: str, table: Any, connect: Connect
) -> None:
    connection = await connect(proxy.dsn(postgres_database))
    proxy.black_hole()
    insertion = asyncio.ensure_future(connection.execute("INSERT INTO t VALUES (1)"))
    newcomer = asyncio.ensure_future(connect(proxy.dsn(postgres_database)))
    await proxy.wait_until(lambda proxy: proxy.held == 2)
    assert await table.fetchval("SELECT count(*) FROM t") == 0
    proxy.pass_through()
    await insertion
    assert await (await newcomer).fetchval("SELECT count(*) FROM t") == 1


async def test_the_proxy_cuts_connections(proxy: FaultProxy, postgres_database: str, connect: Connect) -> None:
    connection = await connect(proxy.dsn(postgres_database))
    query = asyncio.ensure_future(connection.execute("SELECT pg_sleep(60)"))
    await proxy.wait_until(lambda proxy: proxy.connections == 1)
    proxy.cut()
    with pytest.raises(LOST):
        await query
    await proxy.wait_until(lambda proxy: proxy.connections == 0)
    assert await (await connect(proxy.dsn(postgres_database))).fetchval("SELECT 1") == 1


async def test_a_commit_whose_reply_is_lost_has_happened(
    proxy: FaultProxy, postgres_database: str, table: Any, connect: Connect
) -> None:
    cut = proxy.cut_after_request(contains(b"COMMIT"))
    for expected in (1, 2):
        connection = await connect(proxy.dsn(postgres_database))
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO t VALUES ($1)", expected)
        if expected == 1:
            with pytest.raises(LOST):
                await transaction.commit()
            await asyncio.wait_for(cut.wait(), 10)
        else:
            await transaction.commit()
        assert await table.fetchval("SELECT count(*) FROM t") == expected


async def test_pgbouncer_gives_a_client_another_backend(
    pgbouncer: PgBouncer, postgres_database: str, connect: Connect
) -> None:
    dsn = pgbouncer.dsn(postgres_database)
    first, second = [await connect(dsn, statement_cache_size=0) for _ in range(2)]
    transactions = [connection.transaction() for connection in (first, second)]
    backends: list[int] = []
    for connection, transaction in zip((first, second), transactions, strict=True):
        await transaction.start()
        backends.append(await connection.fetchval("SELECT pg_backend_pid()"))
    for transaction in transactions:
        await transaction.commit()
    seen = {await first.fetchval("SELECT pg_backend_pid()") for _ in range(4)}
    assert seen == set(backends)
    assert len(seen) == 2


async def test_pgbouncer_serves_many_clients_with_few_backends(
    pgbouncer: PgBouncer, postgres_database: str, connect: Connect
) -> None:
    dsn = pgbouncer.dsn(postgres_database)
    clients = await asyncio.gather(*(connect(dsn, statement_cache_size=0) for _ in range(20)))
    backends = await asyncio.gather(*(client.fetchval("SELECT pg_backend_pid(), pg_sleep(0.01)") for client in clients))
    assert 1 < len(set(backends)) <= 4


@pytest.mark.parametrize("program", [pgbouncer_module, chromium])
@pytest.mark.parametrize("ci", ["", "true"])
def test_what_happens_without_a_program(program: Any, ci: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.servers import plugin

    monkeypatch.setattr(program, "find", lambda: None)
    monkeypatch.setenv("CI", ci)
    [said] = [
        line for line in plugin.pytest_report_header(pytest.Config.fromdictargs({}, [])) if program.REMEDY in line
    ]
    assert ("fail" if ci else "NOT run") in said


async def test_a_child_process_talks_waits_and_is_killed() -> None:
    program = "print('ready'); print('got', input()); import sys; sys.stderr.write('trouble'); sys.exit(3)"
    async with ChildProcess("-c", program) as child:
        await child.wait_for_line("ready")
        child.pause()
        await child.write_line("this")
        child.resume()
        assert await child.read_line() == "got this"
        with pytest.raises(ServerError, match=r"exit code 3\ntrouble"):
            await child.read_line()
    async with ChildProcess("-c", "print('ready'); input()") as child:
        await child.wait_for_line("ready")
        assert await child.kill() == -9
