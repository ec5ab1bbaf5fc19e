"""Numbers as signalled, and what they are.

`parse_number` reads whatever a switch sends and never raises. Every form ends at the digits
with country code and passes through one function, so that a number has one value however it
was written; the value of an odd number is kept too, since lists hold what was shown to people.
"""

import re
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple, NewType

from consent.address import take_apart
from consent.plan import BY_CODE, BY_COUNTRY, BY_KEY, KEY, Plan, plan_of
from consent.series import GATES, NO_GATES, Series, series_in


class NumberClass(StrEnum):
    """What kind of number a string names."""

    SUBSCRIBER = "subscriber"
    SERVICE = "service"
    SHORT_CODE = "short_code"
    ANONYMOUS = "anonymous"
    INVALID = "invalid"


class Number(NamedTuple):
    """A number as the rules see it.

    `value` is the digits with country code as an integer, the key of every index and list, and 0
    where there are none; a national number that is no E.164 has its country code before it all
    the same (110 in CN is 86110). `text` is `+` and digits, or the digits as signalled.
    `country` is ISO 3166-1 alpha-2 or "". `series` is a name such as "cn.95" or "in.140" where
    the number belongs to a series of `consent.series`, else "". `plausible` says whether its
    length is one that its plan uses.
    """

    value: int
    text: str
    kind: NumberClass
    country: str
    series: str
    plausible: bool


E164 = NewType("E164", int)
"""The digits of an international number, at most 15 (ITU-T E.164), as an integer."""


class NotE164(ValueError):
    """A text that is no E.164 number. The message tells its class and never its digits."""


LONGEST_E164: Final = 15
LONGEST_VALUE: Final = 19
"""Digits that always fit an unsigned 64-bit integer."""

LONGEST_SHORT_CODE: Final = 6
LONGEST_TEXT: Final = 64
LONGEST_NATIONAL: Final = 10
"""Digits up to which a number dialled without trunk prefix is taken for a national one."""

SHORTEST_BARE: Final = 8
"""Digits from which a number without plus, in no region, may be read as an international one."""

NATIONAL: Final = {"CN": re.compile(r"1[3-9][0-9]{9}", re.ASCII)}
"""What is a national number by its plan where libphonenumber does not know its series: China's
mobiles of 146, a hundredth of its prefixes, have the digits of +1 463."""

WITHHELD: Final = frozenset(
    {"anonymous", "restricted", "private", "withheld", "unavailable", "hidden", "blocked"}
)
"""User parts that stand for a number not sent; "unknown" is none, it is what broken ones send."""

ANONYMOUS: Final = Number(0, "", NumberClass.ANONYMOUS, "", "", False)

_SUBSCRIBER = NumberClass.SUBSCRIBER
_number_of: Final = tuple.__new__
"""Half the cost of `Number(…)`."""

_digits = re.compile(r"[0-9]+", re.ASCII).fullmatch
# By `+` and four digits, what tells a plain subscriber number: its country, where the national
# part begins, the digits and lengths of the plan, the first digits of its series, and prefixes
# that are another country's. Nearly every number that a switch sends ends here.
_QUICK: Final = {
    f"+{key}": (
        plan.country,
        1 + len(plan.code),
        plan.starts,
        plan.lengths & (2 << LONGEST_E164 - len(plan.code)) - 1,
        GATES.get(plan.country, NO_GATES),
        tuple(longer.prefix for longer in plan.longer),
    )
    for key, plan in BY_KEY.items()
    if plan.country
}


def parse_number(text: str, *, region: str = "") -> Number:
    """What a text names: any text, no exception.

    Accepts E.164, tel and sip URIs (RFC 3966, RFC 3261) with parameters and display name, and
    national or service digits of `region` (ISO 3166-1 alpha-2), with visual separators, in any
    script's digits, after 00 or the region's own international prefix. Without `region`, 011
    counts before ten digits and more, bare digits are an international number if that has a
    length of its plan, and up to six are a short code of no country.

    Anonymous are "" and the withheld forms of RFC 3323 and its dialects. Invalid, with value 0,
    is what holds no number; with a value, what has more than 15 digits or no country.
    """
    quick = _QUICK.get(text[: 1 + KEY])
    if quick is not None:
        country, national, starts, lengths, gates, elsewhere = quick
        if (
            lengths >> (len(text) - national) & 1
            and text[national] in starts
            and text[national : national + 2] not in gates
            and text[1:].isdigit()
            and text.isascii()
            and not (elsewhere and text.startswith(elsewhere, 1))
        ):
            return _number_of(Number, (int(text), text, _SUBSCRIBER, country, "", True))
    if len(text) <= LONGEST_TEXT:
        return _parse_short(text, region)
    return _parse_address(text, region)


