"""The terms of consents: what they permit, in the ledger, in the index and for a call."""

import asyncio
import time
import zoneinfo
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.category import BIT, mask
from consent.event import Event, EventKind
from consent.facts import ALL_BIT, Consent, Facts
from consent.held import HeldConsent
from consent.index import IndexReader, IndexStore, Question, layout, name_epoch
from consent.index.conduct import ConductStore
from consent.keyring import Keyring
from consent.record import Record, RecordError
from consent.terms import MOST_CALLS, MOST_DAYS, Terms

CALLED, MOBILE = 441632960001, 61491570156
NOON = datetime.fromisoformat("2026-11-23T12:00:00+00:00").timestamp()
"""A Monday."""
DAY = 86_400
EPOCH = name_epoch("7e4a")

some = st.sets(st.sampled_from(sorted(BIT.values()))).map(lambda bits: sum(1 << b for b in bits))
zones = st.sampled_from([*sorted(zoneinfo.available_timezones()), ""])
instants = st.integers(0, 2**32 - 1)
terms = st.builds(
    Terms,
    effective=instants,
    days=st.integers(0, 255),
    bands=st.integers(0, 2**24 - 1),
    modes=st.integers(0, 7),
    zone=zones,
    calls=st.integers(0, MOST_CALLS),
    per_days=st.integers(0, MOST_DAYS),
    revoked=some,
)


@given(terms, st.tuples(some.filter(bool), instants) | st.none(), some, instants, st.booleans())
@settings(max_examples=300)
def test_terms_read_back(
    said: Terms, coming: tuple[int, int] | None, categories: int, expires: int, revoked: bool
) -> None:
    """Terms survive their packing, at most 64 bytes with all else, whatever else there is."""
    revokes, at = coming or (0, 0)
    fields = {name: getattr(said, name) for name in Terms.__slots__}
    packed = Terms(**(fields | {"revokes": revokes, "revokes_at": at}))
    consent = Consent(2**42 - 1, revoked, expires, categories, packed)
    data = layout.encode_consent(consent)
    assert consent == layout.decode_consent(data)
    assert len(data) <= layout.MAX_VALUE_BYTES


def test_the_longest_terms_fit() -> None:
    """Every part there, each at its longest, in every zone."""
    everything, most = sum(1 << bit for bit in BIT.values()), 2**32 - 1
    for zone in zoneinfo.available_timezones():
        full = Terms(most, 255, 2**24 - 1, 7, zone, 16, 30, everything, everything, most)
        consent = Consent(2**42 - 1, False, most, everything, full)
        assert consent == layout.decode_consent(layout.encode_consent(consent))


LONDON = {"zone": "Europe/London"}
WORKING = {"days": [0, 1, 2, 3, 4], **LONDON}


