"""Opening: what can go wrong is said, with what to do about it."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from mcp_persist_sa import (
    AccessDenied,
    InvalidDSN,
    InvalidOption,
    MissingExtra,
    PersistError,
    SchemaError,
    SchemaForeign,
    SchemaMissing,
    Store,
    StoreUnavailable,
    open_store,
)
from tests.servers import ChildProcess, PostgresServer, admin
from tests.servers.dsns import Dsn
from tests.servers.spawning import free_port, poll


async def _refused(dsn: str, kind: type[PersistError], said: str, **options: Any) -> PersistError:
    with pytest.raises(kind, match=said) as caught:
        async with open_store(dsn, **options):
            pass
    return caught.value


# SQLite files


async def test_a_directory_that_does_not_exist_is_said(tmp_path: Path) -> None:
    error = await _refused(f"sqlite:///{tmp_path}/none/x.db", StoreUnavailable, "none' does not exist. Create it")
    assert f"(Opening sqlite:///{tmp_path}/none/x.db)" in str(error)
    assert not (tmp_path / "none").exists()


async def test_a_directory_in_place_of_a_file_is_said(tmp_path: Path) -> None:
    await _refused(f"sqlite:///{tmp_path}", StoreUnavailable, "is a directory. Name a file in it")


async def test_a_directory_that_nobody_can_write_is_said() -> None:
    await _refused("sqlite:////proc/x.db", StoreUnavailable, "cannot be written|unable to open", timeout=0.2)


async def test_a_file_in_a_directory_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = f"sqlite:///{tmp_path}/x.db"
    async with open_store(dsn):
        pass
    # As for a user who may write the file but not its directory: whoever runs the tests may be allowed everything.
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)
    await _refused(dsn, StoreUnavailable, f"The directory '{tmp_path}' cannot be written.*permissions")


async def test_a_file_in_place_of_a_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    await _refused(f"sqlite:///{tmp_path}/file/x.db", StoreUnavailable, "does not exist")


async def test_a_file_that_is_no_database_is_said_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear Sir or Madam, " * 1000)
    await _refused(f"sqlite:///{file}", SchemaForeign, "not a database.*another file")
    assert file.read_text() == "Dear Sir or Madam, " * 1000


async def test_a_file_without_tables_is_only_filled_if_allowed(tmp_path: Path) -> None:
    dsn = f"sqlite:///{tmp_path}/x.db"
    await _refused(dsn, SchemaMissing, "mcp-persist-sa upgrade", migrate=False)
    async with open_store(dsn):
        pass
    async with open_store(dsn, migrate=False) as store:
        assert await store.append("session", "1", "x")


async def test_an_argument_that_the_sqlite_driver_does_not_know_is_said(tmp_path: Path) -> None:
    dsn = f"sqlite:///{tmp_path}/x.db"
    # It is said at once: to try again would not help.
    await asyncio.wait_for(_refused(dsn, InvalidDSN, "xyzzy", connect_args={"xyzzy": 1}, timeout=3600), 20)


# Postgres servers


async def test_a_server_that_refuses_is_said() -> None:
    dsn = f"postgresql://user:hunter2@127.0.0.1:{free_port()}/db"
    error = await _refused(dsn, StoreUnavailable, "Check that it runs and can be reached")
    assert "(Opening postgresql://user:***@127.0.0.1:" in str(error)


async def test_a_port_that_there_cannot_be_is_said() -> None:
    for port in ("99999", "none"):
        await _refused(f"postgresql://user:hunter2@127.0.0.1:{port}/db", InvalidDSN, "does not accept the DSN")


@pytest.fixture
def silent_port() -> Any:
    """A port where connections are taken and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_a_server_that_does_not_answer_is_given_up_after_the_time_to_connect(silent_port: int) -> None:
    dsn = f"postgresql://user:hunter2@127.0.0.1:{silent_port}/db"
    await _refused(dsn, StoreUnavailable, "did not answer within 0.2 s", connect_timeout=0.2)
    await _refused(f"{dsn}?connect_timeout=0.3", StoreUnavailable, "did not answer within 0.3 s")


async def test_a_wrong_password_is_said(own_postgres: PostgresServer) -> None:
    error = await _refused(own_postgres.dsn(password="hunter2"), AccessDenied, "password authentication failed")
    assert "Check user, password" in str(error)
    await _refused(own_postgres.dsn(user="nobody", password="hunter2"), AccessDenied, "nobody")
    assert "hunter2" not in str(error)


async def test_a_missing_database_is_said(postgres_server: PostgresServer) -> None:
    await _refused(postgres_server.dsn("no such database"), AccessDenied, "no such database.*does not exist.*database")


async def test_missing_tables_are_said(postgres_database: str) -> None:
    await _refused(postgres_database, SchemaMissing, "no tables of ours yet. Run `mcp-persist-sa upgrade`")
    async with open_store(postgres_database, migrate=True) as store:
        assert await store.append("session", "1", "x")


