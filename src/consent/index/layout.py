"""Where a fact of the called side lies on the server, and how its bytes read. No I/O.

Every key of a called number carries the same hash tag, the shard of its block, and so does the
stamp that proves the shard whole: one round trip to one node brings the facts and their proof.

    {a3}:s                 hash    stamp: e epoch, q sequence applied, b the proof of a rebuild
                                   that has not finished, l<list> the readable generations and
                                   the forms of their categories: "17:0d 18:0m2450,1s7000"
    {a3}:d:<list>.<gen>:<bit>:<block>
                           string  do-not-call bitmap: number n is bit n % BLOCK, trailing zero
                                   bytes cut; an absent key is a block without a listed number
    {a3}:p:<list>.<gen>:<bit>:<span>
                           hash    the same for a sparse block: <n % SPAN // width> -> the
                                   numbers of that stretch as gaps (varint) from its start on
    {a3}:m:<list>.<gen>    hash    manifest: <bit>.<first block> -> see `_Part` in store.py, and
                                   m the mark of who last published it
    {a3}:b:<bucket>        hash    <low> -> profile, <low><entity> -> consent
    {a3}:x:<called>        hash    <calling> -> a | b, the subscriber's own exact entries
    {a3}:f:<called>        hash    0 <entity> -> its commercial calls that rang there, see
                                   `pack_call`, 4 bytes each, the newest last, 16 at most
    {a3}:g:<calling>       hash    <node> -> the calling number's signals (consent.conduct.pack)
    {a3}:c                 hash    g when (epoch seconds) a recorder last said that all that it
                                   knows of the shard is there, g.<node> the same of each

All but f, g and c are a projection of the record, and two of it may lie beside each other: that of
side 1 has the letters in capitals. The epoch names the side; in force is whichever the record says.

Invariants: a generation is in `l` only once each of its blocks of that shard is written; a field
of a bucket or its value never exceeds 64 bytes, so that a bucket stays a listpack on any server.
"""

import re
from functools import lru_cache
from typing import Any, Final
from zlib import crc32

from consent.category import BIT, mask
from consent.facts import Consent, Profile
from consent.index.fault import IndexRefused
from consent.terms import MODE_BIT, Terms
from consent.varint import read_varint, varint

SHARDS: Final = 256

BLOCK: Final = 98_000
"""Consecutive numbers a bitmap: 12,250 bytes and a 6-byte header in the 12,288 class of jemalloc.

Measured at 10.6 % density: memory 1.04 (used) and 1.06 (resident) times the bare bitmap. From
16 KiB up, a jemalloc built with cache-oblivious placement (Debian's) adds a page to each: 1.28.
"""

SPAN: Final = BLOCK // 2
"""Consecutive numbers a sparse hash; a width divides it into 122 stretches at most."""

