"""Keys that all replicas share, encrypted with a secret of the operator's."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mcp_persist_sa.errors import InvalidOption, PersistError, VersionConflict
from mcp_persist_sa.options import Options
from mcp_persist_sa.state import State

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

Secret = str | bytes

HOUR = 60 * 60.0
DAY = 24 * HOUR

_NAME = "keys"
_BYTES = 32


class _Key(NamedTuple):
    made_at: float
    secret: str


class _Ring(NamedTuple):
    """The keys, oldest first, and when they were written down."""

    written_at: float
    keys: list[_Key]

    def rotated(self, now: float, rotate_after: float, keep: float) -> _Ring:
        """With a new key if it is time, and without those that the next one has replaced for long enough."""
        keys = [*self.keys]
        if not keys or now - keys[-1].made_at >= rotate_after:
            keys.append(_Key(now, secrets.token_hex(_BYTES)))
        while len(keys) > 1 and now - keys[1].made_at >= 2 * keep:
            del keys[0]
        return self if keys == self.keys else _Ring(now, keys)

    def in_order(self, now: float, keep: float) -> list[bytes]:
        """First the newest that every replica knows by now, or the oldest of all; then the others, newest first."""
        known = [key for key in self.keys if now - key.made_at >= keep] or self.keys[:1]
        others = [key for key in reversed(self.keys) if key != known[-1]]
        return [bytes.fromhex(key.secret) for key in (known[-1], *others)]


async def shared_keys(
    state: State, options: Options, secret: Secret | Sequence[Secret], rotate_after: float, keep: float
) -> list[bytes]:
    """Read the keys, and write down what has changed; see `Store.request_state_keys`."""
    _check(options, rotate_after, keep)
    box = _Box([secret] if isinstance(secret, str | bytes) else secret)
    ttl = options.span("state_ttl")
    while True:
        now = time.time() if options.clock is None else options.clock().timestamp()
        entry = await state.entry(_NAME)
        stored = _Ring(now, []) if entry is None else box.open(entry.value)
        ring = stored.rotated(now, rotate_after, keep)
        if ttl is not None and now - stored.written_at >= ttl.total_seconds() / 4:
            # What is not written again expires.
            ring = _Ring(now, ring.keys)
        if ring is stored and not (entry and box.is_older(entry.value)):
            return ring.in_order(now, keep)
        try:
            await state.compare_and_set(_NAME, box.sealed(ring), version=entry.version if entry else 0)
        except VersionConflict:
            continue
        return ring.in_order(now, keep)


def _check(options: Options, rotate_after: float, keep: float) -> None:
    if not 0 < keep <= rotate_after:
        raise InvalidOption("keep is a number of seconds above 0, and at most rotate_after.")
    ttl = options.span("state_ttl")
    if ttl is not None and ttl.total_seconds() < 2 * keep:
        raise InvalidOption("The option state_ttl is less than twice keep, so keys that are in use might expire.")


class _Box:
    """Encrypts with the first secret, decrypts with all."""

    def __init__(self, given: Sequence[Secret]) -> None:
        # Not with the module: whoever has no use for shared keys need not wait for it.
        from cryptography.fernet import Fernet, InvalidToken, MultiFernet

        self._refused = InvalidToken
        try:
            boxes = [Fernet(secret) for secret in given]
            self._first, self._all = MultiFernet(boxes[:1]), MultiFernet(boxes)
        except (ValueError, TypeError):
            raise InvalidOption(
                "A secret is 32 bytes in URL-safe base64, and at least one is needed. Make one with: "
                'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
            ) from None

    def sealed(self, ring: _Ring) -> str:
        return self._first.encrypt(json.dumps(ring).encode()).decode()

    def open(self, value: object) -> _Ring:
        written_at, keys = json.loads(self._decrypted(self._all, value))
        return _Ring(written_at, [_Key(*key) for key in keys])

    def _decrypted(self, box: MultiFernet, value: object) -> bytes:
        try:
            return box.decrypt(str(value).encode())
        except self._refused:
            raise PersistError(
                "The shared keys in the store were encrypted with another secret. Give that one too, after the new one."
            ) from None

    def is_older(self, value: object) -> bool:
        """Whether it was encrypted with another secret than the first."""
        try:
            self._decrypted(self._first, value)
        except PersistError:
            return True
        return False
