"""Number series that mean something to a rule: service numbers, and ranges set aside for a trade.

Three sources, the first that knows a number naming it: the hand-written `series.tsv`, the
special-rate series that `consent.derive` takes from libphonenumber, and the emergency table,
whose numbers are the series `xx.emergency` and `xx.helpline` of their country.
"""

import re
from dataclasses import dataclass
from typing import Final

from consent.emergency import HELP, SERVICES
from consent.plan import BY_COUNTRY, lengths_mask, rows


@dataclass(frozen=True, slots=True)
class Series:
    """A series of one country, or of none (`country` "").

    `prefixes` and the mask `lengths` are of the national number, or of the whole one where
    there is no country. `kind` is a value of `consent.number.NumberClass`; `category` one of
    `consent.category` or ""; `protected` says that blocking its calls is forbidden or does harm.
    """

    name: str
    country: str
    prefixes: tuple[str, ...]
    lengths: int
    kind: str
    category: str
    protected: bool
    source: str


def _read(name: str) -> list[Series]:
    return [
        Series(
            name=series,
            country=country,
            prefixes=tuple(prefixes.split(",")),
            lengths=lengths_mask(lengths),
            kind=kind,
            category=category,
            protected=protected == "yes",
            source=source,
        )
        for series, country, prefixes, lengths, kind, category, protected, source in rows(name)
    ]


def _emergency() -> list[Series]:
    found = []
    for country, numbers in SERVICES.items():
        for name, helps in (("emergency", False), ("helpline", True)):
            chosen = tuple(n for n, services in numbers.items() if (services <= HELP) is helps)
            if chosen:
                lengths = sum(1 << length for length in {len(number) for number in chosen})
                found.append(
                    Series(
                        name=f"{country.lower()}.{name}",
                        country=country,
                        prefixes=chosen,
                        lengths=lengths,
                        kind="short_code",
                        category="",
                        protected=True,
                        source="emergency.tsv",
                    )
                )
    return found


EMERGENCY_SERIES: Final = tuple(_emergency())
SERIES: Final = (*_read("series.tsv"), *_read("derived_series.tsv"))
BY_NAME: Final = {series.name: series for series in (*SERIES, *EMERGENCY_SERIES)}

GATE: Final = 2
"""First digits of a national number that tell whether any series can hold it."""

Gates = dict[str, tuple[tuple[str, int, Series], ...]]

# A Chinese service number is often shown behind the area code of the office that calls.
# Subscribers' own numbers begin with 2 to 8, so the digit after the area code tells them apart.
AREA: Final = {
    "CN": re.compile(
        r"(?:10|2\d|[3-8]\d\d|9(?:5[1-5]|[0-46-9]\d))(?=(?:100|12)\d{2,3}$|9[56])", re.ASCII
    )
}


def _gates() -> dict[str, Gates]:
    found: dict[str, dict[str, list[tuple[str, int, Series]]]] = {}
    entries = [(prefix, row.lengths, row) for row in SERIES for prefix in row.prefixes]
    entries += [(code, 1 << len(code), row) for row in EMERGENCY_SERIES for code in row.prefixes]
    # An emergency number is one before it is part of any series; then the longest prefix wins,
    # and of two the one that comes first: sorting is stable.
    entries.sort(key=lambda entry: (entry[2].source != "emergency.tsv", -len(entry[0])))
    for prefix, lengths, series in entries:
        gates = found.setdefault(series.country, {})
        for gate in [prefix[:GATE]] if len(prefix) >= GATE else [f"{prefix}{n}" for n in range(10)]:
            gates.setdefault(gate, []).append((prefix, lengths, series))
    for country in AREA:
        for n in range(10, 100):  # area codes begin with 10 or 2 to 9
            if n == 10 or n >= 20:
                found[country].setdefault(str(n), [])
    return {
        country: {gate: tuple(held) for gate, held in gates.items()}
        for country, gates in found.items()
    }


GATES: Final = _gates()
"""By country and first two national digits: the series to try, in order."""

NO_GATES: Final[Gates] = {}


def series_in(national: str, country: str) -> Series | None:
    """The series of a national number of `country`, or of a whole number if `country` is ""."""
    found = _match(national, GATES.get(country, NO_GATES))
    if found is None and country in AREA:
        area = AREA[country].match(national)
        if area:
            found = _match(national[area.end() :], GATES[country])
            if found is not None and found.source == "emergency.tsv":
                return None
    return found


def _match(national: str, gates: Gates) -> Series | None:
    for prefix, lengths, series in gates.get(national[:GATE], ()):
        if lengths >> len(national) & 1 and national.startswith(prefix):
            return series
    return None


def series_of(value: int, country: str) -> Series | None:
    """The series that a number belongs to, given with its country code and country."""
    plan = BY_COUNTRY.get(country) if country else None
    return series_in(str(value)[len(plan.code) if plan else 0 :], country)
