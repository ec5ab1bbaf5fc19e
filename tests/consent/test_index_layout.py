"""The bytes of the index: every value reads back, none outgrows its place."""

import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.category import BIT
from consent.facts import Consent, Profile
from consent.index import IndexRefused, layout
from consent.index.address import Kind, parse_servers
from consent.index.topology import SLOTS, read_redirect, read_slots

CALLED = 441632960001

masks = st.sets(st.sampled_from(sorted(BIT.values()))).map(lambda bits: sum(1 << b for b in bits))
zones = st.sampled_from([*sorted(zoneinfo.available_timezones()), ""])
prefixes = st.lists(
    st.tuples(
        st.integers(1, 10**15 - 1).map(str),
        st.sampled_from(["allow", "block"]),
    ),
    max_size=3,
).map(tuple)
consents = st.builds(
    Consent,
    sequence=st.integers(0, 2**62),
    revoked=st.booleans(),
    expires=st.integers(0, 2**40),
    categories=st.integers(0, 2**64 - 1) | masks,
)
profiles = st.builds(
    Profile,
    refused=masks,
    accepted=masks,
    bands=st.integers(0, 2**24 - 1),
    days=st.integers(0, 255),
    modes=st.integers(0, 7),
    zone=zones,
    prefixes=prefixes,
)
called_numbers = st.integers(1, 10**15 - 1)


@given(consents)
def test_consent_reads_back(consent: Consent) -> None:
    """A consent survives its packing, in at most 27 bytes."""
    data = layout.encode_consent(consent)
    assert consent == layout.decode_consent(data)
    assert len(data) <= 27


def test_common_consent_is_small() -> None:
    """A consent to one trade, with an expiry, at the 30 millionth event takes 10 bytes."""
    consent = Consent(30_000_000, False, 1_900_000_000, 1 << BIT["insurance"])
    assert len(layout.encode_consent(consent)) == 10


@given(profiles)
@settings(max_examples=300)
def test_profile_reads_back(profile: Profile) -> None:
    """Whatever a subscriber may set fits 64 bytes and survives its packing."""
    data = layout.encode_profile(profile)
    assert profile == layout.decode_profile(data)
    assert len(data) <= layout.MAX_VALUE_BYTES


def test_longest_profile_fits() -> None:
    """Every mask full, the longest zones and three prefixes of 15 digits: still 64 bytes."""
    everything = sum(1 << bit for bit in BIT.values())
    for zone in zoneinfo.available_timezones():
        longest = tuple((digits, "block") for digits in ("9" * 15, "8" * 15, "7" * 15))
        profile = Profile(everything, everything, 2**24 - 1, 255, 7, zone, longest)
        assert profile == layout.decode_profile(layout.encode_profile(profile))


def test_profile_too_long_is_refused() -> None:
    """What cannot fit is refused, not cut."""
    with pytest.raises(IndexRefused, match="expected 64 at most"):
        layout.encode_profile(Profile(prefixes=(("1" * 300, "allow"),)))


def test_profile_of_a_preferences_event() -> None:
    """The body of `preferences.set` becomes the masks of the profile."""
    body = {
        "refused": ["all"],
        "accepted": ["health", "energy"],
        "bands": [0, 23],
        "days": [0, 7],
        "modes": ["autodialler"],
        "zone": "Europe/London",
        "prefixes": [["441632", "block"]],
    }
    expected = Profile(
        refused=1,
        accepted=1 << BIT["health"] | 1 << BIT["energy"],
        bands=1 | 1 << 23,
        days=1 | 1 << 7,
        modes=2,
        zone="Europe/London",
        prefixes=(("441632", "block"),),
    )
    assert expected == layout.profile_from(body)


@given(called_numbers, st.integers(0, 2**32), st.sampled_from([100, 1000, layout.BUCKET_WIDTH]))
def test_every_key_of_a_number_has_the_tag_of_its_stamp(
    called: int, entity: int, width: int
) -> None:
    """One hash tag for all that a call reads, so one node of a cluster has it with its proof."""
    tag = layout.TAGS[layout.shard_of(called)]
    keys = [
        layout.SIDES[0].stamp_key(layout.shard_of(called)),
        layout.SIDES[0].bitmap_key(called // layout.BLOCK, list_id=1, generation=2, bit=0),
        layout.SIDES[0].manifest_key(layout.shard_of(called), list_id=1, generation=2),
        layout.SIDES[0].bucket_key(called, width),
        layout.SIDES[0].personal_key(called),
    ]
    assert {tag} == {key[:4] for key in keys}
    # All numbers of a bucket are of one shard.
    ends = called // width * width, called // width * width + width - 1
    assert layout.shard_of(ends[0]) == layout.shard_of(ends[1])
    assert len(layout.consent_field(called, entity, width)) <= layout.MAX_VALUE_BYTES


@given(called_numbers, called_numbers, st.integers(0, 2**40), st.integers(0, 2**40))
def test_fields_of_different_numbers_differ(one: int, other: int, first: int, second: int) -> None:
    """No consent is read for another number or entity, and none as a profile."""
    for width in (100, 9_800):
        names = [
            (layout.SIDES[0].bucket_key(one, width), layout.profile_field(one, width)),
            (layout.SIDES[0].bucket_key(one, width), layout.consent_field(one, first, width)),
            (layout.SIDES[0].bucket_key(other, width), layout.profile_field(other, width)),
            (layout.SIDES[0].bucket_key(other, width), layout.consent_field(other, second, width)),
        ]
        meanings = {(one, None), (one, first), (other, None), (other, second)}
        assert len(meanings) == len(set(names))


def test_shards_spread_over_a_cluster() -> None:
    """The 256 tags fall on each third of a cluster's slots about as often."""
    from redis.crc import key_slot

    thirds = [0, 0, 0]
    for tag in layout.TAGS:
        thirds[key_slot(tag) * 3 // 16384] += 1
    assert all(70 <= count <= 100 for count in thirds), thirds


def test_the_epoch_names_the_bucket_width() -> None:
    """A reader knows the width from the epoch; a width that splits a block is refused."""
    assert layout.bucket_width(layout.name_epoch("9f3a", bucket_width=1000)) == 1000
    assert layout.bucket_width("9f3a") == layout.BUCKET_WIDTH
    with pytest.raises(IndexRefused, match="does not divide"):
        layout.name_epoch("9f3a", bucket_width=9_999)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("redis://", ("127.0.0.1", 6379, "", False, "", "", 0), id="defaults"),
        pytest.param(
            "redis://me:p%40ss@host:7000/3",
            ("host", 7000, "", False, "me", "p@ss", 3),
            id="user, password, port, database",
        ),
        pytest.param("rediss://:x@h", ("h", 6379, "", True, "", "x", 0), id="tls"),
        pytest.param(
            "unix:///run/my%20index.sock?db=2",
            ("127.0.0.1", 6379, "/run/my index.sock", False, "", "", 2),
            id="socket",
        ),
    ],
)
def test_addresses(url: str, expected: tuple[object, ...]) -> None:
    """The forms of URL that people write."""
    (a,) = parse_servers(url).doors
    assert expected == (a.host, a.port, a.path, a.tls, a.user, a.password, a.database)


