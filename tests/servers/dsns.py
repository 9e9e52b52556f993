"""Take `postgresql://` DSNs apart and put them together."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit


class Dsn(NamedTuple):
    user: str
    password: str
    host: str
    port: int
    database: str
    query: str

    @classmethod
    def parse(cls, text: str) -> Dsn:
        parts = urlsplit(text)
        return cls(
            user=unquote(parts.username or "postgres"),
            password=unquote(parts.password or ""),
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 5432,
            database=unquote(parts.path.lstrip("/")) or "postgres",
            query=parts.query,
        )

    def __str__(self) -> str:
        secret = f":{quote(self.password, safe='')}" if self.password else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = f"?{self.query}" if self.query else ""
        return f"postgresql://{quote(self.user, safe='')}{secret}@{host}:{self.port}/{quote(self.database)}{query}"


def at(dsn: str, host: str, port: int) -> str:
    """Return `dsn` with another host and port."""
    return str(Dsn.parse(dsn)._replace(host=host, port=port))