def hour(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("said", "at", "calls", "expected"),
    [
        pytest.param({"effective": int(NOON) + 1}, NOON, (), "effective", id="not yet"),
        pytest.param({"effective": int(NOON)}, NOON, (), "", id="from now on"),
        pytest.param({"modes": ["prerecorded"]}, NOON, (), "mode", id="another kind of call"),
        pytest.param({"modes": ["voice"]}, NOON, (), "", id="this kind"),
        pytest.param({"bands": [12], **LONDON}, NOON, (), "", id="in the band"),
        pytest.param({"bands": [12], **LONDON}, NOON + 3600, (), "band", id="past its end"),
        pytest.param({"bands": [12], **LONDON}, NOON - 1, (), "band", id="before it"),
        pytest.param(
            {"bands": [13], "zone": "Europe/Paris"}, NOON, (), "", id="in the zone it names"
        ),
        pytest.param(
            {"bands": [13], **LONDON}, hour("2026-07-20T12:30:00Z"), (), "", id="summer time"
        ),
        pytest.param(WORKING, NOON, (), "", id="on Monday"),
        pytest.param(WORKING, NOON - DAY, (), "day", id="on Sunday"),
        pytest.param(WORKING, hour("2026-12-25T12:00:00Z"), (), "day", id="a holiday is no Friday"),
        pytest.param(
            {"days": [7], **LONDON}, hour("2026-12-25T12:00:00Z"), (), "", id="holidays agreed to"
        ),
        pytest.param({"days": [0], "zone": "Mars/Base"}, NOON, (), "day", id="no such zone here"),
        pytest.param({"calls": 2, "per_days": 7}, NOON, (int(NOON) - DAY,), "", id="second call"),
        pytest.param(
            {"calls": 2, "per_days": 7}, NOON, (int(NOON) - DAY, int(NOON) - 2 * DAY), "frequency",
            id="third call",
        ),
        pytest.param(
            {"calls": 2, "per_days": 7}, NOON, (int(NOON) - DAY, int(NOON) - 8 * DAY), "",
            id="third, one long ago",
        ),
        pytest.param({"revoked": ["loans"]}, NOON, (), "revoked", id="revoked for it"),
        pytest.param({"revoked": ["insurance"]}, NOON, (), "", id="revoked for another"),
        pytest.param(
            {"revokes": ["all"], "revokes_at": int(NOON)}, NOON, (), "revoked", id="revoked by now"
        ),
        pytest.param(
            {"revokes": ["all"], "revokes_at": int(NOON) + 1}, NOON, (), "", id="revoked later"
        ),
    ],
)  # fmt: skip
def test_a_call_is_within_the_terms_or_not(
    said: dict[str, Any], at: float, calls: tuple[int, ...], expected: str
) -> None:
    """Outside them there is no consent; taken back it is revoked, whatever else it says."""
    facts = Facts(consent=Consent(1, False, 0, ALL_BIT, Terms.of(said)), entity_calls=calls)
    kind = {"mode": "voice", "country": "GB"}
    state = facts.consent_state(at, "loans", **kind)
    outside = facts.consent_outside(at, "loans", **kind)
    if expected == "revoked":
        assert (state, outside) == ("revoked", "")
    else:
        assert (state, outside) == ("none" if expected else "granted", expected)


# The ledger.


@pytest.fixture
def record(record_url: str, tmp_path: Path) -> Iterator[Record]:
    record = Record.open(record_url, keyring=Keyring.load_or_create(tmp_path / "keyring.json"))
    record.entities.put("bank", title="Bank", categories=["banking"], actor="test")
    yield record
    record.close()


def say(record: Record, kind: str, *, called: int = CALLED, at: float = NOON, **body: Any) -> Event:
    one = Event(0, at, EventKind(kind), called, {"entity": 1, **body})
    return record.ledger.append([one], actor="test")[0]


def grant(record: Record, *categories: str, **terms: Any) -> Event:
    named = list(categories or ("loans", "insurance"))
    return say(record, "consent.granted", categories=named, terms=terms)


def held(record: Record) -> HeldConsent:
    return record.ledger.held(CALLED).consents[1]


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("granted", {"terms": {"hours": [1]}}, "has 'hours': expected one of"),
        ("granted", {"terms": {"bands": [24]}}, "bands that is no integer from 0 to 23"),
        ("granted", {"terms": {"days": []}}, "days that is no list of 1 or more"),
        ("granted", {"terms": {"calls": 17, "per_days": 1}}, "calls that is no integer from 1"),
        ("granted", {"terms": {"calls": 2}}, "expected both"),
        ("granted", {"terms": {"zone": "Europe/Londn"}}, "the nearest is 'Europe/London'"),
        ("granted", {"terms": {"days": [1]}, "called": MOBILE}, "the number may be in 8"),
        ("granted", {"terms": {"effective": int(NOON) + 9}, "expires": int(NOON) + 9}, "before"),
        ("narrowed", {"terms": {"bands": [8, 9]}}, "would permit more by bands"),
        ("narrowed", {"terms": {"calls": 5, "per_days": 7}}, "would permit more by calls"),
        ("narrowed", {"terms": {"zone": "Europe/Paris"}}, "another zone"),
        ("narrowed", {"terms": {"effective": int(NOON)}}, "counts at once"),
        ("narrowed", {}, "no terms are stated"),
        ("revoked", {"scope": ["houses"]}, "is 'houses'"),
        ("revoked", {"entity": 2, "effective": int(NOON) + 9}, "there is no consent till then"),
    ],
)
def test_bad_terms_are_refused(
    record: Record, kind: str, body: dict[str, Any], expected: str
) -> None:
    """By the field and what was expected."""
    record.entities.put("other", title="Other", categories=["loans"], actor="test")
    grant(record, bands=[9, 10], calls=2, per_days=7)
    says = {"categories": ["loans"]} if kind == "granted" else {}
    with pytest.raises(RecordError, match=expected):
        say(record, f"consent.{kind}", **(says | body))


