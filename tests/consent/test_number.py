"""Numbers: every form of a number is that number, and what is none is told apart."""

import phonenumbers
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from consent.number import (
    ANONYMOUS,
    NotE164,
    Number,
    NumberClass,
    format_e164,
    masked,
    parse_e164,
    parse_number,
)
from consent.plan import BY_COUNTRY, plan_of

LONDON = 441632960001
FORMS = [
    ("+441632960001", ""), ("+44 1632 960001", ""), ("+44-1632-960001", ""),
    ("+44.1632.960001", ""), ("+44(1632)960001", ""), ("+44 (0)1632 960001", ""),
    ("+4401632960001", ""), ("+44 1632/960 001", ""), (" +441632960001 ", ""),
    ("＋４４１６３２９６０００１", ""), ("+٤٤١٦٣٢٩٦٠٠٠١", ""), ("+44\u00a01632\u2011960001", ""),
    ("\u202d+441632960001\u202c", ""), ("441632960001", ""), ("441632960001", "US"),
    ("00441632960001", ""), ("00441632960001", "DE"), ("00441632960001", "US"),
    ("00 44 1632 960001", ""), ("011441632960001", ""), ("011441632960001", "US"),
    ("0011441632960001", "AU"), ("8~10 44 1632 960001", "RU"), ("010441632960001", "JP"),
    ("01632960001", "GB"), ("01632 960001", "gb"), ("(01632) 960001", "GB"),
    ("1632960001", "GB"), ("441632960001", "GB"), ("+441632960001", "CN"),
    ("+441632960001,,12", ""), ("+441632960001;ext=12", ""), ("+441632960001 x12", ""),
    ("+441632960001 ext. 12", ""), ("+441632960001#", ""), ("441632960001F", ""),
    ("tel:+441632960001", ""), ("TEL:+44-1632-960001", ""), ("tel:+441632960001;ext=77", ""),
    ("tel:+44-(1632)-960.001;isub=1;ext=2", ""), ("tel:01632960001;phone-context=+44", ""),
    ("tel:1632960001;phone-context=+44", "US"), ("tel:960001;phone-context=+441632", ""),
    ("tel:960001;phone-context=+44-1632", "FR"), ("tel:01632960001;phone-context=x.org", "GB"),
    ("tel:+441632960001;npdi;rn=+441632960999", ""), ("tel:+441632960001;cic=+1-6789", ""),
    ("sip:+441632960001@example.com", ""), ("sips:+441632960001@example.com", ""),
    ("SIP:+441632960001@EXAMPLE.com", ""), ("sip:+441632960001@example.com:5060", ""),
    ("sip:+441632960001@example.com;user=phone", ""), ("sip:+441632960001@[2001:db8::1]", ""),
    ("sip:+441632960001:secret@example.com", ""), ("sip:%2B441632960001@example.com", ""),
    ("sip:+44-1632-960001;phone-context=+1@example.com;user=phone", ""),
    ("sip:+441632960001;npdi;rn=+441632960999@example.com;user=phone", ""),
    ("sip:01632960001;phone-context=+44@example.com;user=phone", ""),
    ("sip:+441632960001;ext=12@example.com;transport=tcp?subject=call", ""),
    ("sip:441632960001@example.com", ""), ("sip:01632960001@example.com", "GB"),
    ("sip:+441632960001;verstat=TN-Validation-Passed@example.com;user=phone", ""),
    ("<sip:+441632960001@example.com>", ""), ("<tel:+441632960001>", ""),
    ('"Ann <1> 07" <sip:+441632960001@example.com>;tag=88sja8x', ""),
    ("Ann <sip:+441632960001@example.com>", ""), ("sip:+441632960001", ""),
    ("+441632960001@example.com", ""), ("+441632960001;tgrp=a;trunk-context=b", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "region"), FORMS, ids=[f"{t}|{r}" for t, r in FORMS])
def test_forms_of_one_number(text: str, region: str) -> None:
    """URIs, separators, prefixes, scripts and regions all lead to the same number."""
    expected = Number(LONDON, "+441632960001", NumberClass.SUBSCRIBER, "GB", "", True)
    assert parse_number(text, region=region) == expected
    assert parse_e164(text, region=region) == LONDON


