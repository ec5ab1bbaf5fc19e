"""Public holidays, by country and day: data, written by `consent.derive` from `holidays`.

A table instead of the library, so that no call waits for an import, an answer depends on nothing
but the release, and rules stay pure. Only what a whole country observes is in it: which part of
a country a subscriber lives in, a number does not tell.
"""

from datetime import date
from functools import cache
from typing import Final

from consent.plan import rows

_ROWS: Final = {(country, int(year)): days for country, year, days in rows("holidays.tsv")}


@cache
def _days(country: str, year: int) -> frozenset[int] | None:
    days = _ROWS.get((country, year))
    if days is None:
        return None
    before = date(year, 1, 1).toordinal() - 1
    return frozenset(before + int(day) for day in days.split(",") if day)


def is_holiday(country: str, day: date) -> bool | None:
    """Whether a day is a public holiday of a country (ISO 3166-1 alpha-2).

    None where the table does not reach: another country or another year.
    """
    days = _days(country, day.year)
    return None if days is None else day.toordinal() in days
