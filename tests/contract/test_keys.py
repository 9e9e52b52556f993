"""The keys that replicas share: the same for all, and rotated so that replicas always understand each other."""

from __future__ import annotations

import asyncio
import json
from random import Random

import pytest
from cryptography.fernet import Fernet
from mcp.server.request_state import AESGCMRequestStateCodec, RequestStateSecurity

from mcp_persist_sa import InvalidInput, InvalidOption, PersistError
from mcp_persist_sa.identity import REQUEST_STATE
from tests.contract.beside import values
from tests.contract.support import Clock
from tests.databases import Database

HOUR, DAY = 3600, 24 * 3600
SECRET = Fernet.generate_key()


async def test_all_replicas_have_the_key_that_one_has_made(shared_database: Database) -> None:
    stores = [await shared_database.open() for _ in range(3)]
    keys = await asyncio.gather(*(store.request_state_keys(SECRET) for store in stores for _ in range(5)))
    assert all(each == keys[0] for each in keys)
    assert [len(key) for key in keys[0]] == [32]
    here, there = (RequestStateSecurity(keys=each) for each in keys[:2])
    assert there.codec.unseal(here.codec.seal(b"state")) == b"state"


async def test_a_new_key_verifies_before_it_signs_and_an_old_one_afterwards(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    [first] = await store.request_state_keys(SECRET)
    clock.advance(seconds=DAY - 1)
    assert await store.request_state_keys(SECRET) == [first]
    clock.advance(seconds=1)
    _, second = announced = await store.request_state_keys(SECRET)
    assert announced == [first, second]
    clock.advance(seconds=HOUR - 1)
    assert await store.request_state_keys(SECRET) == [first, second]
    clock.advance(seconds=1)
    assert await store.request_state_keys(SECRET) == [second, first]
    clock.advance(seconds=HOUR - 1)
    assert await store.request_state_keys(SECRET) == [second, first]
    clock.advance(seconds=1)
    assert await store.request_state_keys(SECRET) == [second]


async def test_replicas_that_ask_within_the_time_understand_each_other(
    shared_database: Database, clock: Clock, rng: Random
) -> None:
    stores = [await shared_database.open(clock=clock) for _ in range(3)]
    codecs = [AESGCMRequestStateCodec(await store.request_state_keys(SECRET)) for store in stores]
    asked = [clock.time] * 3
    tokens: list[tuple[float, str]] = []
    for _ in range(150):
        now = clock.advance(seconds=rng.randrange(1, 900))
        for place, store in enumerate(stores):
            if rng.random() < 0.3 or (now - asked[place]).total_seconds() > HOUR / 3:
                keys = await store.request_state_keys(SECRET, rotate_after=2 * HOUR)
                codecs[place], asked[place] = AESGCMRequestStateCodec(keys), now
        tokens = [(made, token) for made, token in tokens if now.timestamp() - made < 600]
        tokens += [(now.timestamp(), codec.seal(b"state")) for codec in codecs]
        for _, token in tokens:
            assert [codec.unseal(token) for codec in codecs] == [b"state"] * 3


async def test_keys_in_use_do_not_expire_with_the_state_of_handles(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, state_ttl=DAY)
    keys = await store.request_state_keys(SECRET, rotate_after=30 * DAY)
    for _ in range(5):
        clock.advance(hours=13)
        await store.purge()
        assert await store.request_state_keys(SECRET, rotate_after=30 * DAY) == keys
    clock.advance(hours=25)
    assert await store.request_state_keys(SECRET, rotate_after=30 * DAY) != keys


async def test_secrets_rotate_too(database: Database) -> None:
    store = await database.open()
    newer = Fernet.generate_key().decode()
    keys = await store.request_state_keys(SECRET)
    with pytest.raises(PersistError, match="another secret") as raised:
        await store.request_state_keys(newer)
    assert newer not in str(raised.value)
    assert raised.value.__cause__ is None
    assert await store.request_state_keys([newer, SECRET]) == keys
    # Now they are encrypted with the newer one.
    assert await store.request_state_keys(newer) == keys
    with pytest.raises(PersistError, match="another secret"):
        await store.request_state_keys(SECRET)


async def test_nothing_of_a_key_is_readable(shared_database: Database) -> None:
    store = await shared_database.open()
    [key] = await store.request_state_keys(SECRET)
    [value] = await values(shared_database)
    assert key.hex() not in value
    assert key.hex() in Fernet(SECRET).decrypt(json.loads(value)).decode()


async def test_no_handle_of_a_client_reaches_the_keys(database: Database) -> None:
    store = await database.open()
    with pytest.raises(InvalidInput, match="the store's own"):
        store.state(REQUEST_STATE)


@pytest.mark.parametrize("secret", ["too short", b"", [], [SECRET, "no"], "\udc00" * 32, 32])
async def test_a_secret_that_is_none_is_refused_and_not_shown(database: Database, secret: str) -> None:
    store = await database.open()
    with pytest.raises(InvalidOption, match=r"Fernet\.generate_key") as raised:
        await store.request_state_keys(secret)
    assert "too short" not in str(raised.value)


async def test_times_that_cannot_be_are_refused(database: Database) -> None:
    store = await database.open(state_ttl=HOUR)
    for times in ({"keep": 0}, {"keep": HOUR, "rotate_after": HOUR - 1}, {"keep": HOUR}):
        with pytest.raises(InvalidOption, match="keep"):
            await store.request_state_keys(SECRET, **times)