@pytest.mark.parametrize(
    ("text", "region", "value"),
    [
        ("14635550123", "CN", 8614635550123),
        ("014635550123", "CN", 8614635550123),
        ("+14635550123", "CN", 14635550123),
        ("0014635550123", "CN", 14635550123),
        ("14635550123", "US", 14635550123),
        ("12125550123", "CN", 12125550123),
    ],
)
def test_a_mobile_of_china_is_not_american(text: str, region: str, value: int) -> None:
    """Eleven digits from 13 to 19 are China's own there, whatever they would be elsewhere."""
    assert parse_number(text, region=region).value == value


@pytest.mark.parametrize(
    ("text", "region", "value", "kind", "country", "series"),
    [
        ("95588", "CN", 8695588, "short_code", "CN", "cn.955"),
        ("+8695588", "", 8695588, "short_code", "CN", "cn.955"),
        ("01095588", "CN", 861095588, "short_code", "CN", "cn.955"),
        ("95013000", "CN", 8695013000, "short_code", "CN", "cn.950"),
        ("96110", "CN", 8696110, "short_code", "CN", "cn.96"),
        ("12345", "CN", 8612345, "short_code", "CN", "cn.12"),
        ("10086", "CN", 8610086, "short_code", "CN", "cn.100"),
        ("10690000000000", "CN", 8610690000000000, "short_code", "CN", "cn.106"),
        ("4001234567", "CN", 864001234567, "service", "CN", "cn.400"),
        ("+864001234567", "", 864001234567, "service", "CN", "cn.400"),
        ("8001234567", "CN", 868001234567, "service", "CN", "cn.800"),
        ("110", "CN", 86110, "short_code", "CN", "cn.emergency"),
        ("+86110", "US", 86110, "short_code", "CN", "cn.emergency"),
        ("86110", "", 86110, "short_code", "CN", "cn.emergency"),
        ("sip:110@example.com", "CN", 86110, "short_code", "CN", "cn.emergency"),
        ("tel:110;phone-context=+86", "", 86110, "short_code", "CN", "cn.emergency"),
        ("1401234567", "IN", 911401234567, "service", "IN", "in.140"),
        ("+911401234567", "", 911401234567, "service", "IN", "in.140"),
        ("1600123456", "IN", 911600123456, "service", "IN", "in.1600"),
        ("18001234567", "IN", 9118001234567, "service", "IN", "in.1800"),
        ("1930", "IN", 911930, "short_code", "IN", "in.emergency"),
        ("+18005550123", "", 18005550123, "service", "US", "us.tollfree"),
        ("8005550123", "US", 18005550123, "service", "US", "us.tollfree"),
        ("1-800-555-0123", "US", 18005550123, "service", "US", "us.tollfree"),
        ("+19005550123", "", 19005550123, "service", "US", "us.900"),
        ("311", "US", 1311, "short_code", "US", "us.n11"),
        ("988", "US", 1988, "short_code", "US", "us.helpline"),
        ("0808 157 0000", "GB", 448081570000, "service", "GB", "gb.tollfree"),
        ("0306 999 0123", "GB", 443069990123, "service", "GB", "gb.03"),
        ("116123", "GB", 44116123, "short_code", "GB", "gb.helpline"),
        ("118118", "GB", 44118118, "short_code", "GB", "gb.118"),
        ("0162000000", "FR", 33162000000, "subscriber", "FR", "fr.telemarketing"),
        ("3631", "FR", 333631, "short_code", "FR", "fr.3"),
        ("0303 1234567", "BR", 553031234567, "service", "BR", "br.0303"),
        ("000", "AU", 61000, "short_code", "AU", "au.emergency"),
        ("+800 1234 5678", "", 80012345678, "service", "", "intl.uifn"),
        ("0080012345678", "DE", 80012345678, "service", "", "intl.uifn"),
        ("+8816 1234 5678", "", 881612345678, "subscriber", "", "intl.satellite"),
        ("12345", "US", 112345, "short_code", "US", ""),
        ("12345", "", 12345, "short_code", "", ""),
        ("110", "", 110, "short_code", "", ""),
    ],
)  # fmt: skip
def test_short_codes_and_service_numbers(
    text: str, region: str, value: int, kind: str, country: str, series: str
) -> None:
    """What libphonenumber calls invalid has a class, a value and, if known, a series."""
    number = parse_number(text, region=region)
    assert number[:1] + number[2:5] == (value, NumberClass(kind), country, series)
    assert number.plausible
    code = BY_COUNTRY[country].code if country else ""
    short = number.kind is NumberClass.SHORT_CODE
    assert number.text == (str(value).removeprefix(code) if short else f"+{value}")


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "anonymous", "Anonymous", "ANONYMOUS", "restricted", "private", "withheld",
        "unavailable", "sip:anonymous@anonymous.invalid", "sip:Anonymous@example.com",
        '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1', "<sip:anonymous@anonymous.invalid>",
        "sip:restricted@example.com", "sip:unavailable@unknown.invalid", "tel:anonymous",
        "sip:c8oqz84zk7z@anonymous.invalid", "sip:anonymous.invalid", "sip:anonymous@x;user=phone",
    ],
)  # fmt: skip
def test_withheld_is_anonymous(text: str) -> None:
    """RFC 3323 and its dialects: a number was not sent."""
    assert parse_number(text) == ANONYMOUS