@pytest.mark.parametrize("table", ["mcp_events", "mcp_schema"])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_table_of_somebody_else_is_said_and_left_alone(
    kind: str, table: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dsn = f"sqlite:///{tmp_path}/x.db" if kind == "sqlite" else request.getfixturevalue("postgres_database")
    _make_table(dsn, table)
    for options in ({}, {"migrate": True}):
        error = await _refused(dsn, SchemaForeign, table, **options)
        assert "choose another" in str(error).lower()


def _make_table(dsn: str, table: str) -> None:
    if dsn.startswith("postgresql"):
        admin.execute(dsn, f"CREATE TABLE {table} (theirs int)")
        return
    with closing(sqlite3.connect(dsn.removeprefix("sqlite:///"))) as connection:
        connection.execute(f"CREATE TABLE {table} (theirs int)")


async def test_a_role_without_privileges_is_said(new_postgres: Callable[[], str]) -> None:
    dsn = new_postgres()
    async with _role(dsn) as as_role:
        await _refused(as_role, AccessDenied, "permission denied.*privileges")


@asynccontextmanager
async def _role(dsn: str, password: str = "one") -> AsyncGenerator[str, None]:
    """The DSN of a role of its own, that may only log in."""
    name = f"role_{secrets.token_hex(6)}"
    admin.execute(dsn, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    try:
        yield str(Dsn.parse(dsn)._replace(user=name, password=password))
    finally:
        admin.execute(dsn, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


async def test_an_argument_that_the_server_does_not_know_is_said(new_postgres: Callable[[], str]) -> None:
    dsn = new_postgres()
    await _refused(f"{dsn}?xyzzy=1", InvalidDSN, "xyzzy")
    await _refused(dsn, InvalidDSN, "xyzzy", connect_args={"xyzzy": 1})
    await _refused(dsn.replace("127.0.0.1:", "127.0.0.1:x"), InvalidDSN, "driver does not accept the DSN")


# Driver arguments


def _backends(dsn: str, application: str) -> int:
    return admin.fetch_value(
        dsn,
        "SELECT count(*) FROM pg_stat_activity "
        f"WHERE datname = current_database() AND application_name = '{application}'",
    )


def _gone(dsn: str, application: str) -> None:
    """The server ends a backend a moment after its client has gone."""
    poll(lambda: _backends(dsn, application) == 0, "the server has ended the connections")


async def test_arguments_reach_the_driver(new_postgres: Callable[[], str]) -> None:
    dsn = new_postgres()
    async with open_store(f"{dsn}?application_name=from_the_dsn&pool_size=1"):
        assert _backends(dsn, "from_the_dsn") == 1
    async with open_store(dsn, connect_args={"server_settings": {"application_name": "from_arguments"}}):
        assert _backends(dsn, "from_arguments") == 1


async def test_no_more_connections_are_opened_than_the_pool_may_have(new_postgres: Callable[[], str]) -> None:
    dsn = new_postgres()
    async with open_store(f"{dsn}?application_name=pooled", pool_size=3) as store:
        await store.append("session", "1", "x")
        await asyncio.gather(*(store.read("session", stream_id="1") for _ in range(50)))
        # And one on which other processes are heard.
        assert 1 < _backends(dsn, "pooled") <= 3 + 1
    _gone(dsn, "pooled")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
async def test_every_postgres_scheme_is_opened(new_postgres: Callable[[], str], scheme: str) -> None:
    dsn = new_postgres().replace("postgresql://", f"{scheme}://")
    async with open_store(f"{dsn}?ssl=disable") as store:
        assert await store.append("session", "1", "x")


async def test_of_several_hosts_one_that_answers_is_used(
    new_postgres: Callable[[], str], postgres_server: PostgresServer
) -> None:
    dead = f"127.0.0.1:{free_port()}"
    place = f"{postgres_server.host}:{postgres_server.port}"
    dsn = new_postgres()
    async with open_store(dsn.replace(place, f"{dead},{place}")) as store:
        await store.append("session", "1", "x")
    async with open_store(dsn.replace(place, f"{place},{dead}"), migrate=True) as store:
        assert len((await store.read("session", stream_id="1")).events) == 1
    await _refused(dsn.replace(place, f"{dead},{dead}"), StoreUnavailable, "can be reached")


@pytest.mark.parametrize(
    ("argument", "wants_tls"),
    [
        ("sslmode=disable", False),
        ("ssl=false", False),
        ("ssl=true", True),
        ("ssl=require", True),
        ("sslmode=require", True),
    ],
)
async def test_the_arguments_for_tls_reach_the_driver(argument: str, wants_tls: bool) -> None:
    asked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        if not asked.done():
            asked.set_result(first)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await _refused(f"postgresql://user@127.0.0.1:{port}/db?{argument}", StoreUnavailable, "Opening")
        ssl_request = bytes.fromhex("0000000804d2162f")
        assert (await asyncio.wait_for(asked, 20) == ssl_request) is wants_tls


# Passwords


async def test_a_password_from_a_callable_is_asked_for_each_connection(own_postgres: PostgresServer) -> None:
    dsn = own_postgres.create_database("rotation")
    async with open_store(dsn, migrate=True):
        pass
    asked: list[str] = []
    current = "one"

    def password() -> str:
        asked.append("sync")
        return current

    async def awaited() -> str:
        asked.append("async")
        await asyncio.sleep(0)
        return current

    async with _role(dsn) as as_role:
        role = Dsn.parse(as_role).user
        admin.execute(dsn, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        without = str(Dsn.parse(as_role)._replace(password=""))
        async with open_store(without, password=password) as one, open_store(without, password=awaited) as other:
            assert set(asked) == {"sync", "async"}
            await one.append("session", "1", "before")
            await other.append("session", "1", "before")
            current = "two"
            admin.execute(dsn, f"ALTER ROLE {role} PASSWORD 'two'")
            _disconnect(dsn, role)
            asked.clear()
            await one.append("session", "1", "after")
            await other.append("session", "1", "after")
            assert set(asked) == {"sync", "async"}
            current = "hunter2"
            _disconnect(dsn, role)
            for store in (one, other):
                with pytest.raises(AccessDenied) as caught:
                    await store.read("session", stream_id="1")
                assert "hunter2" not in str(caught.value)


def _disconnect(dsn: str, role: str) -> None:
    admin.execute(dsn, f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{role}'")


async def test_a_password_that_cannot_be_had_is_said(new_postgres: Callable[[], str]) -> None:
    def password() -> str:
        raise RuntimeError("the vault is sealed")

    await _refused(new_postgres(), PersistError, "the vault is sealed", password=password)


async def test_no_password_is_shown_whatever_fails(
    caplog: pytest.LogCaptureFixture, silent_port: int, own_postgres: PostgresServer
) -> None:
    place = f"127.0.0.1:{silent_port}"
    for dsn, options in (
        (f"postgresql://user:hunter2@{place}/db", {}),
        (f"postgresql://{place}/db?user=user&password=hunter2", {}),
        (f"postgresql://user@{place}/db", {"password": lambda: "hunter2"}),
        (f"postgresql://user@{place}/db", {"connect_args": {"password": "hunter2"}}),
        (f"postgresql://user:hunter2@127.0.0.1:{free_port()}/db", {}),
        (f"postgresql://user:hunter2@127.0.0.1:{free_port()},127.0.0.1:{free_port()}/db", {}),
        (own_postgres.dsn(password="hunter2"), {}),
        (own_postgres.dsn(password="hunter2") + "?xyzzy=1", {}),
        ("postgresql://user:hunter2@127.0.0.1:port/db", {}),
        ("redis://:hunter2@127.0.0.1/0", {}),
    ):
        store = Store(dsn, connect_timeout=0.1, **options)
        with pytest.raises(PersistError) as caught:
            await store.open()
        whole_trace = str(caught.getrepr(style="value", chain=True))
        for text in (whole_trace, repr(caught.value), repr(store), repr(store.options), str(store.options)):
            assert "hunter2" not in text
    assert "hunter2" not in caplog.text


# Extras


_WITHOUT = """
import asyncio, sys
for name in ("asyncpg", "redis", "fastmcp", "psycopg"):
    sys.modules[name] = None
from mcp_persist_sa import MissingExtra, open_store

async def main():
    async with open_store("sqlite://") as store:
        await store.append("session", "1", "x")
        print("sqlite works")
    for dsn in ("postgresql://user:hunter2@127.0.0.1:1/db", "redis://:hunter2@127.0.0.1:1"):
        try:
            await open_store(dsn).open()
        except MissingExtra as error:
            print(isinstance(error, ImportError), error)

asyncio.run(main())
"""


async def test_a_missing_extra_is_said_and_sqlite_needs_none() -> None:
    async with ChildProcess("-c", _WITHOUT) as child:
        assert await child.read_line() == "sqlite works"
        said = {extra: await child.read_line() for extra in ("postgres", "redis")}
        assert await child.wait() == 0
    for extra, line in said.items():
        assert line.startswith("True ")
        assert f"pip install 'mcp-persist-sa[{extra}]'" in line
        assert "hunter2" not in line


def test_every_error_of_opening_is_a_persist_error() -> None:
    for kind in (InvalidDSN, InvalidOption, MissingExtra, StoreUnavailable, AccessDenied, SchemaError):
        assert issubclass(kind, PersistError)


async def test_a_store_that_could_not_be_opened_leaves_nothing_running(postgres_database: str) -> None:
    before = asyncio.all_tasks()
    store = Store(f"{postgres_database}?application_name=left_over")
    with pytest.raises(SchemaMissing):
        await store.open()
    assert asyncio.all_tasks() == before
    _gone(postgres_database, "left_over")
    await store.close()
