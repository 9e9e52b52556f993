"""A host application: a table of its own, and a store, in one database.

Run it as `HOST_DATABASE_URL=sqlite+aiosqlite:///host.db python application.py`, after the migrations.
"""

import asyncio
import os

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from mcp_persist_sa import open_store

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

invoices = sa.Table(
    "invoices",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("session_id", sa.Text, nullable=False, index=True),
    sa.Column("cents", sa.Integer, nullable=False),
    sa.CheckConstraint("cents > 0", name="cents_positive"),
)


async def main(url: str) -> None:
    """Write an invoice, and an event that says so."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(invoices.insert().values(session_id="session", cents=100))
    await engine.dispose()
    async with open_store(url) as store:
        await store.append("session", "stream", '{"invoice": 100}')
        page = await store.read("session", stream_id="stream")
    print(f"{len(page.events)} events")


if __name__ == "__main__":
    asyncio.run(main(os.environ["HOST_DATABASE_URL"]))