@pytest.mark.parametrize(
    "text",
    [
        "unknown", "sip:unknown@example.com", "alice", "sip:alice@example.com", "1-800-CALLNOW",
        "+", "++441632960001", "+44+1632960001", "tel:", "sip:", "sip:@example.com", "<>", "<",
        "44 1632 96000l", "+44\t1632", "4416\x0032960001", "sip:192.0.2.1", "sip:example.com",
        "*67", "**", "#", "\udcff", "½½½", "²³", "urn:uuid:1", "+" + "9" * 400, "☎", "0x1f",
        "sip:[2001:db8::1]:5060", "nobody <here", "00000000", "+0",
    ],
)  # fmt: skip
def test_garbage_is_invalid_and_has_no_value(text: str) -> None:
    """What names no number and is no withheld form is invalid, whatever the region."""
    for region in ("", "CN", "GB", "??"):
        number = parse_number(text, region=region)
        assert (number.value, number.kind) == (0, NumberClass.INVALID)
        assert len(number.text) <= 65


@pytest.mark.parametrize(
    ("text", "region", "value", "kind", "country"),
    [
        ("+4416329600011", "", 4416329600011, "subscriber", "GB"),
        ("+441632", "", 441632, "subscriber", "GB"),
        ("+1555", "", 1555, "subscriber", "US"),
        ("+120255501234", "", 120255501234, "subscriber", "US"),
        ("0123", "DE", 49123, "subscriber", "DE"),
        ("012345678", "GB", 4412345678, "subscriber", "GB"),
        ("004412345", "DE", 4412345, "subscriber", "GB"),
        ("0016", "DE", 16, "subscriber", "US"),
        ("+4416329600011234", "", 4416329600011234, "invalid", "GB"),
        ("+441632960001123456", "", 441632960001123456, "invalid", "GB"),
        ("+4416329600011234567", "", 4416329600011234567, "invalid", "GB"),
        ("+44163296000112345678", "", 0, "invalid", "GB"),
        ("0" * 3 + "1632960001123456", "GB", 1632960001123456, "invalid", "US"),
        ("+99912345678", "", 99912345678, "invalid", ""),
        ("0099912345678", "DE", 99912345678, "invalid", ""),
        ("2101", "QQ", 2101, "short_code", ""),
        ("9991234567890", "", 9991234567890, "invalid", ""),
    ],
)
def test_odd_numbers_keep_a_value(
    text: str, region: str, value: int, kind: str, country: str
) -> None:
    """A number of no plan is still the number that was shown, as long as 64 bits hold it."""
    number = parse_number(text, region=region)
    assert (number.value, number.kind, number.country) == (value, NumberClass(kind), country)
    assert not number.plausible or number.kind is NumberClass.SHORT_CODE
    assert number.value < 2**64


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("+12125550123", "US"), ("+14165550123", "CA"), ("+18765550123", "JM"),
        ("+18095550123", "DO"), ("+17875550123", "PR"), ("+16715550123", "GU"),
        ("+74951234567", "RU"), ("+79161234567", "RU"), ("+77172123456", "KZ"),
        ("+77012345678", "KZ"), ("+441481960123", "GG"), ("+441534960123", "JE"),
        ("+441624960123", "IM"), ("+447781123456", "GG"), ("+447797712345", "JE"),
        ("+447524123456", "IM"), ("+447700900123", "GB"), ("+442079460123", "GB"),
        ("+390669812345", "VA"), ("+390612345678", "IT"), ("+61891621234", "CC"),
        ("+61891641234", "CX"), ("+61291641234", "AU"), ("+4779123456", "SJ"),
        ("+4721234567", "NO"), ("+262262123456", "RE"), ("+262269601234", "YT"),
        ("+35818123456", "AX"), ("+358131234567", "FI"), ("+590590123456", "GP"),
        ("+5997151234", "BQ"), ("+59994351234", "CW"), ("+212520123456", "MA"),
        ("+590590271234", "BL"), ("+2908999", "TA"), ("+29022158", "SH"),
        ("+85221234567", "HK"), ("+85328212345", "MO"), ("+886212345678", "TW"),
    ],
)  # fmt: skip
def test_countries_of_shared_codes(text: str, country: str) -> None:
    """The country of the number, not of the code: +1, +7, +39, +44, +47, +61 and others."""
    assert parse_number(text).country == country


