"""Emergency numbers: a call to one passes before anything else is looked at.

The table, `data/emergency.tsv`, was audited in three steps. Every number that libphonenumber
knows as an emergency number of a region is in it (a test expands the library's patterns and
fails if one is missing). To these were added, from general knowledge of national numbering
plans and of the services' public notices, what the library misses: CN 122, 12110 and 95110, NG
122, JP 118, gendarmeries, coastguards and municipal police; each such row says so in its source
column, and was not checked again against the printed plan. Help lines for people in danger or
despair (US 988, FR 3114, IN 14416, the European 116 numbers) stand beside them under services
of their own, `HELP`; GB 111, the National Health Service for urgent cases, is one of those, and
101, the police when there is no hurry, is left out.

112 and 911 are emergency numbers everywhere: every mobile phone treats them so (3GPP TS
22.101). A wrong "yes" lets one call to a short code through, a wrong "no" can cost a life, so
doubtful forms ("+112", "0112", "86110") count, as long as no subscriber can have the number.
"""

import re
from typing import Final

from consent.address import take_apart
from consent.plan import BY_CODE, BY_COUNTRY, rows

EVERYWHERE: Final = frozenset({"112", "911"})

HELP: Final = frozenset({"crisis", "child", "women", "health"})
"""Services of help lines; the others are emergency services proper."""


def _load() -> dict[str, dict[str, frozenset[str]]]:
    table: dict[str, dict[str, frozenset[str]]] = {}
    for country, number, services, _source in rows("emergency.tsv"):
        wild = number.count("x")
        for filler in range(10**wild):
            digits = number[: len(number) - wild] + (f"{filler:0{wild}d}" if wild else "")
            table.setdefault(country, {})[digits] = frozenset(services.split(","))
    return table


SERVICES: Final = _load()
"""The services behind each number, by country (ISO 3166-1 alpha-2) and number as dialled."""


def _forms() -> tuple[frozenset[str], dict[str, frozenset[str]], frozenset[str]]:
    """Plain forms of emergency numbers: international ones, by region, and of whatever region."""
    international = {
        f"{prefix}{code}{number}"
        for code in BY_CODE
        for number in EVERYWHERE
        for prefix in ("+", "00")
    }
    by_region: dict[str, frozenset[str]] = {}
    anywhere: set[str] = set(EVERYWHERE)
    for country in {*SERVICES, *BY_COUNTRY} - {""}:
        numbers = EVERYWHERE.union(SERVICES.get(country, {}))
        plan = BY_COUNTRY.get(country)
        # Mistakes that reach a switch: a plus, a trunk prefix, a country code without plus.
        forms = {*numbers, *("+" + number for number in numbers)}
        forms |= {"0" + number for number in numbers if len(number) == 3}
        if plan is not None:
            international |= {f"{p}{plan.code}{number}" for p in ("+", "00") for number in numbers}
            coded = {plan.code + number for number in numbers}
            anywhere |= coded
            forms |= {digits for digits in coded if not plan.possible(digits)}
        by_region[country] = frozenset(forms)
        anywhere |= forms
    everything = frozenset(international)
    return everything, by_region, frozenset(anywhere)


_INTERNATIONAL, _BY_REGION, _ANYWHERE = _forms()
LONGEST: Final = max(map(len, _INTERNATIONAL | _ANYWHERE))
"""Digits beyond which nothing is an emergency number."""

# Area code and emergency number: how a far-away control room is reached in China and India, and
# how German networks route by district. No subscriber's number has these lengths there.
_AREAS: Final = {
    "CN": ("86", r"(?:10|2\d|[3-9]\d\d)(?:110|119|120|122)"),
    "IN": ("91", r"(?:11|22|33|40|44|80|20|79|[1-8]\d\d)(?:100|101|102|108|112)"),
    "DE": ("49", r"(?:30|40|69|89)(?:110|112)"),
}
_ABROAD: Final = "|".join(rf"(?:\+|00){code}{area}" for code, area in _AREAS.values())
_BY_AREA: Final = {
    country: re.compile(rf"{_ABROAD}|(?:{code}|0){area}", re.ASCII)
    for country, (code, area) in _AREAS.items()
} | {"": re.compile("|".join((_ABROAD, *(f"(?:{c}|0){a}" for c, a in _AREAS.values()))), re.ASCII)}
_FROM_ABROAD: Final = re.compile(_ABROAD, re.ASCII)
_LONGEST_BY_AREA: Final = 10

# RFC 5031 with its sub-services, their test form (RFC 6881), and counselling.
_URN: Final = re.compile(r"urn:service:(?:test\.)?(?:sos|counseling)(?:\.[\w.-]*)?")


def is_emergency(text: str, *, region: str = "") -> bool:
    """Whether what was dialled is an emergency number or a help line.

    `text` is a called or dialled address in any form; `region` (ISO 3166-1 alpha-2) is where a
    short code counts, and without a known one a code counts that is one in any country. A
    number in international form counts by its own country.
    """
    digits = text.removeprefix("+")
    if digits.isdecimal() and len(digits) > LONGEST:
        return False
    forms = _BY_REGION.get(region)
    if forms is None:
        region = region.upper()
        forms = _BY_REGION.get(region, _ANYWHERE)
    if text in forms or text in _INTERNATIONAL:
        return True
    if digits.isdecimal() and digits.isascii():
        return _is_by_area(text, region=region)
    address = take_apart(text)
    if address.urn:
        return _URN.fullmatch(address.urn) is not None
    digits = address.user.strip("*#")
    return (
        digits in forms
        or digits in _INTERNATIONAL
        or (address.context[:1] == "+" and address.context + digits in _INTERNATIONAL)
        # The user part that stood for emergency services before RFC 5031.
        or (bool(address.host) and digits.lower() == "sos")
        or _is_by_area(digits, region=region)
    )


def _is_by_area(text: str, *, region: str) -> bool:
    if len(text) > _LONGEST_BY_AREA:
        return False
    pattern = _BY_AREA.get(region if region in _BY_REGION else "", _FROM_ABROAD)
    return pattern.fullmatch(text) is not None
