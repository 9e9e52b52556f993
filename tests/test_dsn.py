"""DSNs: which forms are taken, what is in their query, and what is said of those that are not understood."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from mcp_persist_sa import InvalidDSN, InvalidOption, PersistError, Store, open_store
from mcp_persist_sa.dsn import DEFAULT_FILE, ENVIRONMENT, default_dsn, parse

SQLITE = [
    ("sqlite://", ""),
    ("sqlite:///", ""),
    ("sqlite:///:memory:", ""),
    ("sqlite+aiosqlite://", ""),
    ("sqlite:///file.db", "file.db"),
    ("sqlite+aiosqlite:///file.db", "file.db"),
    ("SQLite:///file.db", "file.db"),
    ("sqlite:///./sub/file.db", "sub/file.db"),
    ("sqlite:////abs/file.db", "/abs/file.db"),
    ("sqlite:///a%20b%3Fc%23d%25.db", "a b?c#d%.db"),
    ("sqlite:///ä.db?pool_size=3", "ä.db"),
]


@pytest.mark.parametrize(("dsn", "path"), SQLITE)
def test_a_sqlite_dsn_names_a_file_or_none(dsn: str, path: str) -> None:
    parsed = parse(dsn)
    assert (parsed.kind, parsed.address) == ("sqlite", path)


POSTGRES = [
    ("postgresql://user:secret@host:1/db", "postgresql://user:secret@host:1/db"),
    ("postgres://user:secret@host:1/db", "postgresql://user:secret@host:1/db"),
    ("postgresql+asyncpg://user:secret@host/db", "postgresql://user:secret@host/db"),
    ("postgresql://h1:1,h2:2,[::1]:3/db", "postgresql://h1:1,h2:2,[::1]:3/db"),
    ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=%2Frun%2Fpostgresql"),
    (
        "postgresql://h/db?sslmode=verify-full&sslrootcert=/a b",
        "postgresql://h/db?sslmode=verify-full&sslrootcert=%2Fa%20b",
    ),
    ("postgresql+asyncpg://h/db?ssl=require", "postgresql://h/db?sslmode=require"),
    ("postgresql+asyncpg://h/db?ssl=verify-ca", "postgresql://h/db?sslmode=verify-ca"),
    ("postgresql+asyncpg://h/db?ssl=true", "postgresql://h/db?sslmode=require"),
    ("postgresql+asyncpg://h/db?ssl=False", "postgresql://h/db?sslmode=disable"),
    (
        "postgresql://h/db?application_name=a%26b&target_session_attrs=primary",
        "postgresql://h/db?application_name=a%26b&target_session_attrs=primary",
    ),
    ("postgresql://h/db?pool_size=3&application_name=x&timeout=5", "postgresql://h/db?application_name=x"),
]


@pytest.mark.parametrize(("dsn", "address"), POSTGRES)
def test_a_postgres_dsn_is_handed_to_the_driver_without_our_options(dsn: str, address: str) -> None:
    parsed = parse(dsn)
    assert (parsed.kind, parsed.address) == ("postgresql", address)


def test_options_in_the_query_have_their_types() -> None:
    options = Store(
        "sqlite:///x.db?event_ttl=None&session_ttl=90&state_ttl=1.5&background=false&migrate=True&pool_size=3"
        "&synchronous=NORMAL&namespace=my%20server"
    ).options
    assert (options.event_ttl, options.session_ttl, options.state_ttl) == (None, 90, 1.5)
    assert (options.background, options.migrate, options.pool_size) == (False, True, 3)
    assert (options.synchronous, options.namespace) == ("NORMAL", "my server")


@pytest.mark.parametrize("name", ["42", "true", "None", "[1]", "1_000", "0x10", "'quoted'", ""])
def test_a_name_in_the_query_stays_text(name: str) -> None:
    options = Store(f"postgresql://h/db?namespace={name}&schema={name}").options
    assert (options.namespace, options.schema) == (name, name)


def test_an_argument_has_precedence_over_the_query() -> None:
    assert Store("sqlite:///x.db?pool_size=3", pool_size=4).options.pool_size == 4
    assert open_store("sqlite:///x.db?pool_size=3").options.pool_size == 3


@pytest.mark.parametrize(
    "query",
    [
        "pool_size=many",
        "pool_size=0",
        "background=perhaps",
        "timeout=",
        "timeout={[]:1}",
        "synchronous=full",
        "namespace=%00",
    ],
)
def test_an_option_in_the_query_is_checked(query: str) -> None:
    with pytest.raises(InvalidOption, match=query.partition("=")[0]):
        Store(f"sqlite:///x.db?{query}")


@pytest.mark.parametrize("name", ["password", "clock", "connect_args"])
def test_what_is_no_text_cannot_stand_in_the_query(name: str) -> None:
    assert parse(f"postgresql://h/db?{name}=x").options == {}
    with pytest.raises(InvalidDSN, match=name):
        parse(f"sqlite:///x.db?{name}=x")


REFUSED: list[tuple[Any, str]] = [
    ("", "begins with"),
    ("file.db", "begins with"),
    ("/abs/file.db", "begins with"),
    ("://", "begins with"),
    ("mysql://h/db", "begins with"),
    ("sqlit:///x.db", "Did you mean sqlite://"),
    ("sqlite3:///x.db", "Did you mean sqlite://"),
    ("postgress://h/db", "Did you mean postgres://"),
    ("postgersql://h/db", "Did you mean postgresql://"),
    ("postgresql+psycopg://h/db", "Did you mean postgresql"),
    ("rediss+x://h", "Did you mean redis"),
    ("sqlite:/x.db", "begins with"),
    ("sqlite://x.db", "three slashes: sqlite:///x.db"),
    ("sqlite://home/x.db", "three slashes: sqlite:///home/x.db"),
    ("sqlite:///x.db?mode=ro", "'mode'"),
    ("sqlite:///x.db?pool_sise=3", "'pool_sise'"),
    ("sqlite:///x#1.db", "%23"),
    ("postgresql://user:a#b@h/db", "%23"),
    ("postgresql://user:a/b@h/db", "%2F"),
    ("postgresql://user:a?b@h/db", "%3F"),
    ("postgresql://[::1/db", "not understood"),
    ("postgresql://h\uff20/db", "not understood"),
    ("postgresql://h/db?pool_sise=3", "Did you mean pool_size"),
    ("redis://h?pool_sise=3", "Did you mean pool_size"),
    ("redis://h?key_prefix={a}", "key_prefix"),
    ("redis://h?wait_replicas=-1", "wait_replicas"),
]


@pytest.mark.parametrize(("dsn", "said"), REFUSED)
def test_a_dsn_that_is_not_understood_is_refused_with_what_to_do(dsn: str, said: str) -> None:
    with pytest.raises(PersistError) as caught:
        open_store(dsn)
    assert isinstance(caught.value, InvalidDSN | InvalidOption)
    assert said in str(caught.value)


REDIS = [
    ("redis://host:1/2", "redis://host:1/2"),
    ("rediss://user:secret@host?ssl_ca_certs=/a b&namespace=x", "rediss://user:secret@host?ssl_ca_certs=%2Fa%20b"),
    ("redis+cluster://h1:1,h2:2?key_prefix=a", "redis+cluster://h1:1,h2:2"),
    ("redis+sentinel://:secret@h1,h2:2/service/3?timeout=5", "redis+sentinel://:secret@h1,h2:2/service/3"),
]


@pytest.mark.parametrize(("dsn", "address"), REDIS)
def test_a_redis_dsn_is_handed_to_the_driver_without_our_options(dsn: str, address: str) -> None:
    parsed = parse(dsn)
    assert (parsed.kind, parsed.address) == ("redis", address)


# Without a DSN


def test_without_a_dsn_the_environment_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, "sqlite:///of_the_environment.db?pool_size=3")
    assert ENVIRONMENT == "MCP_PERSIST_SA_DSN"
    assert default_dsn() == "sqlite:///of_the_environment.db?pool_size=3"
    assert open_store().options.pool_size == 3
    assert open_store("sqlite://").options.pool_size != 3


async def test_without_any_dsn_a_file_in_the_working_directory_is_opened_and_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO):
        async with open_store() as store:
            await store.append("session", "1", "x")
    assert (tmp_path / DEFAULT_FILE).is_file()
    said = [record.getMessage() for record in caplog.records if DEFAULT_FILE in record.getMessage()]
    assert len(said) == 1
    assert ENVIRONMENT in said[0]
    monkeypatch.setenv(ENVIRONMENT, "")
    assert default_dsn() == f"sqlite:///{DEFAULT_FILE}"


async def test_a_file_is_relative_to_the_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store("sqlite:///a%20b%23.db"):
        pass
    assert (tmp_path / "a b#.db").is_file()


# Passwords


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:hunter2@host/db",
        "postgresql://user:hunter2@h1:1,h2:2/db",
        "postgresql://user:hunter2@two@host/db",
        "postgresql://user:hun:ter2@hunter2@host/db",
        "postgresql://host/db?user=u&password=hunter2",
        "postgresql+asyncpg://:hunter2@host/db?sslpassword=hunter2",
        "redis://:hunter2@host:6379/0",
    ],
)
def test_a_parsed_dsn_shows_no_password(dsn: str) -> None:
    parsed = parse(dsn)
    for text in (parsed.safe, repr(parsed), str(parsed), repr(Store(dsn)), repr(Store(dsn).options)):
        assert "hunter2" not in text
    assert "host" in parsed.safe or "h1:1,h2:2" in parsed.safe


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresq://user:hunter2@host/db",
        "user:hunter2@host/db",
        "hunter2",
        "sqlite://user:hunter2@host/db",
        "postgresql://user:hunter2/x@host/db",
        "postgresql://user:x/hunter2@host/db",
        "postgresql://user:hunter2#x@host/db",
        "postgresql://user:x#hunter2@host/db",
        "postgresql://user:hunter2?x@host/db",
        "postgresql://user:x?hunter2@host/db",
        "postgresql://user:hunter2@[::1/db",
        "postgresql://user:hunter2\uff20x@host/db",
        "postgresql://user:hunter2@host/db?pool_size=x",
        "postgresql://user:hunter2@host/db?pool_sise=1",
    ],
)
def test_a_dsn_that_is_refused_shows_no_password(dsn: str) -> None:
    with pytest.raises(PersistError) as caught:
        open_store(dsn)
    assert "hunter2" not in str(caught.getrepr(style="short", chain=True, showlocals=False)).replace(repr(dsn), "")
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