def parse_e164(text: str, *, region: str = "") -> E164:
    """The E.164 form of a number as signalled, see `parse_number`.

    Raises NotE164 for short codes, withheld CLI, more than 15 digits and what is no number.
    """
    number = parse_number(text, region=region)
    if number.kind is _SUBSCRIBER or (
        number.kind is NumberClass.SERVICE and 0 < number.value < 10**LONGEST_E164
    ):
        return E164(number.value)
    raise NotE164(f"the text is {number.kind}, expected a number of at most 15 digits")


def format_e164(value: int) -> str:
    """The number as `+` and digits."""
    return f"+{value}"


def masked(number: Number) -> str:
    """The number for people to recognise and nobody to dial: country code and last two digits.

    Short codes are public and stay as they are.
    """
    if number.kind is NumberClass.SHORT_CODE or not number.value:
        return number.text if number.kind is NumberClass.SHORT_CODE else str(number.kind)
    digits = str(number.value)
    plan = plan_of(digits)
    code = plan.code if plan else ""
    hidden = len(digits) - len(code) - 2
    return f"+{code}{'*' * hidden}{digits[-2:]}" if hidden > 0 else f"+{code}**"


@lru_cache(maxsize=16_384)
def _parse_short(text: str, region: str) -> Number:
    """What is none of the plain ones is often the same: withheld, a campaign's, a short code."""
    return _parse_address(text, region)


def _parse_address(text: str, region: str) -> Number:
    if text[:1] == "+" and _digits(text, 1):
        return _international(text[1:])
    user, context, host, urn = take_apart(text)
    if urn:
        # A service by name (RFC 5031) is no number, and nothing is wrong with it.
        known = urn.startswith("urn:service:")
        return _nothing(text, NumberClass.SERVICE if known else NumberClass.INVALID)
    plus = user[:1] == "+"
    digits = user[1:] if plus else user
    if not _digits(digits):
        if digits.lower() in WITHHELD or host.endswith("anonymous.invalid"):
            return ANONYMOUS
        return ANONYMOUS if not text.strip() else _nothing(text, NumberClass.INVALID)
    if plus:
        return parse_number(user)
    if context[:1] == "+" and _digits(context[1:]):
        return _in_context(digits, context[1:])
    plan = BY_COUNTRY.get(region) or BY_COUNTRY.get(region.upper()) if region else None
    return _national(digits, plan) if plan else _unplaced(digits)


def _nothing(text: str, kind: NumberClass) -> Number:
    return Number(0, text[:LONGEST_TEXT], kind, "", "", False)


def _international(digits: str) -> Number:
    """The number of digits with country code: where every form ends."""
    plan = plan_of(digits)
    national = digits[len(plan.code) :] if plan else ""
    if plan is None or not national:
        kept = plan is None and digits[0] != "0" and len(digits) <= LONGEST_VALUE
        value = int(digits) if kept else 0
        return Number(value, f"+{digits}"[:LONGEST_TEXT], NumberClass.INVALID, "", "", False)
    series = series_in(national if plan.country else digits, plan.country)
    if series is not None:
        return _of_series(series, digits, national)
    possible = plan.possible(national)
    if plan.trunk and national[0] not in plan.starts and national.startswith(plan.trunk):
        # A trunk prefix left in, as in +44 (0) …
        return _international(plan.code + national.removeprefix(plan.trunk))
    if not possible:
        # Perhaps one of the prefixes that only libphonenumber can tell: carriers, mobiles.
        fewer = _without_trunk_prefix(digits)
        if len(fewer) < len(digits):
            return _international(fewer)
    if len(digits) > LONGEST_E164:
        value = int(digits) if len(digits) <= LONGEST_VALUE else 0
        text = f"+{digits}"[:LONGEST_TEXT]
        return Number(value, text, NumberClass.INVALID, plan.country, "", False)
    return Number(int(digits), f"+{digits}", _SUBSCRIBER, plan.country, "", possible)


