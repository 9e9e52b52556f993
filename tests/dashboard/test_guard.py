"""Nobody is let in without the token or by another name, and what clients have sent runs nowhere."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_persist_sa import dashboard, open_store
from mcp_persist_sa.dashboard.guard import HEADERS
from mcp_persist_sa.dashboard.messages import inside, outside
from tests.dashboard.serving import TOKEN, Site, served

ASSETS = Path(dashboard.__file__).with_name("assets")
SCRIPT = "<script>alert(1)</script>"
LONE = f"{SCRIPT}\ud800"
"""With half of a pair, which JSON may have, and UTF-8 may not."""

PATHS = ("", "session.html", "overview.js", "api/store", "api/sessions", "api/events", "feed", "nothing")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    dsn = f"sqlite:///{tmp_path / 'store.db'}"
    async with open_store(dsn) as store:
        await store.sessions.create(SCRIPT, owner=SCRIPT, client_info={"name": LONE, "version": "1"})
        await store.append(SCRIPT, SCRIPT, json.dumps({"jsonrpc": "2.0", "method": LONE}))
    async with served(open_store(dsn), name=SCRIPT) as made:
        yield made


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", TOKEN.upper(), "%C3%BC", "%00", "../x", "."])
async def test_without_the_token_nothing_is_told(site: Site, token: str) -> None:
    for path in PATHS:
        for asked in (f"/{token}/{path}", f"/{path}?token={TOKEN}"):
            answer = await site.send(asked)
            assert (asked, answer.status) == (asked, 403)
            assert "This is not the address of this dashboard" in answer.text
            assert TOKEN not in answer.text


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "", "127.0.0.1:x", "[::1", "10.0.0.1"]
)
async def test_a_name_that_somebody_lets_point_here_is_refused(site: Site, host: str) -> None:
    answer = await site.send(f"/{TOKEN}/api/sessions", {"Host": f"{host}"})
    assert (answer.status, "script" in answer.text) == (421, False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9000", "LocalHost", "[::1]:80"])
async def test_a_tunnel_may_end_at_another_port_of_this_machine(site: Site, host: str) -> None:
    assert (await site.send(f"/{TOKEN}/api/store", {"Host": host})).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
async def test_nothing_can_be_changed(site: Site, method: str) -> None:
    answer = await site.send(f"/{TOKEN}/api/sessions", {"Host": "localhost", "Content-Length": "0"}, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


async def test_every_answer_says_what_the_browser_must_not_do(site: Site) -> None:
    at = {"Host": "localhost"}
    answers = [await site.send(f"/{TOKEN}/{path}", at) for path in PATHS if path != "feed"]
    refused = [await site.send("/x/", at), await site.send(f"/{TOKEN}/", {"Host": "evil"})]
    refused.append(await site.send(f"/{TOKEN}/", at, method="PUT"))
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 200, 404, 404]
    for answer in [*answers, *refused, await site.send(f"/{TOKEN}", at)]:
        assert {name: answer.headers.get(name.lower()) for name in HEADERS} == HEADERS
        assert "set-cookie" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


async def test_an_address_without_its_last_slash_is_led_to_the_page(site: Site) -> None:
    answer = await site.send(f"/{TOKEN}")
    assert (answer.status, answer.headers["location"]) == (308, f"/{TOKEN}/")
    assert (await site.send(f"/{TOKEN}/")).headers["content-type"].startswith("text/html")


async def test_what_clients_have_sent_is_data_everywhere(site: Site) -> None:
    for path in ("", "session.html"):
        assert SCRIPT not in (await site.get(path, id=SCRIPT)).text
    listed = await site.get("api/sessions", text=SCRIPT)
    assert listed.headers["content-type"] == "application/json"
    assert [(session["id"], session["client"]) for session in listed.json["sessions"]] == [(SCRIPT, f"{LONE} 1")]
    async with site.feed(SCRIPT) as feed:
        told = await feed.until("session")
    [stream] = told["streams"]
    assert (stream["name"], stream["points"][0][3]) == (SCRIPT, LONE)
    page = await site.get("api/events", session=SCRIPT, stream=stream["key"])
    assert [event["name"] for event in page.json["events"]] == [LONE]


async def test_files_beside_the_assets_are_not_served(site: Site) -> None:
    for path in ("../guard.py", "%2e%2e/guard.py", "..%2fguard.py", "assets/overview.js", "overview.js/"):
        assert (path, (await site.send(f"/{TOKEN}/{path}", {"Host": "localhost"})).status) == (path, 404)


@pytest.mark.parametrize("path", sorted(ASSETS.iterdir()), ids=lambda path: path.name)
def test_assets_hold_nothing_from_elsewhere_and_nothing_inline(path: Path) -> None:
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|setHTML", text)
    if path.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    assert len(text.splitlines()) < 300


def test_of_a_message_its_outside_is_told() -> None:
    told = {
        None: ("priming", None),
        "": ("other", None),
        "[" * 100_000: ("other", None),
        "[]": ("other", None),
        '{"method": 7}': ("other", None),
        f'{{"id": {"9" * 5000}}}': ("other", None),
        '{"method": "%s"}' % ("m" * 200): ("notification", "m" * 80),
        '{"method": "m", "id": null}': ("request", "m"),
        '{"result": null}': ("result", None),
        '{"error": {"code": "<b>"}}': ("error", None),
        '{"error": {"code": -1, "message": "x"}}': ("error", "-1"),
    }
    assert {message: outside(message)[:2] for message in told} == told
    assert outside('"ü"').size == 4
    assert (inside(None), inside("x")) == (None, "x")
    assert len(inside("x" * 10**6) or "") < 10**5
