"""The pages in a real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from mcp_persist_sa import Store, StoreUnavailable, open_store
from mcp_persist_sa.dashboard import app
from tests.dashboard.browser import Browser, Tab
from tests.dashboard.serving import Site, served

pytestmark = pytest.mark.xdist_group("browser")

HOSTILE = "<img/src=x/onerror=document.title='hacked'>"
NOTE = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"message": "hunter2"}})
RESULT = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {}})
MARKS = "document.querySelectorAll('#timeline .mark').length"
EVENTS = "document.querySelectorAll('#event-rows tr').length"
IDS = "[...document.querySelectorAll('#rows tr td:first-child')].map((cell) => cell.textContent).join(' ')"
CONTRAST = """(() => {
  const luminance = (colour) => {
    const parts = colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const low = [];
  for (const node of document.querySelectorAll("body *")) {
    const says = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!says || node.closest("svg, .fresh, noscript") || !node.checkVisibility()) continue;
    const [one, other] = [luminance(getComputedStyle(node).color), luminance(behind(node))].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) low.push(`${node.tagName} ${node.className} ${node.textContent}`);
  }
  return low;
})()"""
NAMELESS = """[...document.querySelectorAll("a, button, input, select, [role=region], section")]
  .filter((node) => !(node.textContent.trim() || node.labels?.length || node.getAttribute("aria-label")
    || node.getAttribute("aria-labelledby"))).map((node) => node.outerHTML)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests."""
    made = Browser()
    yield made
    made.close()


@pytest.fixture
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    tab = browser.open()
    await tab.look()
    yield tab
    tab.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        for number in range(3):
            await store.sessions.create(f"session-{number}", owner="alice" if number else "bob")
        await store.sessions.create(HOSTILE, owner=HOSTILE, tenant=HOSTILE, client_info={"name": HOSTILE})
        for message in (None, NOTE, NOTE):
            await store.append(HOSTILE, HOSTILE, message)
        await store.append(HOSTILE, HOSTILE, RESULT, final=True)
        yield store


@pytest.fixture
async def site(tmp_path: Path, store: Store) -> AsyncIterator[Site]:
    async with served(open_store(f"sqlite:///{tmp_path / 'store.db'}"), name=HOSTILE) as site:
        yield site


async def shown(tab: Tab, site: Site) -> None:
    await tab.go(site.url)
    await tab.until("document.querySelectorAll('#rows tr').length === 4 && document.querySelector('.card')")


async def session_shown(tab: Tab, site: Site) -> None:
    await shown(tab, site)
    await tab.value("document.querySelector('#rows a').click()")
    await tab.until(f"location.pathname.endsWith('session.html') && {MARKS} > 2 && {EVENTS} === 4")


async def test_the_pages_show_what_is_there_and_what_comes(tab: Tab, site: Site, store: Store) -> None:
    await shown(tab, site)
    await store.sessions.create("one-more")
    await tab.until(f"({IDS}).startsWith('one-more ')")
    await tab.go(f"{site.url}session.html?id=one-more")
    await tab.until("document.querySelector('#facts').textContent.includes('0 events in 0 streams')")
    await store.append("one-more", "1", NOTE)
    await tab.until(f"{MARKS} === 1 && {EVENTS} === 1")
    await store.append("one-more", "1", RESULT, final=True)
    await tab.until(f"{MARKS} === 2 && {EVENTS} === 2 && document.querySelector('#timeline .final')")
    await store.append("one-more", "2", NOTE)
    await tab.until("document.querySelectorAll('#rows tr').length === 2")
    await store.sessions.close("one-more")
    await tab.until("document.querySelector('#chip').textContent === 'closed'")
    assert tab.complaints() == []


async def test_nothing_that_a_client_has_sent_runs(tab: Tab, site: Site) -> None:
    await session_shown(tab, site)
    texts = await tab.value("['h1', '#facts', '#rows a', '#where'].map((at) => document.querySelector(at).textContent)")
    assert all(HOSTILE in text for text in texts)
    assert "hacked" not in (await tab.value("document.title")).replace(HOSTILE, "")
    assert await tab.value("document.querySelectorAll('img').length") == 1
    assert "hunter2" not in await tab.value("document.documentElement.outerHTML")
    assert tab.complaints() == []
    await tab.value(
        "document.body.insertAdjacentElement('beforeend', Object.assign(document.createElement('img'), "
        "{src: 'http://127.0.0.1:1/x.png'}))"
    )
    await tab.value("fetch('http://127.0.0.1:1/').catch(() => 0)")
    assert "Content Security Policy" in " ".join(tab.complaints()), "nothing can be loaded from elsewhere"


async def test_a_keyboard_is_enough(tab: Tab, site: Site) -> None:
    await shown(tab, site)
    await tab.press("/")
    for letter in "bob":
        await tab.press(letter)
    await tab.until(f"{IDS} === 'session-0' && location.search === '?text=bob'")
    for _ in range(10):
        await tab.press("Tab")
        if await tab.value("document.activeElement.closest('#rows') !== null"):
            break
    await tab.press("Enter")
    await tab.until("document.querySelector('h1').textContent === 'session-0'")
    await tab.go(f"{site.url}?text=alice")
    await tab.until(f"document.querySelector('#text')?.value === 'alice' && {IDS} === 'session-2 session-1'")
    assert tab.complaints() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
async def test_it_can_be_read_in_any_light_and_width(
    tab: Tab, site: Site, tmp_path: Path, dark: bool, width: int
) -> None:
    await tab.look(width=width, dark=dark)
    for show in (shown, session_shown):
        await show(tab, site)
        background = await tab.value("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background[4:-1].split(","))) < 3 * 64) is dark
        assert await tab.value(CONTRAST) == []
        assert await tab.value(NAMELESS) == []
        assert await tab.value("document.documentElement.scrollWidth <= innerWidth")
        await tab.picture(tmp_path / "seen.png")
        assert (tmp_path / "seen.png").stat().st_size > 10_000


async def test_what_was_said_is_shown_where_it_was_asked_for(tab: Tab, tmp_path: Path, store: Store) -> None:
    async with served(open_store(f"sqlite:///{tmp_path / 'store.db'}"), payloads=True) as site:
        await session_shown(tab, site)
        await tab.value("document.querySelectorAll('#event-rows details')[1].open = true")
        assert "hunter2" in await tab.value("document.querySelectorAll('#event-rows pre')[1].innerText")
        assert await tab.value("document.querySelector('#inside').checkVisibility()")


async def test_it_says_that_it_was_ended_and_goes_on_when_it_is_back(tab: Tab, tmp_path: Path, store: Store) -> None:
    dsn = f"sqlite:///{tmp_path / 'store.db'}"
    async with served(open_store(dsn)) as site:
        await shown(tab, site)
    await tab.until("document.querySelector('#banner').textContent.includes('does not answer')")
    await store.sessions.create("meanwhile")
    async with served(open_store(dsn), port=site.port):
        await tab.until(f"document.querySelector('#banner').hidden && ({IDS}).startsWith('meanwhile ')")


async def _fail(*_: object, **__: object) -> NoReturn:
    raise StoreUnavailable("the database is away")


async def test_events_that_could_not_be_read_are_read_again(
    tab: Tab, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shown(tab, site)
    with monkeypatch.context() as failing:
        failing.setattr(app, "events_page", _fail)
        await tab.value("document.querySelector('#rows a').click()")
        await tab.until("document.querySelector('#banner').textContent.includes('events cannot be read: the database')")
    await tab.until(f"document.querySelector('#banner').hidden && {EVENTS} === 4")


async def test_a_condition_that_cannot_be_told_is_said_to_be_unknown(
    tab: Tab, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    async with served(looked_at) as site:
        with monkeypatch.context() as failing:
            failing.setattr(looked_at, "health", _fail)
            await tab.go(site.url)
            await tab.until("document.querySelector('#condition').textContent === 'Not known'")
            assert "the database is away" in await tab.value("document.querySelector('#banner').textContent")
        await tab.until("document.querySelector('#banner').hidden")
        assert tab.complaints() == []
