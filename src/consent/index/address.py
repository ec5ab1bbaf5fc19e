"""The address of an index server: a URL as people write it, taken apart."""

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from consent.index.fault import IndexRefused


@dataclass(frozen=True, slots=True)
class Address:
    """`path` is that of a Unix socket, "" for TCP; `name` may be shown and logged."""

    host: str
    port: int
    path: str
    tls: bool
    user: str
    password: str
    database: int

    @property
    def name(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def parse_address(url: str) -> Address:
    """`redis://`, `rediss://` (TLS) or `unix://`, with user, password and database as usual.

    Raises IndexRefused, without the password in its message.
    """
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        local = parts.scheme == "unix"
        database = query.get("db", [""])[0] or ("" if local else parts.path.strip("/"))
        address = Address(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 6379,
            path=unquote(parts.path) if local else "",
            tls=parts.scheme == "rediss",
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=int(database or 0),
        )
    except ValueError as error:
        raise IndexRefused("index URL: the port or the database is not a number") from error
    if parts.scheme not in {"redis", "rediss", "unix"} or (local and not address.path):
        raise IndexRefused(
            f"index URL with scheme {parts.scheme!r}: expected redis://host:port/db,"
            " rediss://host:port/db or unix:///path?db=0"
        )
    return address