KINDS = tuple(phonenumbers.PhoneNumberType.values())
EXAMPLES = sorted(
    {
        (region, phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164))
        for region in phonenumbers.SUPPORTED_REGIONS
        for kind in KINDS
        if (found := phonenumbers.example_number_for_type(region, kind)) is not None
    }
)


def test_quick_path_agrees_with_the_library() -> None:
    """Country, length and digits of every example number are the library's, in each spelling."""
    assert len(EXAMPLES) > 1000
    wrong = []
    for region, text in EXAMPLES:
        library = phonenumbers.parse(text)
        number = parse_number(text)
        country = phonenumbers.region_code_for_number(library)
        if (
            number.country != country
            or number.value != int(text)
            or not number.plausible
            or number.kind in {NumberClass.INVALID, NumberClass.ANONYMOUS}
        ):
            wrong.append((region, text, number))
        uri = phonenumbers.format_number(library, phonenumbers.PhoneNumberFormat.RFC3966)
        if parse_number(uri) != number:
            wrong.append((region, uri, number))
    assert wrong == []


def test_national_spelling_agrees_with_the_library() -> None:
    """An example number as dialled at home is the same number."""
    wrong = []
    for region, text in EXAMPLES[::3]:
        library = phonenumbers.parse(text)
        national = phonenumbers.format_number(library, phonenumbers.PhoneNumberFormat.NATIONAL)
        theirs = phonenumbers.parse(national, region)
        if theirs == library and parse_number(national, region=region).value != int(text):
            wrong.append((region, national, parse_number(national, region=region)))
    assert wrong == []


def test_impossible_lengths_agree_with_the_library() -> None:
    """A digit too many or too few is implausible where the library says so."""
    compared = 0
    for _, text in EXAMPLES[::5]:
        for odd in (text + "0", text[:-1], text[:-2]):
            number = parse_number(odd)
            plan = plan_of(odd[1:])
            if number.kind is not NumberClass.SUBSCRIBER or number.series or plan is None:
                continue
            parsed = phonenumbers.parse(odd)
            if str(parsed.country_code) + phonenumbers.national_significant_number(parsed) == odd[
                1:
            ] and plan.country == phonenumbers.region_code_for_country_code(parsed.country_code):
                reason = phonenumbers.is_possible_number_with_reason(parsed)
                possible = reason == phonenumbers.ValidationResult.IS_POSSIBLE
                assert number.plausible == possible, odd
                compared += 1
    assert compared > 200


def test_old_mexican_mobiles_are_the_new_ones() -> None:
    """The 1 of Mexican mobile numbers, gone since 2019, still comes from abroad."""
    assert parse_number("+5212221234567") == parse_number("+522221234567")


