"""Emergency numbers: complete against the library, and recognised in every form."""

import re
from functools import cache

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneMetadata
from phonenumbers.shortdata import _AVAILABLE_REGION_CODES as SHORT_REGIONS

from consent.emergency import HELP, SERVICES, is_emergency
from consent.plan import BY_COUNTRY, rows

KNOWN_SERVICES = HELP | {
    "general", "police", "ambulance", "fire", "coastguard", "traffic", "rescue", "gas", "text",
}  # fmt: skip


@cache
def library_numbers(region: str) -> set[str]:
    """Every number of the region's emergency pattern, by trying all of the possible lengths."""
    emergency = PhoneMetadata.short_metadata_for_region(region).emergency
    if emergency is None:
        return set()
    matches = re.compile(emergency.national_number_pattern).fullmatch
    return {
        number
        for length in emergency.possible_length
        for number in (f"{n:0{length}d}" for n in range(10**length))
        if matches(number)
    }


def test_table_holds_every_emergency_number_that_the_library_knows() -> None:
    """For each of the library's regions the table is a superset, and the check says so."""
    compared = 0
    for region in SHORT_REGIONS:
        known = library_numbers(region)
        assert known <= SERVICES[region].keys(), region
        assert all(is_emergency(number, region=region) for number in known), region
        compared += len(known)
    assert compared > 700


def test_every_country_with_a_plan_has_emergency_numbers() -> None:
    """No country or territory of the numbering table is without a row."""
    assert (set(BY_COUNTRY) | set(phonenumbers.SUPPORTED_REGIONS)) - {""} <= SERVICES.keys()


def test_rows_are_well_formed_and_say_where_they_are_from() -> None:
    """Two to six digits, known services, one row a number, and a source kind that holds."""
    seen = set()
    for country, number, services, source in rows("emergency.tsv"):
        assert re.fullmatch(r"[A-Z]{2}", country), country
        assert re.fullmatch(r"\d{2,6}|\d+x+", number), (country, number)
        assert set(services.split(",")) <= KNOWN_SERVICES, (country, services)
        assert source in {"lib", "116", "plan"}, (country, number, source)
        assert (country, number) not in seen
        seen.add((country, number))
    in_library = {(c, n) for c in SHORT_REGIONS for n in library_numbers(c)}
    for country, number, _, source in rows("emergency.tsv"):
        if "x" not in number:
            assert ((country, number) in in_library) == (source == "lib"), (country, number)


@pytest.mark.parametrize(
    ("region", "numbers"),
    [
        pytest.param("CN", "110 119 120 122 12110 95110", id="CN"),
        pytest.param("FR", "15 17 18 112 114 115 119 191 196 197 3114", id="FR"),
        pytest.param("US", "911 112 988", id="US"),
        pytest.param("CA", "911 988", id="CA"),
        pytest.param("JP", "110 118 119", id="JP"),
        pytest.param("IN", "100 101 102 108 112 1091 1098 14416 1930", id="IN"),
        pytest.param("NG", "112 122 199 767", id="NG"),
        pytest.param("GB", "999 112 18000 111 116123", id="GB"),
        pytest.param("DE", "110 112 116117", id="DE"),
        pytest.param("AU", "000 106 112 131114", id="AU"),
        pytest.param("BR", "190 192 193 188 180", id="BR"),
        pytest.param("KR", "112 119 109 1366", id="KR"),
        pytest.param("TW", "110 119 118 113 1925", id="TW"),
        pytest.param("ES", "112 091 062 061 080 016 024", id="ES"),
        pytest.param("IT", "112 113 115 118 1530 1522", id="IT"),
        pytest.param("NL", "112 113", id="NL"),
        pytest.param("NO", "110 112 113 120", id="NO"),
        pytest.param("PK", "15 16 115 1122 130", id="PK"),
        pytest.param("ZA", "10111 10177 112 116", id="ZA"),
        pytest.param("GA", "18 1300 1399 1730", id="GA-expanded"),
    ],
)
def test_national_numbers_are_emergency_numbers(region: str, numbers: str) -> None:
    """What the audit must hold of large countries, beyond the library."""
    missing = [n for n in numbers.split() if not is_emergency(n, region=region)]
    assert missing == []


