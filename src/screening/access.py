"""Who may ask for what: keys with roles, and what each client may assert about a call.

Keys stand in `keys.json` by their SHA-256. A key is 256 random bits, so nobody can search for
one, and a slow, salted hash, which protects words that people choose, would only cost time on
every request. Clients stand in `clients.toml`, which the operator writes:

    [gateway-1]
    keys = ["kamailio"]              # names of keys, or
    networks = ["192.0.2.0/24"]      # addresses: either makes the client known
    asserts = ["trunk", "purpose"]
    vouches = true                   # for the calling numbers of all of its calls, or
    trunks_vouched = ["t1"]          # of those from these trunks
    may = ["explain", "at"]
    sip.block = { code = 603, phrase = "Decline" }    # for a peer that knows no other refusal
"""

import difflib
import hashlib
import json
import re
import secrets
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from consent.private import create_private, locked, read_private, replace_private
from screening.sip_profile import SipProfile, read_profile

NAME: Final = re.compile(r"(?=.*[a-z])[a-z0-9][a-z0-9._-]{0,63}")
SECRET_BYTES: Final = 32
SECRET_LIMIT: Final = 256
"""Characters of a presented key that are looked at; ours have 53."""

FIRST_NAME: Final = "first"
FIRST_FILE: Final = "first-key"
CACHED_CLIENTS: Final = 65_536


Word = TypeVar("Word", bound=StrEnum)


class AccessError(Exception):
    """A key or client file, or a change to one, is refused."""


class Role(StrEnum):
    """What a key's holder may do; `admin` may do all."""

    LOOKUP = "lookup"
    OPERATE = "operate"
    CONSENT = "consent"
    WASH = "wash"
    AUDIT = "audit"
    ADMIN = "admin"


class Right(StrEnum):
    """What a lookup may ask beyond a verdict: the trace, and an instant other than now."""

    EXPLAIN = "explain"
    AT = "at"


class Assertion(StrEnum):
    """The fields of a call that count only from a client configured to assert them."""

    TRUNK = "trunk"
    PRIORITY = "priority"
    PURPOSE = "purpose"
    SCREENING = "screening"
    CPC = "cpc"
    ROAMING = "roaming"


