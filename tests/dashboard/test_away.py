"""A store that is away is shown to be, and the dashboard goes on when it is back."""

from __future__ import annotations

from mcp_persist_sa import open_store
from tests.contract.support import fill
from tests.dashboard.serving import served
from tests.servers.postgres import PostgresServer


async def test_it_says_so_and_recovers(own_postgres: PostgresServer) -> None:
    dsn = own_postgres.create_database("shown")
    async with open_store(dsn, migrate=True) as store:
        await store.sessions.create("session")
        await fill(store, "session", "1", 3)
    async with served(open_store(dsn, timeout=2)) as site, site.feed() as all_of_it, site.feed("session") as feed:
        assert (await feed.until("condition"))["reachable"] is True
        await all_of_it.until("figures", lambda told: told.get("events") == 3)
        since = (await feed.until("condition"))["since"]
        own_postgres.kill()
        away = await feed.until("condition", lambda told: not told["reachable"])
        assert away["error"]
        assert away["since"] >= since
        answer = await site.get("api/sessions")
        assert answer.status == 503
        assert answer.json["error"]
        own_postgres.start()
        await feed.until("condition", lambda told: told["reachable"])
        async with open_store(dsn) as store:
            await fill(store, "session", "1", 2)
        await feed.until("session", lambda told: told["total"]["events"] == 5)
        await all_of_it.until("figures", lambda told: told.get("events") == 5)
        assert (await site.get("api/sessions")).status == 200