def test_a_consent_keeps_its_terms_until_it_is_given_anew(record: Record) -> None:
    """Renewals and narrowings carry them; the zone is that of the number, where it has one only."""
    first = grant(record, bands=[9, 10, 11], days=[0, 1])
    assert first.body["terms"]["zone"] == "Europe/London"
    say(record, "consent.renewed", expires=int(NOON) + DAY)
    say(record, "consent.narrowed", withdrawn=["loans"], terms={"bands": [9], "modes": ["voice"]})
    now = held(record)
    expected = {"bands": [9], "days": [0, 1], "modes": ["voice"], "zone": "Europe/London"}
    assert (now.terms, now.categories, now.expires) == (expected, ("insurance",), int(NOON) + DAY)
    assert (now.first, now.version, now.sequence) == (1, 3, 3)
    grant(record)
    assert (held(record).terms, held(record).first, held(record).version) == ({}, 4, 1)
    assert "terms" not in record.ledger.events_of(CALLED)[-1].body


def test_a_revocation_has_a_scope_and_an_instant(record: Record) -> None:
    """In part, later, or retroactive: each is recorded as it was said."""
    grant(record)
    say(record, "consent.revoked", scope=["loans"])
    assert held(record).terms == {"revoked": ["loans"]}
    assert held(record).state(NOON) == "granted"
    say(record, "consent.revoked", effective=int(NOON) + DAY)
    assert held(record).terms["revokes_at"] == int(NOON) + DAY
    assert [held(record).state(NOON + later) for later in (0, DAY)] == ["granted", "revoked"]
    with pytest.raises(RecordError, match="is later than that of a revocation stated before"):
        say(record, "consent.revoked", effective=int(NOON) + 2 * DAY)
    say(record, "consent.revoked", at=NOON + 60, effective=int(NOON) - DAY)
    now = held(record)
    assert now.state(NOON) == "revoked"
    assert now.revocation == {"at": NOON + 60, "effective": int(NOON) - DAY}
    with pytest.raises(RecordError, match="no consent of this subscriber to change"):
        say(record, "consent.renewed", at=NOON + 90, expires=0)


def test_every_category_taken_back_is_the_whole(record: Record) -> None:
    """One after the other, and for an entity that never had a consent."""
    grant(record)
    say(record, "consent.revoked", scope=["loans"])
    say(record, "consent.revoked", scope=["insurance"])
    assert held(record).state(NOON) == "revoked"
    record.entities.put("other", title="Other", categories=["loans"], actor="test")
    say(record, "consent.revoked", entity=2, scope=["loans"])
    assert record.ledger.held(CALLED).consents[2].state(NOON) == "revoked"


# The index.