def _of_series(series: Series, digits: str, national: str) -> Number:
    kind = NumberClass(series.kind)
    text = national if kind is NumberClass.SHORT_CODE else f"+{digits}"
    return Number(int(digits), text, kind, series.country, series.name, True)


def _without_trunk_prefix(digits: str) -> str:
    """The digits as libphonenumber reads them, or unchanged where it cannot."""
    import phonenumbers

    try:
        parsed = phonenumbers.parse(f"+{digits}")
    except phonenumbers.NumberParseException:
        return digits
    return f"{parsed.country_code}{phonenumbers.national_significant_number(parsed)}"


def _national(digits: str, plan: Plan) -> Number:
    """The number of digits dialled in the country of `plan`."""
    import phonenumbers

    series = series_in(digits, plan.country)
    if series is not None and series.kind == NumberClass.SHORT_CODE:
        return _of_series(series, plan.code + digits, digits)
    try:
        parsed = phonenumbers.parse(digits, plan.country)
        found = _international(
            f"{parsed.country_code}{phonenumbers.national_significant_number(parsed)}"
        )
    except phonenumbers.NumberParseException:
        found = None
    if (
        found is not None
        and found.plausible
        # Plans with numbers of many lengths hold nearly anything: the better reading wins.
        and (
            len(digits) <= LONGEST_NATIONAL
            or digits[0] == "0"
            or is_national(digits, plan.country)
            or not _is_abroad(digits, parsed)
        )
    ):
        return found
    # Not of this plan as dialled: perhaps international after all, as switches abroad send it.
    abroad = _from_abroad(digits.removeprefix("00")) if len(digits) >= SHORTEST_BARE else None
    if abroad is not None:
        return abroad
    if len(digits) <= LONGEST_SHORT_CODE and digits[0] != "0":
        value = int(plan.code + digits)
        possible = phonenumbers.is_possible_short_number_for_region(
            phonenumbers.PhoneNumber(int(plan.code), int(digits)), plan.country
        )
        return Number(value, digits, NumberClass.SHORT_CODE, plan.country, "", possible)
    if found is not None:
        return found
    stripped = digits.lstrip("0")
    if not stripped:
        return Number(0, digits[:LONGEST_TEXT], NumberClass.INVALID, plan.country, "", False)
    return _international(stripped if digits[:2] == "00" else plan.code + stripped)


def is_national(digits: str, country: str) -> bool:
    """Whether the national plan settles by itself that these are national digits."""
    return country in NATIONAL and bool(NATIONAL[country].fullmatch(digits))


def _is_abroad(digits: str, parsed: Any) -> bool:
    """Whether the digits are a valid number with country code, and none of the country."""
    import phonenumbers

    if phonenumbers.is_valid_number(parsed):
        return False
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(f"+{digits}")))
    except phonenumbers.NumberParseException:
        return False


def _from_abroad(digits: str) -> Number | None:
    """The international number that bare digits make, if that has a length of its plan."""
    found = _international(digits)
    return found if found.plausible else None


def _unplaced(digits: str) -> Number:
    """The number of digits dialled nobody knows where."""
    if digits[:2] == "00" and len(digits) > LONGEST_SHORT_CODE:
        return _international(digits[2:].lstrip("0") or "0")
    if digits[:3] == "011" and len(digits) >= 10:
        found = _from_abroad(digits[3:])
        if found is not None:
            return found
    if digits[0] != "0":
        found = _international(digits)
        if found.series or (found.plausible and len(digits) >= SHORTEST_BARE):
            return found
    if len(digits) <= LONGEST_SHORT_CODE:
        return Number(int(digits), digits, NumberClass.SHORT_CODE, "", "", True)
    value = int(digits) if digits[0] != "0" and len(digits) <= LONGEST_VALUE else 0
    return Number(value, digits[:LONGEST_TEXT], NumberClass.INVALID, "", "", False)


def _in_context(digits: str, context: str) -> Number:
    """The number of digits that count within a phone-context such as +44 (RFC 3966)."""
    if context in BY_CODE:
        return _national(digits, BY_CODE[context])
    plan = plan_of(context)
    whole = _from_abroad(context + digits)
    return whole or (_national(digits, plan) if plan else _unplaced(digits))
