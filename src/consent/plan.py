"""National numbering plans: whose a number is, and which lengths its country uses.

The table is data, written by `consent.derive` from libphonenumber; it holds the shared codes
(+1, +7, +39, +44, +47, +61, +212, +262, +290, +358, +590, +599) down to the prefix that tells
their countries apart. Prefixes that nobody has are the main country's.
"""

from importlib.resources import files
from typing import Final

KEY: Final = 4
"""Digits that find a plan in one step; only a few countries need more of them."""


def rows(name: str) -> list[list[str]]:
    """The rows of a table of this package, without its comments."""
    text = (files("consent") / "data" / name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if line and line[0] != "#"]


def lengths_mask(lengths: str) -> int:
    """Lengths such as "7,10" as a mask whose bit n says that n digits are possible."""
    return sum(1 << int(length) for length in lengths.split(","))


class Plan:
    """One country's part of a country code.

    `code` is the country code's digits, `starts` the digits that national numbers begin with,
    `lengths` a mask of their lengths, `trunk` the prefix of calls within the country ("" for
    none), which is no part of a number. `longer` holds plans of other countries that begin with
    the same four digits, by prefix, longest first.
    """

    __slots__ = ("code", "country", "lengths", "longer", "prefix", "starts", "trunk")

    def __init__(self, row: list[str]) -> None:
        self.prefix, self.code, self.country, self.starts, lengths, self.trunk = row
        self.lengths = lengths_mask(lengths)
        self.longer: tuple[Plan, ...] = ()

    def possible(self, national: str) -> bool:
        """Whether the plan has numbers of this length."""
        return bool(self.lengths >> len(national) & 1)


def _load() -> tuple[dict[str, Plan], dict[str, Plan], dict[str, Plan]]:
    plans = [Plan(row) for row in rows("plans.tsv")]
    by_country: dict[str, Plan] = {}
    for plan in plans:
        if plan.country:
            by_country.setdefault(plan.country, plan)
    # A country without a prefix of its own is known only by name.
    plans = [plan for plan in plans if plan.prefix]
    by_key: dict[str, Plan] = {}
    # Short prefixes first, so that longer ones overwrite their part.
    for plan in sorted(plans, key=lambda plan: len(plan.prefix)):
        tail = KEY - len(plan.prefix)
        for filler in range(10**tail) if tail > 0 else ():
            by_key[f"{plan.prefix}{filler:0{tail}d}"] = plan
        if tail == 0:
            by_key[plan.prefix] = plan
    longer: dict[str, list[Plan]] = {}
    for plan in plans:
        if len(plan.prefix) > KEY:
            longer.setdefault(plan.prefix[:KEY], []).append(plan)
    for key, found in longer.items():
        general = by_key[key]
        special = Plan([key, general.code, general.country, general.starts, "0", general.trunk])
        special.lengths = general.lengths
        special.longer = tuple(sorted(found, key=lambda plan: -len(plan.prefix)))
        by_key[key] = special
    by_code = {plan.code: plan for plan in plans if plan.prefix == plan.code}
    return by_key, by_code, by_country


BY_KEY, BY_CODE, BY_COUNTRY = _load()
"""Plans by the first four digits of a number, by country code, and by country."""


def plan_of(digits: str) -> Plan | None:
    """The plan of a number given with its country code, or None for a code that nobody has."""
    plan = BY_KEY.get(digits[:KEY])
    if plan is None:
        # Fewer than four digits: no more than a country code and a stub.
        return None if len(digits) >= KEY else _by_code(digits)
    for longer in plan.longer:
        if digits.startswith(longer.prefix):
            return longer
    return plan


def _by_code(digits: str) -> Plan | None:
    return next((BY_CODE[digits[:n]] for n in (1, 2, 3) if digits[:n] in BY_CODE), None)
