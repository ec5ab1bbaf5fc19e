"""Keys and clients: who is let in, for what, and what a wrong file is answered with."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from screening.access import (
    UNKNOWN_CLIENT,
    Access,
    AccessError,
    Assertion,
    Clients,
    Principal,
    Right,
    Role,
)

NOW = 1_790_000_000.0


@pytest.fixture
def instants() -> list[float]:
    return [NOW]


@pytest.fixture
def access(tmp_path: Path, instants: list[float]) -> Access:
    return Access.load(tmp_path / "keys.json", clock=lambda: instants[-1])


def principal(name: str, *rights: Right) -> Principal:
    return Principal(name, f"id-{name}", frozenset({Role.LOOKUP}), frozenset(rights))


def test_key(access: Access) -> None:
    """A key opens what its roles say, and nothing else is let in."""
    secret = access.create("ops", roles=["operate", "audit"], rights=["explain"])
    holder = access.verify(secret)
    assert holder is not None
    assert (holder.name, holder.rights) == ("ops", frozenset({Right.EXPLAIN}))
    assert [role for role in Role if holder.has(role)] == [Role.OPERATE, Role.AUDIT]
    assert holder.key_id == access.list()[0].id


@pytest.mark.parametrize(
    "wrong",
    ["", "{short}", "{key}x", "{swapped}", "{bare}", "{key}" + " " * 300, "\ud800", "é" * 40],
    ids=["empty", "short", "long", "case", "bare", "padded", "surrogate", "not ASCII"],
)
def test_wrong_key(access: Access, wrong: str) -> None:
    """What is not exactly a key is nobody's."""
    key = access.create("ops", roles=["operate"])
    forms = {"key": key, "short": key[:-1], "swapped": key.swapcase(), "bare": key[10:]}
    assert access.verify(key) is not None
    assert access.verify(wrong.format(**forms)) is None


def test_hash_is_no_key(access: Access, tmp_path: Path) -> None:
    """Whoever reads the key file can present nothing of it; the secret is not in it."""
    secret = access.create("ops", roles=["operate"])
    text = (tmp_path / "keys.json").read_text()
    assert secret not in text
    assert access.verify(json.loads(text)["keys"][0]["sha256"]) is None
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600


def test_admin_may_all(access: Access) -> None:
    """The role admin contains the others."""
    holder = access.verify(access.create("root", roles=["admin"]))
    assert holder is not None
    assert all(holder.has(role) for role in Role)


def test_rotation(access: Access, tmp_path: Path) -> None:
    """Two keys of one name are valid at once; revoking one leaves the other, at once here and
    in another process after reload."""
    elsewhere = Access.load(tmp_path / "keys.json")
    old, new = (access.create("ops", roles=["operate"]) for _ in range(2))
    elsewhere.reload()
    assert all(each.verify(key) for each in (access, elsewhere) for key in (old, new))
    holder = access.verify(old)
    assert holder is not None
    assert access.revoke("ops", holder.key_id).id == holder.key_id
    assert access.verify(old) is None
    assert access.verify(new) is not None
    elsewhere.reload()
    assert elsewhere.verify(old) is None
    assert elsewhere.verify(new) is not None


def test_expiry(access: Access, instants: list[float]) -> None:
    """A key is nobody's from the instant it expires at, and is still listed."""
    secret = access.create("ops", roles=["operate"], expires=NOW + 60)
    assert [key.expires for key in access.list()] == [NOW + 60]
    instants.append(NOW + 59.9)
    assert access.verify(secret) is not None
    instants.append(NOW + 60)
    assert access.verify(secret) is None
    assert [key.name for key in access.list()] == ["ops"]


def test_file_round_trip(access: Access, tmp_path: Path) -> None:
    """Keys read from the file are those that were written."""
    access.create("one", roles=["lookup", "admin"], rights=["at", "explain"], expires=NOW + 1.5)
    access.create("two", roles=["consent"])
    assert Access.load(tmp_path / "keys.json").list() == access.list()


