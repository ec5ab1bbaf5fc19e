"""The tables that follow from libraries: `python -m consent.derive` rewrites them.

From libphonenumber's metadata: `plans.tsv` has a row for each country code and for each longer
prefix that belongs to another country of a shared code; `derived_series.tsv` has the
special-rate series of every plan. From `holidays`: `holidays.tsv` has the public holidays of
each country and year. All are data of the package, so that a worker starts without the metadata
of 245 regions; a test holds them equal to what the installed libraries give.

The metadata are regular expressions over whole numbers. To know what a *prefix* means they are
followed digit by digit, as derivatives: what may still come after a digit.
"""

import importlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

from consent.plan import plan_of

DIGITS: Final = "0123456789"
REGION_DEPTH: Final = 8
"""How many national digits may be needed to tell two regions apart (Christmas Island: 6)."""

SERIES_DEPTH: Final = 5

RATES: Final = {
    "toll_free": "tollfree",
    "premium_rate": "premium",
    "shared_cost": "sharedcost",
    "uan": "uan",
}
ORDINARY: Final = ("fixed_line", "mobile", "voip", "personal_number", "pager")
OLD_TRUNK: Final = {"MX": "1"}
"""Prefixes that the library has given up and networks abroad have not: the 1 that stood before
Mexican mobile numbers until 2019."""

DATA: Final = Path(__file__).with_name("data")

HEADER: Final = "# Written by `python -m consent.derive` from {} {}: do not edit.\n"

YEARS: Final = range(2024, 2036)
"""Years of holidays: beyond them the library no longer knows the lunar ones of many countries."""

# A term is what a number may still be: a tuple of ("set", digits), ("or", terms) and
# ("many", least, most, term).
Term = tuple[Any, ...]
State = frozenset[Term]


def _term(parsed: Iterable[Any]) -> Term:
    """The parse tree of `re` in the three nodes that numbering plans use."""
    nodes: list[Any] = []
    for op, argument in parsed:
        match str(op):
            case "LITERAL":
                nodes.append(("set", chr(argument)))
            case "IN":
                nodes.append(("set", "".join(sorted(_members(argument)))))
            case "BRANCH":
                nodes.append(("or", tuple(_term(branch) for branch in argument[1])))
            case "SUBPATTERN":
                nodes.extend(_term(argument[-1]))
            case "MAX_REPEAT":
                least, most, repeated = argument
                nodes.append(("many", least, int(most), _term(repeated)))
            case "AT":
                pass  # the end: numbers are whole
            case _:
                raise ValueError(f"metadata pattern has {op}, expected sets, branches, repeats")
    return tuple(nodes)


def _members(argument: Iterable[Any]) -> Iterator[str]:
    for op, value in argument:
        match str(op):
            case "LITERAL":
                yield chr(value)
            case "RANGE":
                yield from (chr(code) for code in range(value[0], value[1] + 1))
            case "CATEGORY":
                yield from DIGITS
            case _:
                raise ValueError(f"metadata set has {op}, expected digits and ranges")


@cache
def _after(term: Term, digit: str) -> State:
    """What may follow `digit` where `term` was to come."""
    if not term:
        return frozenset()
    head, rest = term[0], term[1:]
    match head:
        case ("set", digits):
            return frozenset({rest}) if digit in digits else frozenset()
        case ("or", terms):
            return frozenset().union(*(_after(branch + rest, digit) for branch in terms))
        case ("many", least, most, repeated):
            left = (("many", max(least - 1, 0), most - 1, repeated),) if most > 1 else ()
            taken = _after(repeated + left + rest, digit)
            return taken if least else taken | _after(rest, digit)
    raise ValueError(f"{head} is no node of a term")


def _step(state: State, digit: str) -> State:
    return frozenset().union(*(_after(term, digit) for term in state))


def _state(*patterns: str | None) -> State:
    parse = importlib.import_module("re._parser").parse
    return frozenset(_term(parse(pattern)) for pattern in patterns if pattern)


def exclusive_prefixes(
    states: dict[str, State], *, depth: int, branches: int = 0, shared: bool = False
) -> dict[str, str]:
    """The shortest prefixes that only one of the labels can begin with, and that label.

    A prefix is lengthened while fewer than `branches` digits may follow it, so that it does not
    claim what is not assigned. What cannot be told apart within `depth` digits is left out,
    unless it is `shared`: then what labels have in common is the first one's.
    """

    @cache
    def walk(alive: tuple[tuple[str, State], ...], left: int) -> dict[str, str]:
        below = {
            digit: tuple((label, after) for label, state in alive if (after := _step(state, digit)))
            for digit in DIGITS
        }
        if len(alive) == 1 and (not left or sum(map(bool, below.values())) >= branches):
            return {"": alive[0][0]}
        if shared and len({state for _, state in alive}) == 1:
            return {"": alive[0][0]}
        if not left:
            return {}
        return {
            digit + tail: label
            for digit, still in below.items()
            if still
            for tail, label in walk(still, left - 1).items()
        }

    return walk(tuple(states.items()), depth)


