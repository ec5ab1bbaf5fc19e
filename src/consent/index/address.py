"""Where an index is: a URL as people write it, taken apart."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from consent.index.fault import IndexRefused

_EXPECTED: Final = (
    "expected redis://host:port/db, rediss://host:port/db, unix:///path?db=0,"
    " redis+cluster://host:port,host:port or redis+sentinel://host:port,host:port/service/db"
)


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

    def at(self, host: str, port: int) -> "Address":
        """Another node that one logs in to in the same way."""
        return replace(self, host=host, port=port, path="")


class Kind(StrEnum):
    """How the servers of an index belong together."""

    SINGLE = "single"
    CLUSTER = "cluster"
    SENTINEL = "sentinel"


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of one index.

    `doors` are whom to ask first: the one server, some nodes of a cluster, or sentinels. `login`
    is how to log in to a node that holds data, wherever it is; `service` is the name by which
    sentinels know it.
    """

    kind: Kind
    doors: tuple[Address, ...]
    login: Address
    service: str = ""

    @property
    def name(self) -> str:
        """May be shown and logged."""
        names = ",".join(door.name for door in self.doors)
        return f"{self.service} of {names}" if self.service else names


def parse_servers(url: str) -> Servers:
    """One server, a cluster, or what sentinels watch over.

    `redis://` and `unix://` with user, password and database as usual; `rediss` for TLS.
    `redis+cluster://user:password@host:port,host:port` names some nodes of a cluster,
    `redis+sentinel://user:password@host:port,host:port/service/db` sentinels and the service
    they watch, with `?sentinel_username=` and `&sentinel_password=` where they ask for them.

    Raises IndexRefused, without the password in its message.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise IndexRefused(f"index URL: the host is none: {_EXPECTED}") from error
    scheme, _, kind = parts.scheme.partition("+")
    if scheme not in {"redis", "rediss"} or kind not in {"", "cluster", "sentinel"}:
        if parts.scheme != "unix" or not parts.path:
            raise IndexRefused(f"index URL with scheme {parts.scheme!r}: {_EXPECTED}")
        kind = ""
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    service, _, database = parts.path.strip("/").partition("/")
    if kind != "sentinel":
        service, database = "", "" if parts.scheme == "unix" else parts.path.strip("/")
    try:
        data = Address(
            host="127.0.0.1",
            port=6379,
            path=unquote(parts.path) if parts.scheme == "unix" else "",
            tls=scheme == "rediss",
            user=unquote(user),
            password=unquote(password),
            database=int(query.get("db", "") or database or 0),
        )
        doors = tuple(_host(data, host, kind) for host in hosts.split(","))
    except ValueError as error:
        raise IndexRefused("index URL: the port or the database is not a number") from error
    if not kind:
        if len(doors) > 1:
            raise IndexRefused(f"index URL with {len(doors)} hosts and one server: {_EXPECTED}")
        return Servers(Kind.SINGLE, doors, doors[0])
    if kind == "cluster":
        if data.database:
            raise IndexRefused(f"index URL: database {data.database} of a cluster: expected 0")
        return Servers(Kind.CLUSTER, doors, data)
    if not service:
        raise IndexRefused(
            "index URL: sentinels without the service that they watch:"
            " expected redis+sentinel://host:port,host:port/service/db"
        )
    told = (query.get("sentinel_username", ""), query.get("sentinel_password", ""))
    doors = tuple(replace(door, user=told[0], password=told[1], database=0) for door in doors)
    return Servers(Kind.SENTINEL, doors, data, unquote(service))


def _host(login: Address, text: str, kind: str) -> Address:
    """Raises ValueError for a port that is none, or no host where several are named."""
    if login.path:
        return login
    at = urlsplit(f"//{text}")
    if kind and not at.hostname:
        raise ValueError(text)
    port = 26379 if kind == "sentinel" else 6379
    return login.at(at.hostname or login.host, at.port or port)
