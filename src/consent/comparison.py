"""Whether the index says what the record says: the two read side by side, number by number.

What differs only because a write is on its way is read again before it is told. A difference
names its number for whoever may see it; reports show the token.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from consent.category import mask
from consent.facts import ALL_BIT, Consent
from consent.held import Held
from consent.index import IndexStore
from consent.index.contents import Contents
from consent.index.layout import profile_from
from consent.projection import catch_up
from consent.record import Record
from consent.terms import Terms

LOOKS: Final = 3
"""At a number before it is said to differ: what is written meanwhile may be between the two."""

AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """What the index has otherwise than the record, in words without a number."""

    called: int
    what: str


def compare(record: Record, store: IndexStore, numbers: Iterable[int]) -> Iterator[Difference]:
    """What differs for some numbers, and for all that share a bucket of the index with them.

    Raises IndexUnavailable, IndexLost, RecordUnavailable, and RecordError for what the keyring
    does not open.
    """
    wanted = iter(numbers)
    while some := list(itertools.islice(wanted, AT_ONCE)):
        found: list[Difference] = []
        for _ in range(LOOKS):
            found = _differences(record, store, some)
            if not found:
                break
            some = sorted({each.called for each in found})
            catch_up(record, store)
        yield from found


def sample(record: Record, store: IndexStore, count: int) -> list[int]:
    """Numbers at random: half of them known to the ledger, half held by the index."""
    known = [each for each in record.ledger.sample(count - count // 2) if each]
    return known + store.random_places(count // 2)


def _differences(record: Record, store: IndexStore, numbers: Collection[int]) -> list[Difference]:
    holds = store.contents(numbers)
    decided = record.ledger.events_of_each(holds)
    return [
        Difference(called, what)
        for called, contents in holds.items()
        for what in _compared(Held.of(decided[called]), contents)
    ]


def _compared(held: Held, holds: Contents) -> Iterator[str]:
    profile = profile_from(held.preferences)
    if holds.profile != profile:
        yield "the preferences are others"
    for entity in sorted(held.consents.keys() | holds.consents.keys()):
        consent = held.consents.get(entity)
        expected = None
        if consent is not None:
            expected = Consent(
                consent.sequence,
                consent.revoked_at is not None,
                consent.expires,
                mask(consent.categories),
                Terms.of(consent.terms),
            )
        there = holds.consents.get(entity)
        if _meaning(there) != _meaning(expected):
            yield f"consent to entity {entity} is {_said(there)}, expected {_said(expected)}"
    for calling in held.personal.keys() | holds.personal.keys():
        expected_entry, entry = held.personal.get(calling), holds.personal.get(calling)
        if expected_entry != entry:
            yield f"a personal entry is {entry or 'absent'}, expected {expected_entry or 'none'}"


def _meaning(consent: Consent | None) -> object:
    """What calls are decided by. Of a revoked one no more than that: it keeps what it was of."""
    if consent is None:
        return None
    if consent.revoked:
        return "revoked", consent.categories
    return consent


def _said(consent: Consent | None) -> str:
    if consent is None:
        return "absent"
    if consent.revoked:
        return "revoked"
    categories = "all" if consent.categories == ALL_BIT else f"{consent.categories:#x}"
    until = f" until {consent.expires}" if consent.expires else ""
    terms = f" on {consent.terms}" if consent.terms else ""
    return f"granted as event {consent.sequence} for {categories}{until}{terms}"