def test_created_by_many_at_once(tmp_path: Path) -> None:
    """Keys made at once, each through a view of the file of its own, are all kept."""

    def create(n: int) -> str:
        return Access.load(tmp_path / "keys.json").create(f"key-{n}", roles=["lookup"])

    with ThreadPoolExecutor(8) as pool:
        secrets = list(pool.map(create, range(16)))
    access = Access.load(tmp_path / "keys.json")
    holders = [access.verify(secret) for secret in secrets]
    assert [holder and holder.name for holder in holders] == [f"key-{n}" for n in range(16)]


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("Ops", {"roles": ["operate"]}, "key name 'Ops'"),
        ("441632960001", {"roles": ["operate"]}, "with a letter"),
        ("ops", {"roles": ["operator"]}, "role 'operator' is none, the nearest is 'operate'"),
        ("ops", {"roles": []}, "has no role, expected one of admin, audit"),
        ("ops", {"roles": ["admin"], "rights": ["time"]}, "right 'time' is none, expected one"),
        ("ops", {"roles": ["admin"], "expires": NOW}, "expires .* is past"),
    ],
    ids=["name", "number", "role", "no role", "right", "expired"],
)
def test_create_refused(access: Access, name: str, words: dict[str, object], message: str) -> None:
    """A key of unknown words is not made."""
    with pytest.raises(AccessError, match=message):
        access.create(name, **words)  # type: ignore[arg-type]
    assert access.list() == []


def test_revoke_refused(access: Access) -> None:
    """What cannot be revoked is answered with the nearest that can."""
    access.create("ops", roles=["operate"])
    key = access.list()[0]
    with pytest.raises(AccessError, match=rf"no key 'zz' of 'ops', expected one of {key.id}"):
        access.revoke("ops", "zz")
    with pytest.raises(AccessError, match=r"of 'opps', the nearest is 'ops'"):
        access.revoke("opps", key.id)
    assert access.list() == [key]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"keys": [{}]}',
        '{"keys": [1]}',
        '{"keys": [{"id": "a", "name": "ops", "sha256": "00", "roles": [], "rights": []}]}',
    ],
    ids=["empty", "list", "no fields", "no key", "short hash"],
)
def test_broken_file_keeps_keys(access: Access, tmp_path: Path, content: str) -> None:
    """A broken key file is refused, and the keys that were read before stay."""
    secret = access.create("ops", roles=["operate"])
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(AccessError, match=r"keys\.json"):
        access.reload()
    assert access.verify(secret) is not None


def test_key_file_open_to_others_is_refused(access: Access, tmp_path: Path) -> None:
    """A key file that others can read is refused, and the message says what to do."""
    access.create("ops", roles=["operate"])
    (tmp_path / "keys.json").chmod(0o640)
    with pytest.raises(AccessError, match=r"chmod 600 .*keys\.json"):
        Access.load(tmp_path / "keys.json")


def test_first_key(access: Access, tmp_path: Path) -> None:
    """The first start makes a key of every role and right, in a private file; later ones show
    the same file, and once it is gone and the key revoked, none comes back."""
    path = access.first_key(tmp_path)
    assert path == tmp_path / "first-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = path.read_text().strip()
    holder = access.verify(secret)
    assert holder is not None
    assert (holder.name, holder.rights) == ("first", frozenset(Right))
    assert all(holder.has(role) for role in Role)

    again = Access.load(tmp_path / "keys.json")
    assert again.first_key(tmp_path) == path
    assert path.read_text().strip() == secret
    assert len(again.list()) == 1

    again.revoke("first", holder.key_id)
    path.unlink()
    assert again.first_key(tmp_path) is None
    assert again.list() == []


def test_first_key_survives_a_death_between(access: Access, tmp_path: Path) -> None:
    """Where a first start died with the secret written and no key yet, the next completes it."""
    path = access.first_key(tmp_path)
    assert path is not None
    (tmp_path / "keys.json").unlink()
    again = Access.load(tmp_path / "keys.json")
    assert again.first_key(tmp_path) == path
    assert again.verify(path.read_text().strip()) is not None