def _pattern(metadata: Any, kind: str) -> str | None:
    described = getattr(metadata, kind)
    return described.national_number_pattern if described else None


def _lengths(described: Any) -> str:
    return ",".join(str(length) for length in described.possible_length if length > 0)


def _plan_row(prefix: str, code: int, country: str, metadata: Any) -> str:
    state = _state(metadata.general_desc.national_number_pattern)
    starts = {digit for digit in DIGITS if _step(state, digit)}
    if metadata.national_prefix == "0":
        # Toll-free codes of Japan and India begin with it all the same: the library knows them.
        starts.discard("0")
    trunk = OLD_TRUNK.get(country, metadata.national_prefix or "")
    lengths = _lengths(metadata.general_desc)
    return f"{prefix}\t{code}\t{country}\t{''.join(sorted(starts))}\t{lengths}\t{trunk}\n"


def plans() -> Iterator[str]:
    """The rows of `plans.tsv`, in the columns of `consent.plan.Plan`."""
    yield HEADER.format("phonenumbers", phonenumbers.__version__)
    yield "# prefix\tcode\tcountry\tfirst national digits\tlengths\ttrunk prefix\n"
    for code, regions in sorted(COUNTRY_CODE_TO_REGION_CODE.items()):
        if regions == ("001",):
            metadata = PhoneMetadata.metadata_for_nongeo_region(code)
            yield _plan_row(str(code), code, "", metadata)
            continue
        described: dict[str, Any] = {
            region: PhoneMetadata.metadata_for_region(region) for region in regions
        }
        main = regions[0]
        yield _plan_row(str(code), code, main, described[main])
        states = {
            region: _state(
                *(_pattern(metadata, kind) for kind in (*ORDINARY, *RATES)),
                # The library decides by these alone where a region has them.
                metadata.leading_digits and f"(?:{metadata.leading_digits})",
            )
            for region, metadata in described.items()
        }
        found = exclusive_prefixes(states, depth=REGION_DEPTH, shared=True)
        for prefix, country in sorted(found.items()):
            if country != main:
                yield _plan_row(f"{code}{prefix}", code, country, described[country])
        for country in regions:
            if country not in {main, *found.values()}:
                # No prefix of its own: the row serves numbers dialled there.
                yield _plan_row("", code, country, described[country])


def series() -> Iterator[str]:
    """The rows of `derived_series.tsv`, one a series, in the columns of `series.tsv`."""
    yield HEADER.format("phonenumbers", phonenumbers.__version__)
    yield "# name\tcountry\tprefixes\tlengths\tclass\tcategory\tprotected\tsource\n"
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        yield from _series_rows(region, PhoneMetadata.metadata_for_region(region))


def _series_rows(region: str, metadata: Any) -> Iterator[str]:
    kinds = {rate: _state(_pattern(metadata, rate)) for rate in RATES}
    kinds["ordinary"] = _state(*(_pattern(metadata, kind) for kind in ORDINARY))
    found = exclusive_prefixes(
        {label: state for label, state in kinds.items() if state}, depth=SERIES_DEPTH, branches=5
    )
    main = phonenumbers.region_code_for_country_code(metadata.country_code) == region
    for rate, name in RATES.items():
        prefixes = sorted(
            prefix
            for prefix, label in found.items()
            if label == rate
            # A leading 0 is a network's own code (Japan, India), dialled within the country only.
            and prefix[:1] != "0"
            # What the countries of a shared code have in common belongs to the main one.
            and (main or _country(f"{metadata.country_code}{prefix}") == region)
        )
        if prefixes:
            lengths = _lengths(getattr(metadata, rate))
            yield (
                f"{region.lower()}.{name}\t{region}\t{','.join(prefixes)}\t{lengths}"
                "\tservice\t\tno\tlibphonenumber\n"
            )


def _country(digits: str) -> str:
    plan = plan_of(digits)
    return plan.country if plan else ""


def public_holidays() -> Iterator[str]:
    """The rows of `holidays.tsv`: the days of the year that a whole country observes."""
    import holidays

    yield HEADER.format("holidays", version("holidays"))
    yield "# country\tyear\tdays of the year\n"
    for country in sorted(holidays.list_supported_countries(include_aliases=False)):
        calendar = holidays.country_holidays(country)
        for year in YEARS:
            if not calendar.start_year <= year <= calendar.end_year:
                continue
            days = (day for day in holidays.country_holidays(country, years=year))
            numbers = sorted({day.timetuple().tm_yday for day in days if day.year == year})
            # A row without days is a country that has none, as one at war may have.
            yield f"{country}\t{year}\t{','.join(map(str, numbers))}\n"


TABLES: Final = {
    "plans.tsv": plans,
    "derived_series.tsv": series,
    "holidays.tsv": public_holidays,
}


def main() -> None:
    """Write the tables beside this module."""
    for name, rows in TABLES.items():
        (DATA / name).write_text("".join(rows()), encoding="utf-8")


if __name__ == "__main__":
    main()
