"""Requests without sessions: of the newer, stateless era, and of a host in its stateless mode."""

from __future__ import annotations

import pytest

from mcp_persist_sa import open_store
from tests.nodes.cluster import Cluster
from tests.nodes.conftest import MakeCluster, Started
from tests.nodes.environments import LINE_OF
from tests.nodes.test_official import ask, said

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_both_eras_share_an_endpoint_and_the_stateless_one_stores_nothing(
    cluster: Cluster, started: Started
) -> None:
    if LINE_OF[cluster.host] == "mcp1":
        # The 1.x line knows one era.
        assert cluster.host == "fastmcp1"
        return
    async with open_store(cluster.dsn) as store:
        before = await store.sessions.count()
        child = await started.official("stateless", cluster.balancer)
        assert await said(child) == {"connected": "2026-07-28"}
        names = {(await ask(child, "who"))[-1]["result"] for _ in range(4)}
        assert names == {str(node.pid) for node in cluster.nodes}
        heard = await ask(child, "count", to=3)
        assert [each["progress"][0] for each in heard[:-1]] == [1, 2, 3]
        [refused] = await ask(child, "recall", key="colour")
        assert "store.state(handle)" in refused["result"]
        assert await store.sessions.count() == before
        assert await (await cluster.session()).result("echo", text="with a session") == "with a session"
        assert await store.sessions.count() == before + 1


async def test_a_host_in_its_stateless_mode_has_no_sessions(make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(settings={"stateless_http": True})
    client = await cluster.session()
    assert client.session_id is None
    assert {await client.result("who") for _ in range(4)} == {str(node.pid) for node in cluster.nodes}
    assert "store.state(handle)" in await client.result("recall", key="colour")
    async with open_store(cluster.dsn) as store:
        assert await store.sessions.count() == 0
