"""Public holidays: what the table says, and where it says nothing."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from consent.derive import YEARS
from consent.holidays import is_holiday
from consent.plan import BY_COUNTRY


@pytest.mark.parametrize(
    ("country", "day", "expected"),
    [
        pytest.param("FR", date(2026, 7, 14), True, id="fête nationale"),
        pytest.param("FR", date(2026, 7, 15), False, id="the day after"),
        pytest.param("FR", date(2027, 3, 29), True, id="Easter Monday, which moves"),
        pytest.param("FR", date(2026, 4, 3), False, id="Good Friday, of Alsace alone"),
        pytest.param("IN", date(2026, 1, 26), True, id="Republic Day"),
        pytest.param("IN", date(2026, 11, 24), True, id="Guru Nanak's birthday, by the moon"),
        pytest.param("GB", date(2026, 12, 28), True, id="Boxing Day, observed on Monday"),
        pytest.param("GB", date(2026, 11, 30), False, id="St Andrew's, of Scotland alone"),
        pytest.param("US", date(2028, 12, 31), False, id="the 366th day"),
        pytest.param("US", date(2026, 11, 26), True, id="Thanksgiving"),
        pytest.param("CN", date(2026, 2, 17), True, id="Spring Festival"),
        pytest.param("UA", date(2026, 8, 24), False, id="none in martial law"),
        pytest.param("FR", date(YEARS[-1] + 1, 1, 1), None, id="beyond the table"),
        pytest.param("FR", date(YEARS[0] - 1, 12, 25), None, id="before the table"),
        pytest.param("", date(2026, 1, 1), None, id="no country"),
    ],
)
def test_a_day_is_one_or_not_or_is_not_known(
    country: str, day: date, expected: bool | None
) -> None:
    """Only what the whole country observes, and never a guess."""
    assert is_holiday(country, day) is expected


def test_an_instant_counts_by_its_own_clock() -> None:
    """The time of day and the zone of a datetime change nothing: its date does."""
    late = datetime(2026, 7, 14, 23, 59, tzinfo=ZoneInfo("Indian/Reunion"))
    assert is_holiday("FR", late) is True


def test_every_country_that_has_numbers_is_known() -> None:
    """But for territories that keep nobody's calendar."""
    without = {country for country in BY_COUNTRY if is_holiday(country, date(2026, 1, 1)) is None}
    assert without <= {"AC", "IO", "TA"}
