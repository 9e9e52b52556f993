"""What is exported is imported exactly; a file that is not whole is refused before anything is written."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mcp_persist_sa import InvalidInput, InvalidOption, PersistError, SessionNotFound, open_store
from mcp_persist_sa.operations import Moved, copy, export_file, import_file, shipping
from mcp_persist_sa.operations.lines import record_of
from mcp_persist_sa.operations.walking import Size
from mcp_persist_sa.records import Parcel
from tests.contract.support import fill
from tests.moving.conftest import Pair
from tests.moving.support import contents, fill_all_kinds, key_of, keys


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
async def test_what_is_exported_is_imported_exactly(pair: Pair, tmp_path: Path, name: str) -> None:
    source, target = await pair.source.open(), await pair.target.open()
    await fill_all_kinds(source)
    await fill(source, "long", "1", 25)
    await source.state("handle").set("a", 1)
    wrote = await export_file(source, tmp_path / name, batch_size=10)
    assert (wrote.failures, wrote.seen, wrote.sessions) == ({}, 3, 1)
    for _ in range(2):
        read = await import_file(tmp_path / name, target, batch_size=10)
        assert (read.failures, read.events) == ({}, wrote.events)
        assert await keys(target) == await keys(source)
        for session in ("session", "long", "handle"):
            assert await contents(target, session) == await contents(source, session)
    again = tmp_path / f"again-{name}"
    await export_file(target, again, batch_size=7)
    # Redis gives its sessions in no particular order.
    assert sorted(_records(again)) == sorted(_records(tmp_path / name))
    assert (await copy(source, target)).events == 0


def _read(path: Path) -> bytes:
    """What a file holds."""
    return gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()


def _records(path: Path) -> list[bytes]:
    return _read(path).splitlines()[:-1]


@pytest.fixture
async def exported(tmp_path: Path) -> Path:
    """An export of a session."""
    path = tmp_path / "export.jsonl"
    async with open_store("sqlite://") as store:
        await fill_all_kinds(store)
        await export_file(store, path)
    return path


async def test_one_session_is_exported_alone(tmp_path: Path, pair: Pair) -> None:
    source = await pair.source.open()
    await fill(source, "one", "1", 2)
    await fill(source, "other", "1", 2)
    await export_file(source, tmp_path / "one.jsonl", "one")
    target = await pair.target.open()
    await import_file(tmp_path / "one.jsonl", target)
    assert await keys(target) == {key_of(source, "one")}
    with pytest.raises(SessionNotFound):
        await export_file(source, tmp_path / "none.jsonl", "none")
    assert _names(tmp_path) == ["one.jsonl"]


@pytest.mark.parametrize("name", ["both.jsonl", "both.jsonl.gz"])
async def test_exports_to_one_file_do_not_disturb_each_other(tmp_path: Path, pair: Pair, name: str) -> None:
    source, target = await pair.source.open(), await pair.target.open()
    await fill_all_kinds(source)
    await asyncio.gather(*(export_file(source, tmp_path / name, batch_size=size) for size in (1, 2)))
    assert (await import_file(tmp_path / name, target)).failures == {}
    assert await contents(target, "session") == await contents(source, "session")
    assert _names(tmp_path) == [name]


async def test_names_of_sessions_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "_REMEMBERED", 10)
    async with open_store("sqlite://") as source, open_store("sqlite://") as target:
        shipped = shipping.Shipping(target.backend, Size(4), Moved(), None)
        for n in range(40):
            await source.sessions.create(f"session-{n}")
            (record,) = await contents(source, f"session-{n}")
            await shipped.add(Parcel(key_of(source, f"session-{n}"), (record,)))
        known = [n for n in range(40) if shipped.name(key_of(source, f"session-{n}")) == f"session-{n}"]
    assert known == list(range(known[0], 40))
    assert len(known) <= 10 + 4


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.jsonl*"))


def _write(path: Path, text: bytes) -> None:
    path.write_bytes(text)


def _cut(text: bytes) -> bytes:
    return text[: len(text) // 2]


def _without_a_line(text: bytes) -> bytes:
    lines = text.splitlines(keepends=True)
    return b"".join(lines[:5] + lines[6:])


DAMAGES: dict[str, Any] = {
    "cut off": _cut,
    "without its end": lambda text: b"".join(text.splitlines(keepends=True)[:-1]),
    "without a line": _without_a_line,
    "changed": lambda text: text.replace(b'"alice"', b'"mally"'),
    "empty": lambda text: b"",
    "too deep": lambda text: b"[" * 100_000,
    "binary": lambda text: b"\xff\x00\x01",
    "other JSON": lambda text: b'{"type":"other"}\n',
    "of a later release": lambda text: text.replace(b'"version":1', b'"version":2', 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_file_that_is_not_whole_is_refused(exported: Path, pair: Pair, damage: str) -> None:
    _write(exported, DAMAGES[damage](_read(exported)))
    target = await pair.target.open()
    with pytest.raises(InvalidInput):
        await import_file(exported, target)
    assert await keys(target) == set()


async def test_a_damaged_gzip_is_refused(exported: Path, pair: Pair, tmp_path: Path) -> None:
    packed = tmp_path / "export.jsonl.gz"
    target = await pair.target.open()
    for data in (_cut(gzip.compress(_read(exported))), _read(exported)):
        _write(packed, data)
        with pytest.raises(InvalidInput):
            await import_file(packed, target)


async def test_what_cannot_be_read_or_written_is_said(exported: Path, pair: Pair, tmp_path: Path) -> None:
    target = await pair.target.open()
    with pytest.raises(PersistError, match="No such file"):
        await import_file(tmp_path / "none.jsonl", target)
    with pytest.raises(PersistError, match="cannot be written"):
        await export_file(target, tmp_path / "none" / "x.jsonl")
    for wrong in (exported / "x.jsonl", tmp_path, Path()):
        with pytest.raises(PersistError, match="cannot be written"):
            await export_file(target, wrong)
    assert _names(tmp_path) == [exported.name]
    with pytest.raises(InvalidOption, match="namespace"):
        await import_file(exported, await pair.target.open(namespace="other"))


async def test_a_session_that_is_another_one_there_is_said(exported: Path, pair: Pair) -> None:
    target = await pair.target.open()
    await target.sessions.create("session")
    moved = await import_file(exported, target)
    assert (moved.failed, [*moved.failures]) == (1, ["session"])


WRONG: list[tuple[str, str, Any]] = [
    ("event", "sequence", -1),
    ("event", "sequence", True),
    ("event", "sequence", 10**18),
    ("event", "nonce", "short"),
    ("event", "message", 1),
    ("event", "message", "\0"),
    ("event", "message", "\ud800"),
    ("event", "created_at", "yesterday"),
    ("event", "created_at", "2026-01-01T00:00:00"),
    ("event", "created_at", "0001-01-01T00:00:00+10:00"),
    ("event", "final", 1),
    ("event", "session_key", "../../etc/passwd"),
    ("stream", "stream_key", None),
    ("stream", "stream_id", "é"),
    ("stream", "more", 1),
    ("session", "session_id", "another"),
    ("session", "metadata", []),
    ("session", "metadata", "abc"),
    ("state", "version", "1"),
    ("state", "type", "other"),
    ("state", "type", []),
]


@pytest.mark.parametrize(("kind", "field", "value"), WRONG)
async def test_a_record_that_cannot_be_is_refused(exported: Path, kind: str, field: str, value: Any) -> None:
    line = next(line for line in _read(exported).splitlines() if f'"type":"{kind}"'.encode() in line)
    assert len(record_of(line, "")[0]) == 20
    with pytest.raises(InvalidInput):
        record_of(json.dumps({**json.loads(line), field: value}).encode(), "")