def test_first_key_of_many_starts(tmp_path: Path) -> None:
    """Workers that start at once make one first key, and all know it."""
    workers = [Access.load(tmp_path / "keys.json") for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        paths = set(pool.map(lambda worker: worker.first_key(tmp_path), workers))
    assert paths == {tmp_path / "first-key"}
    secret = (tmp_path / "first-key").read_text().strip()
    assert all(worker.verify(secret) for worker in workers)
    assert len(workers[0].list()) == 1


CLIENTS = """
[gateway]
keys = ["kamailio", "kamailio-2"]
asserts = ["trunk", "purpose"]
trunks_vouched = ["t1"]
may = ["explain"]

[core]
networks = ["192.0.2.0/24", "2001:db8::/32"]
vouches = true

[lab]
networks = ["192.0.2.128/25"]
asserts = ["roaming"]
"""


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    path = tmp_path / "clients.toml"
    path.write_text(CLIENTS)
    return Clients.load(path)


@pytest.mark.parametrize(
    ("key", "address", "name"),
    [
        ("kamailio", "203.0.113.1", "gateway"),
        ("kamailio-2", "", "gateway"),
        ("kamailio", "192.0.2.1", "gateway"),
        ("other", "192.0.2.1", "core"),
        (None, "192.0.2.127", "core"),
        (None, "192.0.2.128", "lab"),
        (None, "::ffff:192.0.2.128", "lab"),
        (None, "2001:db8::5", "core"),
        (None, "203.0.113.1", ""),
        (None, "", ""),
        (None, "testclient", ""),
        ("other", "203.0.113.1", ""),
    ],
)
def test_client_for(clients: Clients, key: str | None, address: str, name: str) -> None:
    """A key decides before the network, the narrowest network before wider ones; asking twice
    gives the same."""
    holder = principal(key) if key else None
    assert clients.client_for(holder, address).name == name
    assert clients.client_for(holder, address) is clients.client_for(holder, address)


def test_what_a_client_may(clients: Clients) -> None:
    """A client has what its table says, and the rights of the key it came with."""
    gateway = clients.client_for(principal("kamailio", Right.AT), "")
    assert gateway.asserts == {Assertion.TRUNK, Assertion.PURPOSE}
    assert gateway.trunks_vouched == {"t1"}
    assert gateway.may == {Right.EXPLAIN, Right.AT}
    assert not gateway.vouches
    assert clients.client_for(None, "192.0.2.1").vouches
    assert clients.client_for(None, "203.0.113.1") == UNKNOWN_CLIENT
    assert clients.client_for(principal("other", Right.AT), "").may == {Right.AT}
    assert not UNKNOWN_CLIENT.asserts | UNKNOWN_CLIENT.may


def test_many_addresses(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many addresses ask, what is kept of them is bounded, and answers stay right."""
    monkeypatch.setattr("screening.access.CACHED_CLIENTS", 8)
    for n in range(256):
        assert clients.client_for(None, f"192.0.2.{n}").name == ("core" if n < 128 else "lab")
        assert len(clients._cache) <= 8


def test_no_file_is_no_client(tmp_path: Path) -> None:
    """Without a file every client is unknown."""
    clients = Clients.load(tmp_path / "clients.toml")
    assert clients.client_for(None, "192.0.2.1") is UNKNOWN_CLIENT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "clients.toml"),
        ("a = 1", "a is 1, expected a table"),
        ("[a]", "a has neither keys nor networks"),
        ("[a]\nkey = ['k']", "a.key is no field, the nearest is 'keys'"),
        ("[a]\nkeys = 'k'", "a.keys is 'k', expected a list of texts"),
        ("[a]\nkeys = ['']", "a.keys is"),
        ("[a]\nkeys = ['k']\nasserts = ['trunks']", "a.asserts: 'trunks' is none, .* 'trunk'"),
        ("[a]\nkeys = ['k']\nmay = ['explian']", "a.may: 'explian' is none, .* 'explain'"),
        ("[a]\nkeys = ['k']\nvouches = 1", "a.vouches is 1, expected true or false"),
        ("[a]\nnetworks = ['192.0.2.1/24']", "a.networks: .*host bits set"),
        ("[a]\nnetworks = ['here']", "a.networks: 'here' does not appear"),
        ("[a]\nkeys = ['k']\n[b]\nkeys = ['k']", "b.keys has 'k', the key of a"),
        (
            "[a]\nnetworks = ['192.0.2.0/24']\n[b]\nnetworks = ['192.0.2.0/24']",
            "b.networks has '192.0.2.0/24', the network of a",
        ),
    ],
)
def test_clients_refused(tmp_path: Path, text: str, message: str) -> None:
    """A client file that cannot be meant is refused by file, key and value."""
    path = tmp_path / "clients.toml"
    path.write_text(text)
    with pytest.raises(AccessError, match=message) as refused:
        Clients.load(path)
    assert str(path) in str(refused.value)