@pytest.mark.parametrize(
    ("url", "kind", "doors", "login", "service"),
    [
        pytest.param(
            "redis+cluster://me:p%40ss@a:7000,b,[::1]:7002/",
            Kind.CLUSTER, ["a:7000", "b:6379", "::1:7002"], ("me", "p@ss", 0, False), "",
            id="cluster",
        ),
        pytest.param(
            "redis+cluster://[::1]:7000,a#all", Kind.CLUSTER, ["::1:7000", "a:6379"],
            ("", "", 0, False), "", id="cluster, IPv6 first",
        ),
        pytest.param(
            "rediss+cluster://a", Kind.CLUSTER, ["a:6379"], ("", "", 0, True), "", id="cluster, tls"
        ),
        pytest.param(
            "redis+sentinel://:data@a,b:7001/calls/2?sentinel_password=door",
            Kind.SENTINEL, ["a:26379", "b:7001"], ("", "data", 2, False), "calls",
            id="sentinels",
        ),
    ],
)  # fmt: skip
def test_addresses_of_several(
    url: str, kind: Kind, doors: list[str], login: tuple[object, ...], service: str
) -> None:
    """Some nodes of a cluster, or sentinels and the service that they watch."""
    servers = parse_servers(url)
    at = servers.login
    assert doors == [door.name for door in servers.doors]
    assert login == (at.user, at.password, at.database, at.tls)
    assert (kind, service) == (servers.kind, servers.service)
    told = "door" if kind is Kind.SENTINEL else at.password
    assert {told} == {door.password for door in servers.doors}
    assert "data" not in servers.name


@pytest.mark.parametrize(
    "url",
    [
        "http://:secret@h",
        "redis://:secret@h:port",
        "redis://:secret@h/x",
        "redis://:secret/@h",
        "redis://:secret@[h",
        "unix://",
        "",
        "redis://:secret@a:1,b:2",
        "redis+cluster://:secret@a,b/1",
        "redis+cluster://:secret@a,,b",
        "redis+cluster://",
        "redis+sentinel://:secret@a,b",
        "redis+other://:secret@a",
    ],
)
def test_bad_addresses_are_refused_without_the_password(url: str) -> None:
    """The message says what was expected and never shows the password."""
    with pytest.raises(IndexRefused) as refusal:
        parse_servers(url)
    assert "secret" not in str(refusal.value)


def test_slots() -> None:
    """A shard's slot is that of its tag, as servers compute it (CLUSTER KEYSLOT)."""
    assert [SLOTS[0], SLOTS[0xA3], SLOTS[0xFF]] == [13254, 15915, 11756]


def test_a_map_of_slots() -> None:
    """The primary of each shard; a node without a name is the one asked, a gap has no owner."""
    asked = parse_servers("redis+cluster://:word@a:7000").doors[0]
    map_ = read_slots(
        [[0, 12000, [b"", 7000, b"id"], [b"b", 7001, b"id"]], [12001, 14000, [b"c", 7002, b"id"]]],
        asked=asked,
    )
    owners = [map_.owners[shard] for shard in (0xFF, 0, 0xA3)]
    assert [owner and owner.name for owner in owners] == ["a:7000", "c:7002", None]
    assert set(map_.nodes) == {"a:7000", "b:7001", "c:7002"}
    assert {"word"} == {node.password for node in map_.nodes.values()}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param("MOVED 3999 10.0.0.7:6381", (True, "10.0.0.7:6381"), id="moved"),
        pytest.param("ASK 3999 ::1:6381", (False, "::1:6381"), id="ask"),
        pytest.param("MOVED 3999 :6381", (True, "a:6381"), id="the host that was asked"),
        pytest.param("MOVED 3999", None, id="cut"),
        pytest.param("CLUSTERDOWN The cluster is down", None, id="another error"),
    ],
)
def test_redirects(error: str, expected: tuple[bool, str] | None) -> None:
    """Where a node sends one, for good or for once."""
    found = read_redirect(error, asked=parse_servers("redis+cluster://a").doors[0])
    assert expected == (found and (found.for_good, found.address.name))