async def test_the_index_has_the_terms(index_url: str, record: Record) -> None:
    """What ledger events say is read back, at once and from a rebuild; what is to come comes."""
    grant(record, bands=[12], calls=2, per_days=7)
    say(record, "consent.revoked", effective=int(NOON) + DAY)
    store = IndexStore(index_url)
    store.create(EPOCH)
    reader = IndexReader(index_url, epoch=EPOCH)
    conduct = ConductStore(index_url, node="n")
    await reader.start()

    async def state(at: float, category: str = "loans") -> str:
        question = Question(CALLED, calling=1, entity=1, consent=True)
        deadline = asyncio.get_running_loop().time() + 5
        facts = await reader.facts(question, deadline=deadline)
        assert facts.known
        return facts.consent_state(at, category, mode="voice", country="GB")

    instants = (NOON, NOON + 3600, NOON + DAY)
    try:
        store.apply(record.ledger.events())
        assert [await state(at) for at in instants] == ["granted", "none", "revoked"]
        store.rebuild(EPOCH, generations=(), events=record.ledger.events(), last_sequence=2)
        reader.epoch = EPOCH
        assert [await state(at) for at in instants] == ["granted", "none", "revoked"]
        conduct.write_calls([(CALLED, 1, NOON - DAY, ""), (CALLED, 1, NOON - 2 * DAY, "")])
        assert await state(NOON) == "none"
        # A plain revocation finds its place in a consent with terms.
        say(record, "consent.revoked")
        store.apply(record.ledger.events(2), after=2)
        assert await state(NOON) == "revoked"
        grant(record)
        say(record, "consent.revoked", scope=["loans"])
        store.apply(record.ledger.events(3), after=3)
        assert [await state(NOON, each) for each in ("loans", "insurance")] == [
            "revoked",
            "granted",
        ]
    finally:
        await reader.close()
        conduct.close()
        store.close()


async def test_a_call_asked_about_again_does_not_count_itself(
    index_url: str, record: Record
) -> None:
    """A fork or a retransmission comes after the recorder has counted the call; what the recorder
    writes twice is one call. Every other call counts it, and so does one without an id."""
    grant(record, calls=1, per_days=7)
    store = IndexStore(index_url)
    store.create(EPOCH)
    reader = IndexReader(index_url, epoch=EPOCH)
    conduct = ConductStore(index_url, node="n")
    await reader.start()
    now = time.time()

    async def read(decision_id: str) -> tuple[str, int]:
        question = Question(CALLED, entity=1, consent=True, decision_id=decision_id)
        deadline = asyncio.get_running_loop().time() + 5
        facts = await reader.facts(question, deadline=deadline)
        assert facts.known
        state = facts.consent_state(now, "loans", mode="voice", country="GB")
        return state, facts.entity_calls_before(now)

    try:
        store.apply(record.ledger.events())
        assert await read("first") == ("granted", 0)
        for _ in range(2):
            conduct.write_calls([(CALLED, 1, now - 7200, "first")])
        assert await read("first") == ("granted", 0)
        assert await read("second") == ("none", 1)
        assert await read("") == ("none", 1)
        conduct.write_calls([(CALLED, 1, now - 7200, "")] * 2)
        assert await read("first") == ("none", 2)
        conduct.write_calls([(CALLED, 1, now - n * 3600, f"call {n}") for n in range(40, 20, -1)])
        assert await read("first") == ("none", 16)
    finally:
        await reader.close()
        conduct.close()
        store.close()


@pytest.mark.parametrize("now", [NOON, 65536 * 3600 * 8 - 1800.0, 65536 * 3600 * 8 + 1800.0])
def test_the_hour_of_a_call_is_the_one_nearest(now: float) -> None:
    """Within three years on either side, over the end of a cycle too."""
    for away in (-3 * 365 * DAY, -30 * DAY, -3600, 0, 3600, 3 * 365 * DAY):
        (at,) = layout.other_calls(layout.pack_call(now + away, "a"), "b", now=now)
        assert 0 <= now + away - at < 3600


def test_a_mask_of_nothing_is_no_terms() -> None:
    """A consent without terms has none, and is as small as before."""
    assert Terms.of({}) is None
    plain = Consent(30_000_000, False, 1_900_000_000, mask(["insurance"]))
    assert len(layout.encode_consent(plain)) == 10