FORMS = [
    ("112", ""), ("911", "CN"), ("112", "US"), ("110", ""), ("110", "CN"), ("110", "cn"),
    ("110", "QQ"), ("95110", ""), ("1-1-2", "DE"), ("1 1 2", "DE"), (" 112 ", "DE"),
    ("(112)", "DE"), ("１１０", "CN"), ("٩١١", "US"), ("112F", "DE"), ("112#", "DE"),
    ("112,,1", "DE"), ("#7119", "JP"), ("*4141", "CL"), ("+112", ""), ("+112", "GB"),
    ("0112", "DE"), ("+86110", ""), ("+86110", "US"), ("86110", ""), ("86110", "CN"),
    ("0086110", "FR"), ("+1911", "DE"), ("+1 988", ""), ("+3315", "DE"),
    ("+8612110", ""), ("+44 999", ""), ("0571110", "CN"), ("010120", "CN"), ("+8610110", "GB"),
    ("+86 571 110", ""), ("080100", "IN"), ("+4930112", ""), ("030110", "DE"),
    ("sip:112@example.com", ""), ("sips:911@example.com:5061", "GB"),
    ("SIP:110@example.com;user=phone", "CN"), ("sip:112", ""), ("sip:112;user=phone", ""),
    ("sip:112;phone-context=+49@example.com;user=phone", "FR"),
    ("<sip:112@example.com>", ""), ('"Help, 5 <b>" <sip:112@example.com>;tag=1', ""),
    ("sip:%31%31%32@example.com", ""), ("sip:+86110@example.com", ""),
    ("sip:911:pass@example.com", ""), ("sip:sos@example.com", "CN"), ("sip:SOS@example.com", ""),
    ("tel:112", ""), ("TEL:1-1-2", ""), ("tel:911;phone-context=+1", "DE"),
    ("tel:110;phone-context=+86", "US"), ("tel:112;rn=+491234;npdi", ""),
    ("tel:999;phone-context=example.com", "GB"),
    ("urn:service:sos", ""), ("urn:service:sos", "CN"), ("URN:Service:SOS.Police", ""),
    ("urn:service:sos.ambulance", ""), ("urn:service:sos.animal-control", ""),
    ("urn:service:sos.fire", ""), ("urn:service:sos.gas", ""), ("urn:service:sos.marine", ""),
    ("urn:service:sos.mountain", ""), ("urn:service:sos.physician", ""),
    ("urn:service:sos.poison", ""), ("urn:service:sos.ecall.manual", ""),
    ("urn:service:sos.country-specific.xy.567", ""), ("urn:service:test.sos", ""),
    ("urn:service:counseling.suicide", ""), ("<urn:service:sos>", ""),
]  # fmt: skip

NOT_EMERGENCY = [
    ("", ""), (" ", ""), ("+", ""), ("+44", ""), ("110", "US"), ("999", "DE"), ("15", "US"),
    ("95588", "CN"), ("10086", "CN"), ("+441632960001", ""), ("+447700900123", "GB"),
    ("+12125550110", "US"), ("+12125550112", ""), ("2125550112", "US"), ("01632960112", "GB"),
    ("1120", "US"), ("11", ""), ("91", "GB"), ("9112", "US"), ("+999110", ""), ("110110", "DE"),
    ("sip:alice@example.com", ""), ("sip:112.example.com", ""),
    ("sip:+441632960112@example.com", ""),
    ("tel:+441632960001;phone-context=+112", ""), ("tel:15;phone-context=+1", "US"),
    ("urn:service:sosx", ""), ("urn:service:info", ""), ("urn:uuid:112", ""), ("112abc", ""),
    ("+3314", ""), ("anonymous", ""), ("help 112", "DE"), ("0571110", "US"), ("sos", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "region"), FORMS, ids=[f"{t}|{r}" for t, r in FORMS])
def test_forms_that_reach_emergency_services(text: str, region: str) -> None:
    """Each way of asking for help counts."""
    assert is_emergency(text, region=region)


@pytest.mark.parametrize(
    ("text", "region"), NOT_EMERGENCY, ids=[f"{t}|{r}" for t, r in NOT_EMERGENCY]
)
def test_forms_that_do_not(text: str, region: str) -> None:
    """What merely resembles an emergency number is screened like any other."""
    assert not is_emergency(text, region=region)


def test_no_example_number_of_any_plan_is_an_emergency_number() -> None:
    """A subscriber of any country can be screened: no valid number counts as emergency."""
    kinds = (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE)
    wrong = []
    for region in phonenumbers.SUPPORTED_REGIONS:
        for kind in kinds:
            example = phonenumbers.example_number_for_type(region, kind)
            if example is not None:
                text = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
                national = phonenumbers.format_number(
                    example, phonenumbers.PhoneNumberFormat.NATIONAL
                )
                if is_emergency(text) or is_emergency(text, region=region):
                    wrong.append((region, text))
                if is_emergency(national, region=region):
                    wrong.append((region, national))
    assert wrong == []


@settings(max_examples=150)
@given(st.text(max_size=40), st.sampled_from(["", "CN", "GB", "zz", "é"]))
def test_no_text_raises(text: str, region: str) -> None:
    """The first thing that sees a call cannot fail on it."""
    assert is_emergency(text, region=region) in {True, False}


ROWS = [(country, number) for country, numbers in SERVICES.items() for number in numbers]


@settings(max_examples=150)
@given(st.sampled_from(ROWS), st.text(" -.()/", max_size=3))
def test_every_row_counts_in_every_form(row: tuple[str, str], separators: str) -> None:
    """In its region, in no region, with country code, as a URI, and with separators."""
    country, number = row
    spaced = number[0] + separators + number[1:]
    assert is_emergency(number, region=country)
    assert is_emergency(number)
    assert is_emergency(spaced, region=country)
    assert is_emergency(f"sip:{number}@example.com;user=phone", region=country)
    assert is_emergency(f"tel:{number};phone-context=example.com", region=country)
    if country in BY_COUNTRY:
        code = BY_COUNTRY[country].code
        assert is_emergency(f"+{code}{number}", region="US")
        assert is_emergency(f"tel:{number};phone-context=+{code}", region="US")