SPARSE_WIDTHS: Final = tuple(width for width in range(SPAN // 122, SPAN + 1) if SPAN % width == 0)

BUCKET_WIDTH: Final = 9_800
"""Consecutive numbers a bucket; divides BLOCK. Right up to about 1 % of consents a number."""

MAX_VALUE_BYTES: Final = 64

TAGS: Final = tuple(b"{%02x}" % shard for shard in range(SHARDS))


class Side:
    """The names of the keys of one of the two indexes that may lie beside each other."""

    def __init__(self, letters: bytes) -> None:
        names = (b":%c:" % letter for letter in letters)
        self.stamp, self.bitmap, self.sparse, self.manifest, self.bucket, self.personal = names
        self.pattern: Final = b"{??}:[%b]*" % letters
        """Of every key of this side, for SCAN."""

    def stamp_key(self, shard: int) -> bytes:
        return TAGS[shard] + self.stamp[:-1]

    def bitmap_key(self, block: int, *, list_id: int, generation: int, bit: int) -> bytes:
        head = TAGS[block % SHARDS] + self.bitmap
        return b"%b%d.%d:%d:%d" % (head, list_id, generation, bit, block)

    def sparse_key(self, span: int, *, list_id: int, generation: int, bit: int) -> bytes:
        head = TAGS[span // 2 % SHARDS] + self.sparse
        return b"%b%d.%d:%d:%d" % (head, list_id, generation, bit, span)

    def manifest_key(self, shard: int, *, list_id: int, generation: int) -> bytes:
        return b"%b%b%d.%d" % (TAGS[shard], self.manifest, list_id, generation)

    def bucket_key(self, called: int, width: int) -> bytes:
        return b"%b%b%d" % (TAGS[shard_of(called)], self.bucket, called // width)

    def personal_key(self, called: int) -> bytes:
        return b"%b%b%d" % (TAGS[shard_of(called)], self.personal, called)


_EPOCH: Final = re.compile(r"(\d+\.)?[^.]+(\.1)?")
SIDES: Final = (Side(b"sdpmbx"), Side(b"SDPMBX"))


def shard_of(called: int) -> int:
    """The shard of a called number: that of its block, so that neighbours spread."""
    return called // BLOCK % SHARDS


def name_epoch(token: str, *, bucket_width: int = BUCKET_WIDTH, beside: str = "") -> str:
    """The epoch of a new index: a random token, and what a reader must know to read it.

    It lies on the other side than that of the epoch `beside`.
    """
    if bucket_width < 1 or BLOCK % bucket_width:
        raise IndexRefused(f"bucket width {bucket_width} does not divide the block of {BLOCK}")
    capitals = bool(beside) and side_of(beside) is SIDES[0]
    return f"{bucket_width}.{token}" + (".1" if capitals else "")


def readable(epoch: str) -> bool:
    """Whether an epoch is named as `name_epoch` does: any other is of another version's layout.

    A layout that this one would misread names its epochs otherwise.
    """
    return _EPOCH.fullmatch(epoch) is not None


def side_of(epoch: str) -> Side:
    """Where the index of an epoch lies."""
    return SIDES[epoch.count(".") > 1]


def bucket_width(epoch: str) -> int:
    """The bucket width that an epoch names, `BUCKET_WIDTH` if it names none."""
    width, dot, _ = epoch.partition(".")
    return int(width) if dot and width.isdecimal() else BUCKET_WIDTH


def sparse_field(called: int, width: int) -> bytes:
    return bytes((called % SPAN // width,))


def names(stretch: bytes, place: int) -> bool:
    """Whether a stretch of a sparse block names the number at `place` in it."""
    at = gap = shift = 0
    for byte in stretch:
        if byte > 0x7F:
            gap |= (byte & 0x7F) << shift
            shift += 7
            continue
        at += gap | byte << shift
        if at >= place:
            return at == place
        gap = shift = 0
    return False


def frequency_key(called: int) -> bytes:
    return b"%b:f:%d" % (TAGS[shard_of(called)], called)


def conduct_key(shard: int) -> bytes:
    return TAGS[shard] + b":c"


def signals_key(calling: int) -> bytes:
    return b"%b:g:%d" % (TAGS[shard_of(calling)], calling)


HOUR: Final = 3600
_HOURS: Final = 1 << 16


def calls_field(entity: int) -> bytes:
    """Of a number's frequency key: an entity's newest calls. Without the zero, which begins no
    packed integer, it is as it was until 2026-11-25: three bytes a call, the hour alone."""
    return b"\0" + pack_int(entity)


def call_mark(decision_id: str) -> bytes:
    """Two bytes by which a call asked about again knows itself; zeros for one without an id."""
    return (crc32(decision_id.encode()) % 0xFFFF + 1).to_bytes(2, "big") if decision_id else b"\0\0"


def pack_call(at: float, decision_id: str) -> bytes:
    """A call as four bytes: the hour in which it was made, in a cycle of seven years, and its mark.

    Sixteen of them are 64 bytes, the most that a compact hash holds.
    """
    return (max(0, int(at // HOUR)) % _HOURS).to_bytes(2, "big") + call_mark(decision_id)


def other_calls(data: bytes, decision_id: str, *, now: float) -> tuple[int, ...]:
    """The instants (epoch seconds, the hour's beginning) of the calls but for this very one.

    `now` is about when they are read: of the cycles the one nearest to it is meant.
    """
    own = call_mark(decision_id) if decision_id else b""
    hour = int(now // HOUR)
    found = []
    for at in range(0, len(data) - 3, 4):
        if data[at + 2 : at + 4] != own:
            ahead = (int.from_bytes(data[at : at + 2], "big") - hour) % _HOURS
            found.append((hour + ahead - (_HOURS if ahead >= _HOURS // 2 else 0)) * HOUR)
    return tuple(found)


def hours(data: bytes) -> tuple[int, ...]:
    """The instants (epoch seconds) behind the hours of an entity's calls, as they were written
    until 2026-11-25; such a field is gone a month after."""
    return tuple(
        int.from_bytes(data[at : at + 3], "big") * HOUR for at in range(0, len(data) - 2, 3)
    )


def profile_field(called: int, width: int) -> bytes:
    """The number within its bucket: the field of its profile and the head of its consents'."""
    return (called % width).to_bytes(1 if width <= 256 else 2, "big")


def consent_field(called: int, entity: int, width: int) -> bytes:
    return profile_field(called, width) + pack_int(entity)


def pack_int(value: int) -> bytes:
    """A positive integer in as few bytes as it needs, at least one."""
    return value.to_bytes((value.bit_length() + 7) // 8 or 1, "big")


REVOKED: Final = 1
_EXPIRES_32, _EXPIRES_64, _ONE_CATEGORY, _MASK, _TERMS = 2, 4, 8, 16, 32
_ALL: Final = 1 << BIT["all"]


def encode_consent(consent: Consent) -> bytes:
    """Flags, expiry, sequence, terms, categories: 9 to 11 bytes for most, 27 without terms at most.

    The flag `REVOKED` is bit 0 of byte 0, where the writer's script sets it in place.
    """
    flags = REVOKED if consent.revoked else 0
    expires = terms = categories = b""
    if consent.expires:
        wide = consent.expires >> 32
        flags |= _EXPIRES_64 if wide else _EXPIRES_32
        expires = consent.expires.to_bytes(8 if wide else 4, "big")
    if consent.terms is not None:
        flags |= _TERMS
        terms = _encode_terms(consent.terms)
    bits = consent.categories
    if bits != _ALL:
        one = bits and not bits & (bits - 1)
        flags |= _ONE_CATEGORY if one else _MASK
        categories = pack_int(bits.bit_length() - 1 if one else bits)
    data = bytes((flags,)) + expires + varint(consent.sequence) + terms + categories
    if len(data) > MAX_VALUE_BYTES:
        raise IndexRefused(f"a consent of {len(data)} bytes, expected {MAX_VALUE_BYTES} at most")
    return data


def decode_consent(data: bytes) -> Consent:
    flags, at, expires, categories, terms = data[0], 1, 0, _ALL, None
    if flags & (_EXPIRES_32 | _EXPIRES_64):
        at = 5 if flags & _EXPIRES_32 else 9
        expires = int.from_bytes(data[1:at], "big")
    sequence, at = read_varint(data, at)
    if flags & _TERMS:
        terms, at = _decode_terms(data, at)
    if flags & (_ONE_CATEGORY | _MASK):
        categories = int.from_bytes(data[at:], "big")
        if flags & _ONE_CATEGORY:
            categories = 1 << categories
    return Consent(sequence, bool(flags & REVOKED), expires, categories, terms)


def consent_from(sequence: int, body: dict[str, Any]) -> Consent:
    """The consent that the body of an event says the whole of (see `consent.event.Event`)."""
    return Consent(
        sequence,
        False,
        int(body.get("expires", 0)),
        mask(body["categories"]),
        Terms.of(body.get("terms", {})),
    )


def _encode_terms(terms: Terms) -> bytes:
    """A byte that says which parts follow, then the parts."""
    often = terms.calls << 8 | terms.per_days << 3 | terms.modes
    parts = (
        terms.effective.to_bytes(4, "big") if terms.effective else b"",
        bytes((terms.days,)) if terms.days else b"",
        terms.bands.to_bytes(3, "big") if terms.bands else b"",
        often.to_bytes(2, "big") if often else b"",
        _encode_zone(terms.zone) if terms.zone else b"",
        varint(terms.revoked) if terms.revoked else b"",
        varint(terms.revokes) + terms.revokes_at.to_bytes(4, "big") if terms.revokes else b"",
    )
    return bytes((sum(1 << place for place, part in enumerate(parts) if part),)) + b"".join(parts)


def _decode_terms(data: bytes, at: int) -> tuple[Terms, int]:
    present, at = data[at], at + 1
    effective = days = bands = often = revoked = revokes = revokes_at = 0
    zone = ""
    if present & 1:
        effective, at = int.from_bytes(data[at : at + 4], "big"), at + 4
    if present & 2:
        days, at = data[at], at + 1
    if present & 4:
        bands, at = int.from_bytes(data[at : at + 3], "big"), at + 3
    if present & 8:
        often, at = int.from_bytes(data[at : at + 2], "big"), at + 2
    if present & 16:
        zone, at = _decode_zone(data, at)
    if present & 32:
        revoked, at = read_varint(data, at)
    if present & 64:
        revokes, at = read_varint(data, at)
        revokes_at, at = int.from_bytes(data[at : at + 4], "big"), at + 4
    terms = Terms(
        effective, days, bands, often & 7, zone, often >> 8, often >> 3 & 31,
        revoked, revokes, revokes_at,
    )  # fmt: skip
    return terms, at


# A zone's first part is one byte, so that the longest names still fit beside full masks and
# three prefixes. Append only: a position, once written to a server, keeps its meaning.
_ZONE_AREAS: Final = (
    "",
    "Africa/",
    "America/",
    "America/Argentina/",
    "America/Indiana/",
    "America/Kentucky/",
    "America/North_Dakota/",
    "Antarctica/",
    "Arctic/",
    "Asia/",
    "Atlantic/",
    "Australia/",
    "Brazil/",
    "Canada/",
    "Chile/",
    "Europe/",
    "Indian/",
    "Mexico/",
    "Pacific/",
    "US/",
    "Etc/",
)
_ACTIONS: Final = ("allow", "block")


def encode_profile(profile: Profile) -> bytes:
    """A byte that says which parts follow, then the parts. Raises IndexRefused past 64 bytes."""
    parts = (
        varint(profile.refused) if profile.refused else b"",
        varint(profile.accepted) if profile.accepted else b"",
        profile.bands.to_bytes(3, "big") if profile.bands else b"",
        bytes((profile.days,)) if profile.days else b"",
        bytes((profile.modes,)) if profile.modes else b"",
        _encode_zone(profile.zone) if profile.zone else b"",
        b"".join(
            varint(int(digits) << 1 | _ACTIONS.index(action)) for digits, action in profile.prefixes
        ),
    )
    present = sum(1 << position for position, part in enumerate(parts) if part)
    data = bytes((present,)) + b"".join(parts)
    if len(data) > MAX_VALUE_BYTES:
        raise IndexRefused(f"a profile of {len(data)} bytes, expected {MAX_VALUE_BYTES} at most")
    return data


def _encode_zone(zone: str) -> bytes:
    area = max((a for a in _ZONE_AREAS if zone.startswith(a)), key=len)
    rest = zone[len(area) :].encode()
    return bytes((_ZONE_AREAS.index(area), len(rest))) + rest


def _decode_zone(data: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + data[at + 1]
    return _ZONE_AREAS[data[at]] + data[at + 2 : end].decode(), end


@lru_cache(maxsize=4096)
def decode_profile(data: bytes) -> Profile:
    """The profile that `encode_profile` packed; subscribers' settings repeat, hence the cache."""
    present, at = data[0], 1
    refused = accepted = bands = days = modes = 0
    zone, prefixes = "", []
    if present & 1:
        refused, at = read_varint(data, at)
    if present & 2:
        accepted, at = read_varint(data, at)
    if present & 4:
        bands, at = int.from_bytes(data[at : at + 3], "big"), at + 3
    if present & 8:
        days, at = data[at], at + 1
    if present & 16:
        modes, at = data[at], at + 1
    if present & 32:
        zone, at = _decode_zone(data, at)
    while at < len(data):
        packed, at = read_varint(data, at)
        prefixes.append((str(packed >> 1), _ACTIONS[packed & 1]))
    return Profile(refused, accepted, bands, days, modes, zone, tuple(prefixes))


def profile_from(body: dict[str, Any]) -> Profile:
    """The profile of the body of a `preferences.set` event (see `consent.event.Event`)."""
    return Profile(
        refused=mask(body.get("refused", ())),
        accepted=mask(body.get("accepted", ())),
        bands=sum({1 << hour for hour in body.get("bands", ())}),
        days=sum({1 << day for day in body.get("days", ())}),
        modes=sum({1 << MODE_BIT[mode] for mode in body.get("modes", ())}),
        zone=body.get("zone", ""),
        prefixes=tuple((str(digits), action) for digits, action in body.get("prefixes", ())),
    )