@dataclass(frozen=True, slots=True)
class Key:
    """One key without its secret: several of one name may be valid at once, for rotation.

    Instants are epoch seconds; `expires` is 0 for never.
    """

    id: str
    name: str
    sha256: str
    roles: frozenset[Role]
    rights: frozenset[Right]
    created: float
    expires: float


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a key that was presented: its name is the actor of the audit."""

    name: str
    key_id: str
    roles: frozenset[Role]
    rights: frozenset[Right]

    def has(self, role: Role) -> bool:
        """Whether the holder may do what needs a role."""
        return role in self.roles or Role.ADMIN in self.roles


class Access:
    """The keys of one file. Threads may share it; processes change the file under a lock."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._keys: tuple[Key, ...] = ()
        self._holders: dict[str, tuple[Principal, float]] = {}
        """Who holds a key, and until when, by its hash."""

    @classmethod
    def load(cls, path: Path, *, clock: Callable[[], float] = time.time) -> Self:
        """The keys of a file, none where it does not exist. Raises AccessError."""
        access = cls(path, clock=clock)
        access.reload()
        return access

    def reload(self) -> None:
        """Takes in what other processes changed; keeps what it had where it raises AccessError."""
        self._take(_read_keys(self._path))

    def _take(self, keys: tuple[Key, ...]) -> None:
        self._keys = keys
        self._holders = {
            key.sha256: (Principal(key.name, key.id, key.roles, key.rights), key.expires)
            for key in keys
        }

    def verify(self, presented: str) -> Principal | None:
        """Who presents a key, None for one that is unknown or expired.

        It is looked for by its hash, of which nobody can choose a part: the time that it takes
        tells nothing of any other. A switch may send one with each call.
        """
        digest = hashlib.sha256(presented[:SECRET_LIMIT].encode(errors="replace")).hexdigest()
        held = self._holders.get(digest)
        if held is None or (held[1] and self._clock() >= held[1]):
            return None
        return held[0]

    def list(self) -> list[Key]:
        """Every key of the file, expired ones too, oldest first."""
        return sorted(self._keys, key=lambda key: (key.created, key.id))

    def create(
        self,
        name: str,
        *,
        roles: Iterable[str],
        rights: Iterable[str] = (),
        expires: float = 0,
    ) -> str:
        """Makes a key and gives its secret, which is kept nowhere. Raises AccessError."""
        secret = _new_secret()
        self._add(secret, name, roles=roles, rights=rights, expires=expires)
        return secret

    def revoke(self, name: str, key_id: str) -> Key:
        """Removes one key of a name. Raises AccessError where there is none such."""
        with locked(self._path):
            keys = _read_keys(self._path)
            revoked = next((key for key in keys if (key.name, key.id) == (name, key_id)), None)
            if revoked is None:
                ids = [key.id for key in keys if key.name == name]
                raise AccessError(
                    f"{self._path}: no key {key_id!r} of {name!r}, "
                    + (_nearest(key_id, ids) if ids else _nearest(name, {k.name for k in keys}))
                )
            self._replace(tuple(key for key in keys if key is not revoked))
        return revoked

    def first_key(self, folder: Path) -> Path | None:
        """Where the first key is to be read, which is made when there is no key file yet.

        None once its file has been taken away, as it should be when named keys exist.
        """
        file = folder / FIRST_FILE
        with locked(file):
            # A key file without keys is somebody's decision; without the file nobody made one.
            if not self._path.exists():
                try:
                    # The secret before the key: a start that dies between the two is repeated.
                    if not file.exists():
                        create_private(file, _new_secret().encode() + b"\n")
                    secret = read_private(file).decode().strip()
                except (OSError, ValueError) as error:
                    raise AccessError(f"{file}: the first key cannot be kept: {error}") from error
                self._add(secret, FIRST_NAME, roles=[Role.ADMIN], rights=list(Right), expires=0)
        self.reload()
        return file if file.exists() else None

    def _add(
        self,
        secret: str,
        name: str,
        *,
        roles: Iterable[str],
        rights: Iterable[str],
        expires: float,
    ) -> None:
        if not NAME.fullmatch(name):
            raise AccessError(
                f"key name {name!r}: expected 1 to 64 of a-z 0-9 . _ - with a letter, beginning "
                "with a letter or digit"
            )
        now = self._clock()
        if expires and expires <= now:
            raise AccessError(f"key {name!r}: expires is {expires!r}, which is past")
        key = Key(
            id=secrets.token_hex(4),
            name=name,
            sha256=hashlib.sha256(secret.encode()).hexdigest(),
            roles=_words(roles, Role, where=f"key {name!r}: role"),
            rights=_words(rights, Right, where=f"key {name!r}: right"),
            created=now,
            expires=expires,
        )
        if not key.roles:
            raise AccessError(f"key {name!r} has no role, {_nearest('', Role)}")
        with locked(self._path):
            self._replace((*_read_keys(self._path), key))

    def _replace(self, keys: tuple[Key, ...]) -> None:
        content = {
            "keys": [
                {
                    "id": key.id,
                    "name": key.name,
                    "sha256": key.sha256,
                    "roles": sorted(key.roles),
                    "rights": sorted(key.rights),
                    "created": _text(key.created),
                    "expires": _text(key.expires) if key.expires else None,
                }
                for key in keys
            ]
        }
        try:
            replace_private(self._path, json.dumps(content, indent=2).encode() + b"\n")
        except OSError as error:
            raise AccessError(f"{self._path} cannot be written: {error}") from error
        self._take(keys)


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends lookups, and what counts from it; `may` has the rights of its key as well."""

    name: str = ""
    asserts: frozenset[Assertion] = frozenset()
    vouches: bool = False
    trunks_vouched: frozenset[str] = frozenset()
    may: frozenset[Right] = frozenset()
    sip: SipProfile | None = None
    """How refusals are told to it, where not as the rule sets say."""
    trunk_sip: Mapping[str, SipProfile] = field(default_factory=dict)
    """The same for calls of one trunk."""

    def profile(self, trunk: str) -> SipProfile | None:
        """How the refusal of a call from a trunk is told."""
        return self.trunk_sip.get(trunk, self.sip)


def bearer_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key that a request carries, None without one; names are in lower case."""
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
    return None


UNKNOWN_CLIENT: Final = Client()
"""A client that nothing names: it may ask, and asserts nothing."""


class Clients:
    """The clients of one file; load it anew and swap the two when the file has changed."""

    def __init__(
        self,
        by_key: dict[str, Client],
        by_network: dict[IPv4Network | IPv6Network, Client],
    ) -> None:
        self._by_key = by_key
        # The narrowest network that holds an address decides.
        self._by_network = sorted(by_network.items(), key=lambda each: -each[0].prefixlen)
        self._cache: dict[tuple[str, str], Client] = {}

    @classmethod
    def load(cls, path: Path) -> Self:
        """The clients of a file, none where it does not exist. Raises AccessError."""
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            content = {}
        except (OSError, ValueError) as error:
            raise AccessError(f"{path}: {error}") from error
        by_key: dict[str, Client] = {}
        by_network: dict[IPv4Network | IPv6Network, Client] = {}
        for name, table in content.items():
            where = f"{path}: {name}"
            if not isinstance(table, dict):
                raise AccessError(f"{where} is {table!r}, expected a table [{name}] of a client")
            for each in table:
                if each not in CLIENT_FIELDS:
                    raise AccessError(
                        f"{where}.{each} is no field, {_nearest(each, CLIENT_FIELDS)}"
                    )
            client = _client(name, table, where)
            keys = _texts(table, "keys", where)
            networks = [_network(each, where) for each in _texts(table, "networks", where)]
            if not keys and not networks:
                raise AccessError(f"{where} has neither keys nor networks, expected one at least")
            for key in keys:
                if by_key.setdefault(key, client) is not client:
                    raise AccessError(f"{where}.keys has {key!r}, the key of {by_key[key].name}")
            for network in networks:
                if by_network.setdefault(network, client) is not client:
                    other = by_network[network].name
                    raise AccessError(f"{where}.networks has '{network}', the network of {other}")
        return cls(by_key, by_network)

    def client_for(self, principal: Principal | None, address: str) -> Client:
        """The client of a key, else of the narrowest network that holds the address.

        `address` is the peer's IP address, "" for a Unix socket.
        """
        asked = (principal.key_id if principal else "", address)
        client = self._cache.get(asked)
        if client is None:
            client = self._find(principal, address)
            if len(self._cache) >= CACHED_CLIENTS:
                self._cache.clear()
            self._cache[asked] = client
        return client

    def _find(self, principal: Principal | None, address: str) -> Client:
        client = self._by_key.get(principal.name) if principal else None
        if client is None:
            client = self._of_address(address)
        if principal:
            client = replace(client, may=client.may | principal.rights)
        return client

    def _of_address(self, address: str) -> Client:
        try:
            ip = ip_address(address)
        except ValueError:
            return UNKNOWN_CLIENT
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        return next(
            (client for network, client in self._by_network if ip in network), UNKNOWN_CLIENT
        )


