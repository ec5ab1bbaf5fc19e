"""Where an index is: a URL as people write it, taken apart."""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from consent.index.fault import IndexRefused

_EXPECTED: Final = (
    "expected redis://host:port/db, rediss://host:port/db, unix:///path?db=0,"
    " redis+cluster://host:port,host:port or redis+sentinel://host:port,host:port/service/db"
)
_PARTS: Final = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?", re.DOTALL)
"""RFC 3986, appendix B. `urlsplit` expects one host there: that of Debian and of newer Pythons
refuses an IPv6 address that is not the first of several."""


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
    full, netloc, path, asked = _PARTS.findall(url)[0]
    full = full.lower()
    scheme, _, kind = full.partition("+")
    if scheme not in {"redis", "rediss"} or kind not in {"", "cluster", "sentinel"}:
        if full != "unix" or not path:
            raise IndexRefused(f"index URL with scheme {full!r}: {_EXPECTED}")
        kind = ""
    query = {name: values[0] for name, values in parse_qs(asked).items()}
    login, _, hosts = netloc.rpartition("@")
    user, _, password = login.partition(":")
    service, _, database = path.strip("/").partition("/")
    if kind != "sentinel":
        service, database = "", "" if full == "unix" else path.strip("/")
    try:
        data = Address(
            host="127.0.0.1",
            port=6379,
            path=unquote(path) if full == "unix" else "",
            tls=scheme == "rediss",
            user=unquote(user),
            password=unquote(password),
            database=int(query.get("db", "") or database or 0),
        )
    except ValueError as error:
        raise IndexRefused(
            "index URL: the database is not a number (a slash in a password is written as %2F)"
        ) from error
    doors = tuple(_host(data, host, kind) for host in hosts.split(","))
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
    """Raises IndexRefused for a host or port that is none; where one server is meant, the host may
    lack."""
    if login.path:
        return login
    try:
        at = urlsplit(f"//{text}")
        host, port = at.hostname, at.port
    except ValueError as error:
        # It is not shown: after a password with a slash in it, it is a part of that.
        raise IndexRefused(f"index URL: the host or its port is none: {_EXPECTED}") from error
    if kind and not host:
        raise IndexRefused(f"index URL: a host without a name: {_EXPECTED}")
    return login.at(host or login.host, port or (26379 if kind == "sentinel" else 6379))
