"""Digit strings to values by the million, each exactly as `consent.number` reads it.

A string of digits is read by its first few of them and its length: they tell the plan, and
whether there is a trunk prefix. So one string of each such *head* is read by `parse_number`, and
what it did to it (it put a country code in the place of some digits) is added to all others.
`reach` proves that a head settles the reading; where it does not, a longer head is tried, and
what remains is read one by one. A property test holds both ways equal.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from consent.listing.entry import Reason
from consent.listing.reach import after, is_over, is_uniform, pattern_state
from consent.number import LONGEST_NATIONAL, NumberClass, is_national, parse_number
from consent.plan import BY_COUNTRY, Plan, plan_of, rows
from consent.series import AREA, BY_NAME

Values = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

LENGTHS: Final = range(8, 17)
"""Digits of a string, trunk prefix and all; what is shorter or longer is rare and odd."""

FIRST_HEAD: Final = 4
LONGEST_HEAD: Final = 9
LONGEST_TABLE: Final = 5
"""Heads up to this length have a table of all of them, longer ones are looked up."""

WORTH: Final = 2
"""Strings that a head must have before it is read for all of them: one costs as much."""

# What is known of a head, where it is not what to add to its strings.
UNKNOWN: Final = -(2**63)
LONGER: Final = UNKNOWN + 1
SINGLY: Final = UNKNOWN + 2

KINDS: Final = (
    "fixed_line",
    "mobile",
    "toll_free",
    "premium_rate",
    "shared_cost",
    "personal_number",
    "voip",
    "pager",
    "uan",
    "voicemail",
)


class Bulk:
    """Reads digit strings of one region, or only those with a plus where there is none.

    `accept` is what the list takes: a value, or the reason why not, for a parsed number.
    """

    def __init__(self, region: str, *, accept: Callable[[Any], int | Reason]) -> None:
        self._region = region
        self._accept = accept
        self._national = _National(region) if region in BY_COUNTRY else None
        self._tables: dict[tuple[bool, int, int], npt.NDArray[np.int64]] = {}
        self._found: dict[tuple[bool, int, int], dict[int, int]] = {}

    def values(self, digits: Values, *, length: int, plus: bool) -> tuple[Values, Mask]:
        """The values of strings of `length` digits given as integers, and which of them are.

        The others must be read one by one.
        """
        out = digits.astype(np.int64)
        settled = np.zeros(len(digits), np.bool_)
        if length not in LENGTHS or not (plus or self._national):
            return digits, settled
        rest = np.arange(len(digits))
        for depth in range(FIRST_HEAD, min(LONGEST_HEAD, length - 2) + 1):
            heads = (out[rest] // 10 ** (length - depth)).astype(np.int64)
            added = self._added(heads, plus=plus, length=length, depth=depth)
            known = added > SINGLY
            out[rest[known]] += added[known]
            settled[rest[known]] = True
            rest = rest[added == LONGER]
            if not len(rest):
                break
        return out.astype(np.uint64), settled

    def _added(
        self, heads: npt.NDArray[np.int64], *, plus: bool, length: int, depth: int
    ) -> npt.NDArray[np.int64]:
        """What is to be added to strings with these heads, or one of the words above."""
        key = (plus, length, depth)
        if depth <= LONGEST_TABLE:
            known = self._tables.setdefault(key, np.full(10**depth, UNKNOWN))
            added = known[heads]
            unread = heads[added == UNKNOWN]
            unique = np.unique(unread)
            if len(unique) * WORTH > len(unread):
                return added
            for head in unique.tolist():
                known[head] = self._read(f"{head:0{depth}d}", plus=plus, length=length)
            return known[heads]
        found = self._found.setdefault(key, {})
        unique, places = np.unique(heads, return_inverse=True)
        worth = len(unique) * WORTH <= len(heads)
        for head in unique.tolist() if worth else ():
            if head not in found:
                found[head] = self._read(f"{head:0{depth}d}", plus=plus, length=length)
        added = np.array([found.get(head, UNKNOWN) for head in unique.tolist()], np.int64)
        return added[places]

    def _read(self, head: str, *, plus: bool, length: int) -> int:
        """What is to be added to the strings with this head, or LONGER or SINGLY."""
        example = head + "5" * (length - len(head))
        number = parse_number(f"+{example}" if plus else example, region=self._region)
        if number.kind not in {NumberClass.SUBSCRIBER, NumberClass.SERVICE}:
            return self._unread(head)
        value = self._accept(number)
        plan = plan_of(str(number.value))
        if isinstance(value, Reason) or not number.plausible or plan is None:
            return self._unread(head)
        if plus:
            settled = value == int(example) and _plan_settled(head, plan=plan, length=length)
            return 0 if settled else self._unread(head)
        assert self._national is not None  # noqa: S101 - values() has seen to it
        dropped = length - (len(str(value)) - len(plan.code))
        if (
            not 0 <= dropped < len(head)
            or f"{value}" != plan.code + example[dropped:]
            or not _plan_settled(
                plan.code + head[dropped:], plan=plan, length=len(plan.code) + length - dropped
            )
            or not self._national.settles(head, length=length, dropped=dropped, value=value)
        ):
            return self._unread(head)
        return int(plan.code + example[dropped:]) - int(example)

    @staticmethod
    def _unread(head: str) -> int:
        return LONGER if len(head) < LONGEST_HEAD else SINGLY


_BEGINNINGS: Final = frozenset(
    row[0][:length] for row in rows("plans.tsv") for length in range(len(row[0]))
)
"""What prefixes of plans begin with, without being whole."""


def _plan_settled(head: str, *, plan: Plan, length: int) -> bool:
    """Whether a head with country code tells the plan, a trunk prefix left in, a short code."""
    return (
        len(head) >= len(plan.code) + 3
        and head not in _BEGINNINGS
        and _short_settled(
            head[len(plan.code) :], country=plan.country, length=length - len(plan.code)
        )
    )


@cache
def _short_prefixes(country: str) -> tuple[tuple[str, int], ...]:
    return tuple(
        (prefix, series.lengths)
        for series in BY_NAME.values()
        if series.country == country and series.kind == NumberClass.SHORT_CODE
        for prefix in series.prefixes
    )


def _short_settled(head: str, *, country: str, length: int) -> bool:
    """Whether no short code of `length` digits is told only by more digits than the head has."""
    # Behind an area code of two or three digits too, where that is how they are shown.
    return not any(
        lengths >> length - area & 1 and prefix.startswith(head[area:]) and prefix != head[area:]
        for area in ((0, 2, 3) if country in AREA else (0,))
        for prefix, lengths in _short_prefixes(country)
    )


class _National:
    """When a head settles how libphonenumber and `consent.number` read national digits.

    Mirrors `phonenumbers.parse`: the international prefix, the country code without plus, the
    national prefix, each looked for at the beginning and judged by the general pattern.
    """

    def __init__(self, region: str) -> None:
        from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

        metadata: Any = PhoneMetadata.metadata_for_region(region)
        self._region = region
        self._code = BY_COUNTRY[region].code
        self._abroad: str = metadata.international_prefix or ""
        self._trunk: str = metadata.national_prefix_for_parsing or ""
        self._general: str = metadata.general_desc.national_number_pattern
        regions = COUNTRY_CODE_TO_REGION_CODE[int(self._code)]
        self._kinds: set[str] = set()
        self._leading: set[str] = set()
        for each in regions:
            shared: Any = PhoneMetadata.metadata_for_region(each)
            described = [getattr(shared, kind) for kind in (*KINDS, "general_desc")]
            patterns = [kind.national_number_pattern for kind in described if kind]
            self._kinds |= {pattern for pattern in patterns if pattern}
            self._leading |= {shared.leading_digits} if shared.leading_digits else set()
        self._is_known = self._parses()

    def _parses(self) -> bool:
        try:
            for pattern in {self._abroad, self._trunk, self._general} | self._kinds | self._leading:
                pattern_state(pattern)
        except ValueError:
            return False
        return True

    def settles(self, head: str, *, length: int, dropped: int, value: int) -> bool:
        """Whether every string of the head is read as this one was: without `dropped` digits."""
        if not self._is_known or not str(value).startswith(self._code):
            return False
        starts = {0, dropped}
        if head.startswith(self._code):
            starts.add(len(self._code))
        for start in tuple(starts):
            trunk = re.match(self._trunk, head[start:]) if self._trunk else None
            starts.add(start + (trunk.end() if trunk else 0))
        if max(starts) >= len(head):
            return False
        prefixes = [(self._abroad, 0)] + [(self._trunk, start) for start in starts]
        wholes = [(self._general, start) for start in starts]
        example = head + "5" * (length - len(head))
        if length > LONGEST_NATIONAL and head[0] != "0" and not is_national(example, self._region):
            # Here `consent.number` asks whether it is valid, and if not tries it from abroad.
            import phonenumbers

            if not phonenumbers.is_valid_number(phonenumbers.parse(f"+{value}")):
                return False
            prefixes += [(pattern, dropped) for pattern in self._leading]
            wholes += [(pattern, dropped) for pattern in self._kinds]
        return (
            not (self._abroad and re.match(self._abroad, head))
            and _short_settled(head, country=self._region, length=length)
            and all(is_over(after(pattern_state(p), head[start:])) for p, start in prefixes if p)
            and all(
                is_uniform(after(pattern_state(p), head[start:]), length - len(head))
                for p, start in wholes
            )
        )