class Callers:
    """Who asks, by the key that is sent along and by address: of the two files as last taken in."""

    def __init__(self, keys: Path, clients: Path) -> None:
        """Raises AccessError."""
        self._files = keys, clients
        self.reload()

    def reload(self) -> None:
        """Take in both files; keeps what it had where it raises AccessError."""
        keys, clients = self._files
        self._access, self._clients = Access.load(keys), Clients.load(clients)

    def principal(self, bearer: bytes | None) -> Principal | None:
        """The holder of a key, None without a valid one."""
        return None if bearer is None else self._access.verify(bearer.decode("latin-1"))

    def client(self, bearer: bytes | None, address: str) -> Client:
        """Who sends a lookup, by the key where one was sent, and the peer's IP address, "" without
        one.

        A key that is none is no reason to refuse: an expired one must not end screening.
        """
        return self._clients.client_for(self.principal(bearer), address)


CLIENT_FIELDS: Final = (
    "keys", "networks", "asserts", "vouches", "trunks_vouched", "may", "sip", "trunk_sip",
)  # fmt: skip


def _client(name: str, table: dict[str, Any], where: str) -> Client:
    vouches = table.get("vouches", False)
    if not isinstance(vouches, bool):
        raise AccessError(f"{where}.vouches is {vouches!r}, expected true or false")
    trunks = table.get("trunk_sip", {})
    if not isinstance(trunks, dict):
        raise AccessError(f"{where}.trunk_sip is {trunks!r}, expected a table of trunks")
    try:
        sip = read_profile(table.get("sip", {}), f"{where}.sip")
        profiles = {
            trunk: read_profile(each, f"{where}.trunk_sip.{trunk}")
            for trunk, each in trunks.items()
        }
    except ValueError as error:
        raise AccessError(str(error)) from None
    return Client(
        name=name,
        asserts=_words(_texts(table, "asserts", where), Assertion, where=f"{where}.asserts:"),
        vouches=vouches,
        trunks_vouched=frozenset(_texts(table, "trunks_vouched", where)),
        may=_words(_texts(table, "may", where), Right, where=f"{where}.may:"),
        sip=sip,
        trunk_sip={trunk: each for trunk, each in profiles.items() if each is not None},
    )


def _texts(table: dict[str, Any], field: str, where: str) -> list[str]:
    value = table.get(field, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise AccessError(f"{where}.{field} is {value!r}, expected a list of texts")
    return value


def _network(text: str, where: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise AccessError(f"{where}.networks: {error}, expected one such as 192.0.2.0/24") from None


def _words(words: Iterable[str], known: type[Word], *, where: str) -> frozenset[Word]:
    found = set()
    for word in words:
        try:
            found.add(known(word))
        except ValueError:
            raise AccessError(f"{where} {word!r} is none, {_nearest(word, known)}") from None
    return frozenset(found)


def _nearest(word: str, known: Iterable[str]) -> str:
    words = [str(each) for each in known]
    close = difflib.get_close_matches(word, words, n=1)
    if close:
        return f"the nearest is {close[0]!r}"
    return f"expected one of {', '.join(sorted(words))}" if words else "there are none"


def _new_secret() -> str:
    return f"screening_{secrets.token_urlsafe(SECRET_BYTES)}"


def _read_keys(path: Path) -> tuple[Key, ...]:
    try:
        content = json.loads(read_private(path))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise AccessError(str(error)) from error
    except ValueError:
        raise AccessError(f"{path} is no key file: expected JSON") from None
    try:
        return tuple(
            Key(
                id=entry["id"],
                name=entry["name"],
                sha256=_sha256(entry["sha256"]),
                roles=_words(entry["roles"], Role, where=f"{path}: {entry['name']}.roles:"),
                rights=_words(entry["rights"], Right, where=f"{path}: {entry['name']}.rights:"),
                created=_instant(entry["created"]),
                expires=_instant(entry["expires"]) if entry["expires"] else 0,
            )
            for entry in content["keys"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AccessError(f"{path}: a key is not as it was written: {error!r}") from None


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError("sha256")
    return text


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
