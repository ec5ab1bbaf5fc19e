"""Series: each row of the tables names the numbers it should, and no others."""

import itertools
from random import Random
from zoneinfo import ZoneInfo

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberType, timezone

from consent import derive
from consent.category import BIT
from consent.number import NumberClass, parse_number
from consent.plan import BY_COUNTRY
from consent.series import BY_NAME, EMERGENCY_SERIES, SERIES, Series, series_in, series_of
from consent.zones import zones_of

BY_HAND = {
    (row.country, p) for row in SERIES if row.source != "libphonenumber" for p in row.prefixes
}
ROWS = [
    (row, prefix)
    for row in SERIES
    for prefix in row.prefixes
    # A row by hand takes the place of a derived one.
    if row.source != "libphonenumber" or (row.country, prefix) not in BY_HAND
]
IDS = [f"{row.name}-{prefix}" for row, prefix in ROWS]


def possible(row: Series) -> list[int]:
    return [length for length in range(20) if row.lengths >> length & 1]


def fillings(prefix: str, length: int) -> itertools.chain[str]:
    """A few numbers of a prefix; longer prefixes of other series leave some of them."""
    rest = length - len(prefix)
    if rest <= 2:
        return itertools.chain(f"{prefix}{n:0{rest}d}" if rest else prefix for n in range(10**rest))
    return itertools.chain(prefix + f"{n:02d}" + "7" * (rest - 2) for n in range(100))


@pytest.mark.parametrize(("row", "prefix"), ROWS, ids=IDS)
def test_row_both_ways(row: Series, prefix: str) -> None:
    """A number inside has the row's series at each length, one of another length has not."""
    inside = [length for length in possible(row) if length >= len(prefix)]
    assert inside, "no length fits the prefix"
    for length in inside:
        names = {
            found.name for n in fillings(prefix, length) if (found := series_in(n, row.country))
        }
        # 12110 and 116000 are of the emergency table, 955 of its own row: something must be left.
        shadowed = names and all(name in BY_NAME and name != row.name for name in names)
        assert row.name in names or (shadowed and len(inside) > 1), (length, names)
    outside = max(inside) + 1
    for n in fillings(prefix, outside):
        found = series_in(n, row.country)
        assert found is None or found.name != row.name


@pytest.mark.parametrize("row", EMERGENCY_SERIES, ids=[row.name for row in EMERGENCY_SERIES])
def test_emergency_numbers_are_protected_series(row: Series) -> None:
    """Each number of the emergency table is one exactly, and a digit more is not."""
    for number in row.prefixes:
        assert series_in(number, row.country) is row
        longer = series_in(number + "0", row.country)
        assert longer is not row or number + "0" in row.prefixes
    assert row.protected


def test_rows_speak_the_shared_vocabulary() -> None:
    """Categories, classes and countries are those of the other modules; names are unique."""
    for row in SERIES:
        assert row.category in {"", *BIT}, row.name
        assert NumberClass(row.kind)
        assert row.country == "" or row.country in BY_COUNTRY
        assert row.source
    assert len({row.name for row in SERIES}) == len(SERIES)


@pytest.mark.parametrize(
    ("value", "country", "name"),
    [
        (8695588, "CN", "cn.955"), (8695338888, "CN", "cn.953"), (8695013, "CN", "cn.950"),
        (8695213, "CN", "cn.952"), (8695110, "CN", "cn.emergency"), (8612345, "CN", "cn.12"),
        (8612110, "CN", "cn.emergency"), (86122, "CN", "cn.emergency"), (8610086, "CN", "cn.100"),
        (8612356, "CN", "cn.helpline"), (864001234567, "CN", "cn.400"),
        (868001234567, "CN", "cn.800"), (8610695588, "CN", "cn.106"), (8696110, "CN", "cn.96"),
        (861095588, "CN", "cn.955"), (8657112345, "CN", "cn.12"), (8675510086, "CN", "cn.100"),
        (911401234567, "IN", "in.140"), (911600123456, "IN", "in.1600"), (911909, "IN", "in.1909"),
        (9118001234567, "IN", "in.1800"), (18005550123, "US", "us.tollfree"),
        (18885550123, "US", "us.tollfree"), (19005550123, "US", "us.900"), (1311, "US", "us.n11"),
        (1988, "US", "us.helpline"), (443069990123, "GB", "gb.03"),
        (448081570000, "GB", "gb.tollfree"),
        (448431234567, "GB", "gb.084"), (449012345678, "GB", "gb.09"), (4433, "GB", ""),
        (33162000000, "FR", "fr.telemarketing"), (33948000000, "FR", "fr.telemarketing"),
        (33800000000, "FR", "fr.tollfree"), (33162000, "FR", ""), (553031234567, "BR", "br.0303"),
        (390844123456, "IT", "it.0844"), (80012345678, "", "intl.uifn"),
        (97912345678, "", ""), (979123456789, "", "intl.premium"),
        (88810000000000, "", "intl.relief"),
        (441632960001, "GB", ""), (8613123456789, "CN", ""), (861012345678, "CN", ""),
        (12025550123, "US", ""), (918123456789, "IN", ""), (86571110, "CN", ""),
    ],
)  # fmt: skip
def test_series_of_known_numbers(value: int, country: str, name: str) -> None:
    """The series that FIELD names, the ordinary numbers beside them, and area codes in China."""
    found = series_of(value, country)
    assert (found.name if found else "") == name