SIGNALLED = st.one_of(
    st.text(max_size=60),
    st.text("+0123456789", max_size=24),
    st.text("+0123456789 -().;=@:<>%*#xsiptelanonymous,", max_size=40),
    st.builds("sip:{}@{}".format, st.text(max_size=20), st.text(max_size=20)),
    st.builds("tel:{};phone-context={}".format, st.text("+-0123456789"), st.text("+0123456789")),
)


@settings(max_examples=400)
@given(SIGNALLED, st.sampled_from(["", "CN", "GB", "US", "IT", "JP", "zz", "\u0130"]))
@example("+" + "1" * 600, "")
@example("0" * 300, "DE")
def test_no_text_raises(text: str, region: str) -> None:
    """Any text has a class; a value fits 64 bits; the same number comes back from its text."""
    number = parse_number(text, region=region)
    assert 0 <= number.value < 2**64
    assert number.kind is NumberClass.SUBSCRIBER or number.kind in set(NumberClass)
    if number.kind in {NumberClass.SUBSCRIBER, NumberClass.SERVICE} and number.value:
        assert number.country or number.series or plan_of(str(number.value))
        assert parse_number(format_e164(number.value)) == number
    if number.kind is NumberClass.ANONYMOUS:
        assert number.value == 0


E164_VALUES = st.one_of(
    st.sampled_from([int(text) for _, text in EXAMPLES]),
    st.integers(10**6, 10**15 - 1),
)


@settings(max_examples=300)
@given(E164_VALUES)
def test_formatted_numbers_parse_to_themselves(value: int) -> None:
    """parse(format(n)) == n for each n that parsing gives at all."""
    try:
        n = parse_e164(format_e164(value))
    except NotE164:
        assume(False)
    assert parse_e164(format_e164(n)) == n
    if parse_number(format_e164(value)).plausible and value in KNOWN:
        assert n == value


KNOWN = {int(text) for _, text in EXAMPLES}


@settings(max_examples=200)
@given(st.sampled_from(EXAMPLES), st.data())
def test_separators_and_uris_do_not_matter(pair: tuple[str, str], data: st.DataObject) -> None:
    """Separators anywhere, a tel or sip URI around: the same number."""
    text = pair[1]
    cuts = data.draw(st.lists(st.integers(1, len(text)), max_size=5))
    spaced = text
    for cut in sorted(cuts, reverse=True):
        spaced = (
            spaced[:cut]
            + data.draw(st.sampled_from([" ", "-", ".", "(", ")", "\u00a0"]))
            + spaced[cut:]
        )
    expected = parse_number(text)
    assert parse_number(spaced) == expected
    assert parse_number(f"tel:{text}") == expected
    assert parse_number(f"sip:{text}@example.com;user=phone") == expected
    assert parse_number(f"00{text[1:]}") == expected


@pytest.mark.parametrize(
    ("text", "region", "kind"),
    [
        pytest.param("95588", "CN", "short_code", id="short-code"),
        pytest.param("anonymous", "", "anonymous", id="withheld"),
        pytest.param("+4416329600011234", "", "invalid", id="sixteen-digits"),
        pytest.param("alice", "", "invalid", id="name"),
        pytest.param("urn:service:sos", "", "service", id="urn"),
    ],
)
def test_what_is_no_e164_number_is_refused(text: str, region: str, kind: str) -> None:
    """NotE164 names the class, and no digit of the text."""
    with pytest.raises(NotE164, match=kind) as refused:
        parse_e164(text, region=region)
    assert not any(group in str(refused.value) for group in ("955", "1632", "alice"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+441632960001", "+44********01"),
        ("+12025550123", "+1********23"),
        ("+85221234567", "+852******67"),
        ("+86110", "110"),
        ("anonymous", "anonymous"),
        ("alice", "invalid"),
        ("+99912345678", "+*********78"),
        ("+448081570000", "+44********00"),
    ],
)
def test_masked_numbers_cannot_be_dialled(text: str, expected: str) -> None:
    """Country code and two digits remain; short codes are public."""
    assert masked(parse_number(text)) == expected
