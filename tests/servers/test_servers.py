"""The test servers do what the other tests rely on."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.servers import (
    ChildProcess,
    Databases,
    PostgresServer,
    ServerError,
    admin,
    binaries,
)
from tests.servers.conftest import LOST, Connect
from tests.servers.dsns import Dsn
from tests.servers.spawning import free_port, is_alive, poll

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def test_every_test_has_an_empty_database_on_the_chosen_server(
    postgres_server: PostgresServer, postgres_database: str, connect: Connect
) -> None:
    connection = await connect(postgres_database)
    assert await connection.fetchval("SELECT current_database()") == Dsn.parse(postgres_database).database
    assert await connection.fetchval("SELECT count(*) FROM pg_stat_user_tables") == 0
    assert str(postgres_server.port) in postgres_server.choice


@pytest.mark.parametrize("own_postgres", [{"work_mem": "5MB"}], indirect=True)
async def test_a_private_server_wants_the_password_and_has_its_settings(
    own_postgres: PostgresServer, connect: Connect
) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(own_postgres.dsn(password="wrong"))
    connection = await connect(own_postgres.dsn())
    names = ("fsync", "max_connections", "listen_addresses", "work_mem")
    settings = [await connection.fetchval(f"SHOW {name}") for name in names]
    assert settings == ["on", "200", "127.0.0.1", "5MB"]
    assert own_postgres.port != 5432


async def test_clones_of_a_template_are_independent(
    postgres_template: Databases, postgres_from_template: Callable[[str], str], connect: Connect
) -> None:
    async def migrate(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
        await connection.close()

    template = postgres_template.template("test_servers", migrate)
    assert postgres_template.template("test_servers", migrate) == template
    first, second = await connect(postgres_from_template(template)), await connect(postgres_from_template(template))
    await first.execute("INSERT INTO t VALUES (2)")
    assert await first.fetchval("SELECT count(*) FROM t") == 2
    assert await second.fetchval("SELECT count(*) FROM t") == 1


async def test_a_paused_server_is_silent_and_then_goes_on(own_postgres: PostgresServer, connect: Connect) -> None:
    connection = await connect(own_postgres.dsn())
    own_postgres.pause()
    query = asyncio.ensure_future(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([query], timeout=0.1)
    assert not done
    own_postgres.resume()
    assert await asyncio.wait_for(query, 10) == 1


async def test_a_killed_server_keeps_what_was_committed(own_postgres: PostgresServer, connect: Connect) -> None:
    dsn = own_postgres.create_database("kept")
    connection = await connect(dsn)
    await connection.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
    port = own_postgres.port
    own_postgres.kill()
    with pytest.raises(LOST):
        await connection.fetchval("SELECT 1")
    with pytest.raises(ConnectionRefusedError):
        await connect(dsn)
    own_postgres.start()
    assert own_postgres.port == port
    assert await (await connect(dsn)).fetchval("SELECT n FROM t") == 1
    assert "database system was not properly shut down" in own_postgres.log()
    own_postgres.stop()
    own_postgres.start()
    assert await (await connect(dsn)).fetchval("SELECT n FROM t") == 1


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill, PostgresServer.pause])
def test_a_private_server_leaves_nothing(end: Callable[[PostgresServer], None]) -> None:
    with PostgresServer(private=True) as server:
        pid, folder = server.pid, server.folder
        assert folder.is_dir()
        end(server)
    assert not is_alive(pid)
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a process when its parent dies")
@pytest.mark.parametrize("before_the_end", ["", "server.pause()"], ids=["running", "paused"])
async def test_no_server_outlives_killed_tests(before_the_end: str) -> None:
    program = f"""
from tests.servers import PostgresServer
server = PostgresServer(private=True)
server.start()
{before_the_end}
print(server.pid, server.folder)
input()
"""
    async with ChildProcess("-c", program) as child:
        pid, folder = (await child.read_line()).split()
        assert is_alive(int(pid))
        assert await child.kill() == -9
    poll(lambda: not is_alive(int(pid)), "the server has ended", timeout=20)
    shutil.rmtree(folder)


def test_the_environment_can_name_a_running_server(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(binaries.DSN_VARIABLE, postgres_server.dsn())
    with PostgresServer() as server:
        assert "running already" in server.choice
        assert server.dsn("other") == postgres_server.dsn("other")
        with pytest.raises(ServerError, match="own_postgres"):
            server.kill()
    assert admin.fetch_value(postgres_server.dsn(), "SELECT 1") == 1
    monkeypatch.setenv(binaries.DSN_VARIABLE, f"postgresql://postgres:secret@127.0.0.1:{free_port()}/postgres")
    with pytest.raises(ServerError, match=binaries.DSN_VARIABLE) as failure, PostgresServer():
        pass
    assert "secret" not in str(failure.value)


def test_a_missing_server_is_an_error_that_names_the_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_candidates", lambda: iter(()))
    monkeypatch.delenv(binaries.BIN_VARIABLE, raising=False)
    for value in ("", str(tmp_path)):
        monkeypatch.setenv(binaries.BIN_VARIABLE, value)
        with pytest.raises(ServerError, match=r"pip install -e '\.\[test\]'"):
            PostgresServer(private=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as another account")
def test_binaries_that_the_account_cannot_read_are_copied(tmp_path: Path, connect: Connect) -> None:
    found = binaries.find_binaries()
    package = found.folder.parent.parent
    hidden = tmp_path / "hidden"
    shutil.copytree(package, hidden / package.name, symlinks=True)
    if (libraries := package.with_name(f"{package.name}.libs")).is_dir():
        shutil.copytree(libraries, hidden / libraries.name, symlinks=True)
    hidden.chmod(0o700)
    folder, version = binaries.runnable(binaries.Binaries(hidden / found.folder.relative_to(package.parent), "a test"))
    assert hidden not in folder.parents
    assert version.startswith("PostgreSQL")