@pytest.mark.parametrize(
    ("name", "category", "protected"),
    [
        ("in.140", "all", False), ("in.1600", "transactional", True), ("cn.12", "", True),
        ("cn.emergency", "", True), ("fr.telemarketing", "all", False), ("cn.95", "", False),
        ("br.0303", "all", False), ("it.0843", "survey", False),
    ],
)  # fmt: skip
def test_what_rules_read_from_a_series(name: str, category: str, protected: bool) -> None:
    """Category and protection of the series that law speaks of."""
    assert (BY_NAME[name].category, BY_NAME[name].protected) == (category, protected)


def test_derived_tables_are_what_the_library_gives() -> None:
    """`python -m consent.derive` would change nothing: the tables match the installed ones."""
    data = derive.DATA
    for name, rows in derive.TABLES.items():
        assert "".join(rows()) == (data / name).read_text(encoding="utf-8"), f"{name} is stale"


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        pytest.param(r"[2-9]\d{2}", "25", "1", id="set"),
        pytest.param(r"1(?:0|2[3-5])\d?", "124", "13", id="branch"),
        pytest.param(r"(?:12){1,2}5", "1212", "1213", id="repeat"),
        pytest.param(r"7{2,}8", "7777", "78", id="open-repeat"),
        pytest.param(r"(1\d)?9", "1", "3", id="optional-group"),
    ],
)
def test_derivatives_follow_a_pattern(pattern: str, inside: str, outside: str) -> None:
    """A prefix is alive in the derivatives exactly if a whole number can begin with it."""

    def alive(prefix: str) -> bool:
        state = derive._state(pattern)
        for digit in prefix:
            state = derive._step(state, digit)
        return bool(state)

    assert alive(inside)
    assert not alive(outside)


@settings(max_examples=200)
@given(st.integers(0, 10**19), st.sampled_from(["", *BY_COUNTRY]))
def test_any_value_has_at_most_one_series_of_its_country(value: int, country: str) -> None:
    """series_of never raises, and what it finds is of the country asked for."""
    found = series_of(value, country)
    assert found is None or found.country == country


@pytest.mark.parametrize(
    ("text", "zones"),
    [
        pytest.param("+441632960001", {"Europe/London"}, id="london"),
        pytest.param("+12125550123", {"America/New_York"}, id="new-york"),
        pytest.param("+8613123456789", {"Asia/Shanghai"}, id="china"),
        pytest.param("+911123456789", {"Asia/Calcutta"}, id="india"),
    ],
)
def test_zones_of_a_district(text: str, zones: set[str]) -> None:
    """A number of one zone has that zone among its candidates."""
    assert zones <= set(zones_of(parse_number(text).value))


def test_a_code_of_one_zone_has_it_for_every_number() -> None:
    """What is known of a whole country code is what the library says of each of its numbers."""
    drawn = Random(1)
    for code in ("86", "91", "33", "49", "81", "55", "52", "234"):
        for length in range(7, 12):
            digits = f"{code}{drawn.randrange(10 ** (length - 1), 10**length)}"
            parsed = phonenumbers.parse(f"+{digits}")
            assert zones_of(int(digits)) == timezone.time_zones_for_geographical_number(parsed)


def test_zones_hold_everywhere_a_number_can_be() -> None:
    """A country with a code of its own has the library's zones, one of a shared code its own.

    An Australian or Russian mobile number can ring in any zone of the country.
    """
    compared = 0
    for region in phonenumbers.SUPPORTED_REGIONS:
        for kind in (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE):
            example = phonenumbers.example_number_for_type(region, kind)
            if example is None:
                continue
            text = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
            theirs = {z for z in timezone.time_zones_for_number(example) if z != "Etc/Unknown"}
            ours = set(zones_of(int(text)))
            main = phonenumbers.region_code_for_country_code(example.country_code) == region
            assert ours == theirs if main else ours <= theirs, region
            assert bool(ours) == bool(theirs), region
            assert all(ZoneInfo(zone) for zone in ours)
            compared += 1
    assert compared > 400
    assert len(zones_of(61412345678)) == 8
    assert zones_of(99912345678) == ()
