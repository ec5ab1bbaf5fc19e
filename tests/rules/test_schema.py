"""The fact table: what its words mean, asked through conditions."""

from collections.abc import Mapping
from typing import Final

import pytest

from consent.calling import ALLOW, BLOCK, DNO
from consent.category import mask
from consent.facts import CALLED_SIDE, UNKNOWN, Consent, Facts, Profile
from consent.number import Number, NumberClass, parse_number
from rules.call import Call
from rules.cases import call_from
from rules.cel import check, parse
from rules.hours import minutes, weekdays
from rules.ruleset import Rule, RuleSet, evaluate
from rules.schema import (
    CALLED_NAMES,
    FACTS_KNOWN,
    FUNCTIONS,
    GLOBALS,
    PLAIN,
    SAME_FACT,
    TRAITS,
    VARIABLES,
    declarations,
)
from rules.verdict import Action, Cause, Verdict

DECLARED = declarations()
HOME = {"calling": "+12015550123", "called": "+12125550101"}
EMPTY = Facts()


def outcome(when: str, call: Call, facts: Facts = EMPTY) -> str:
    """ "true", "false", "unknown" or "error", as a rule comes to it."""
    rule = Rule("r", when, check(parse(when), DECLARED), Action.WARN, Cause.ANALYTICS, "", "")
    above = Rule(
        "not",
        f"!({when})",
        check(parse(f"!({when})"), DECLARED),
        Action.WARN,
        Cause.DEFAULT,
        "",
        "",
    )
    verdict = evaluate(RuleSet("t", "1", Action.ALLOW, (rule, above)), call, facts)
    assert isinstance(verdict, Verdict)
    named = {"r": "true", "not": "false", "default": "unknown"}[verdict.rule]
    return "error" if verdict.errors else named


@pytest.mark.parametrize(
    ("fields", "when"),
    [
        ({}, 'call.verstat == "" && call.attestation == "" && !call.authenticated'),
        ({"verstat": "TN-Validation-Passed-A"},
         'call.verstat == "passed" && call.attestation == "A" && call.authenticated'),
        ({"verstat": "TN-Validation-Passed-B", "attestation": "A"},
         'call.attestation == "A" && call.authenticated'),
        ({"verstat": "TN-Validation-Passed"}, 'call.verstat == "passed" && !call.authenticated'),
        ({"verstat": "tn-validation-failed-c"},
         'call.verstat == "failed" && call.attestation == "C"'),
        ({"verstat": "No-TN-Validation", "attestation": "A"},
         'call.verstat == "none" && !call.authenticated'),
        ({"verstat": "Something-Else"}, 'call.verstat == ""'),
        ({"vouched": True}, "call.authenticated"),
        ({"calling": "anonymous"},
         'calling.anonymous && !calling.withheld && calling.class == "anonymous"'),
        ({"calling": "anonymous"}, 'calling.number == "" && calling.series == ""'),
        ({"calling_status": "restricted"},
         'calling.withheld && !calling.anonymous && calling.number == "+12015550123"'),
        ({"calling": "Bank"}, 'calling.class == "invalid" && calling.country == ""'),
        ({}, 'calling.class == "subscriber" && calling.country == "US" && calling.plausible'),
        ({"calling": "12345", "region": "CN"}, 'calling.series == "cn.12"'),
        ({}, 'call.at == timestamp("2026-11-23T12:00:00Z")'),
        ({"diverted_from": "+441632960001"}, 'diverted_from.country == "GB"'),
        ({}, 'presentation.number == "" && call.redirect_count == 0 && call.mode == "voice"'),
        ({}, "call.unverified_category && !call.commercial && !entity.registered"),
    ],
)  # fmt: skip
def test_a_word_means_what_the_table_says(fields: Mapping[str, object], when: str) -> None:
    """From the fields that a switch sends."""
    assert outcome(when, call_from({**HOME, **fields})) == "true"


@pytest.mark.parametrize(
    ("network", "names"),
    [(DNO, "calling.dno"), (BLOCK, "calling.blocked"), (ALLOW, "calling.allowed")],
)
def test_each_network_list_has_its_word(network: int, names: str) -> None:
    """And no other word is true of it."""
    call = call_from(HOME)
    call.network = network
    words = {name for name in VARIABLES if outcome_of_bool(name, call) == "true"}
    assert words & {"calling.dno", "calling.blocked", "calling.allowed"} == {names}


def outcome_of_bool(name: str, call: Call) -> str:
    return outcome(name, call) if VARIABLES[name].type.name == "bool" else ""


LATE = [22, 23, 0, 1]


@pytest.mark.parametrize(
    ("facts", "category", "expected"),
    [
        pytest.param(Facts(), "loans", False, id="nothing said"),
        pytest.param(Facts(listed=mask(["loans"])), "loans", True, id="listed"),
        pytest.param(Facts(listed=mask(["property"])), "loans", False, id="another listed"),
        pytest.param(Facts(listed=mask(["all"])), "loans", True, id="all listed"),
        pytest.param(Facts(listed=mask(["all"])), "all", True, id="all of all"),
        pytest.param(Facts(listed=mask(["loans"])), "all", False, id="one is not all"),
        pytest.param(Facts(listed=mask(["all"])), "survey", False, id="all is all commercial ones"),
        pytest.param(Facts(listed=mask(["survey"])), "survey", True, id="a survey by its name"),
        pytest.param(
            Facts(listed=mask(["loans"]), profile=Profile(accepted=mask(["loans"]))),
            "loans", False, id="listed and accepted",
        ),
        pytest.param(
            Facts(listed=mask(["loans"]), profile=Profile(accepted=mask(["all"]))),
            "loans", False, id="listed and all accepted",
        ),
        pytest.param(
            Facts(
                listed=mask(["loans"]),
                profile=Profile(accepted=mask(["all"]), refused=mask(["loans"])),
            ),
            "loans", True, id="all accepted but this",
        ),
        pytest.param(
            Facts(profile=Profile(refused=mask(["all"]), accepted=mask(["loans"]))),
            "loans", False, id="all refused but this",
        ),
        pytest.param(Facts(profile=Profile(refused=mask(["all"]))), "loans", True,
                     id="all refused"),
        pytest.param(Facts(profile=Profile(refused=mask(["loans"]), modes=2)), "loans", False,
                     id="refused from machines"),
        pytest.param(Facts(profile=Profile(refused=mask(["loans"]), modes=3)), "loans", True,
                     id="refused from people and machines"),
        pytest.param(Facts(profile=Profile(refused=mask(["loans"]), days=0b1)), "loans", True,
                     id="refused on Mondays"),
        pytest.param(Facts(profile=Profile(refused=mask(["loans"]), days=0b1111110)), "loans",
                     False, id="refused on other days"),
        pytest.param(Facts(profile=Profile(refused=mask(["loans"]), days=1 << 7)), "loans", False,
                     id="refused on holidays only"),
        pytest.param(Facts(profile=Profile(refused=mask(["loans"]), bands=1 << 7)), "loans", True,
                     id="refused at seven, New York"),
        pytest.param(
            Facts(profile=Profile(refused=mask(["loans"]), bands=1 << 7, zone="America/Chicago")),
            "loans", False, id="refused at seven, now in Chicago",
        ),
        pytest.param(
            Facts(profile=Profile(refused=mask(["loans"]), bands=1 << 7, zone="No/Where")),
            "loans", True, id="a zone that is none is not registered",
        ),
    ],
)  # fmt: skip
def test_a_refusal_holds_by_list_or_by_its_own_terms(
    facts: Facts, category: str, expected: bool
) -> None:
    """Monday 07:00 in New York, by voice."""
    call = call_from(HOME)
    assert outcome(f'called.refuses("{category}")', call, facts) == str(expected).lower()


def test_a_refusal_by_the_hour_is_undecided_where_no_hour_is_known() -> None:
    """Neither the rule nor its contrary matches."""
    call = call_from({**HOME, "called": "+80012345678"})
    facts = Facts(profile=Profile(refused=mask(["loans"]), bands=1))
    assert outcome('called.refuses("loans")', call, facts) == "unknown"
    assert outcome('called.within("08:00", "21:00")', call) == "unknown"


@pytest.mark.parametrize(
    ("at", "band", "expected"),
    [
        pytest.param("2026-11-23T13:00:00Z", '("08:00", "21:00")', True, id="the first minute"),
        pytest.param("2026-11-23T12:59:00Z", '("08:00", "21:00")', False, id="the minute before"),
        pytest.param("2026-11-24T01:59:00Z", '("08:00", "21:00")', True, id="the last minute"),
        pytest.param("2026-11-24T02:00:00Z", '("08:00", "21:00")', False, id="the end"),
        pytest.param("2026-11-23T04:00:00Z", '("21:00", "08:00")', True, id="over midnight, late"),
        pytest.param("2026-11-23T06:00:00Z", '("21:00", "08:00")', True, id="over midnight, early"),
        pytest.param("2026-11-23T17:00:00Z", '("21:00", "08:00")', False, id="over midnight, noon"),
        pytest.param("2026-07-06T12:30:00Z", '("08:00", "21:00")', True, id="summer time"),
        pytest.param("2026-11-01T05:30:00Z", '("01:00", "02:00")', True,
                     id="the hour that is twice, first"),
        pytest.param("2026-11-01T06:30:00Z", '("01:00", "02:00")', True,
                     id="the hour that is twice, again"),
        pytest.param("2026-11-23T05:00:00Z", '("00:00", "24:00")', True, id="all day"),
    ],
)  # fmt: skip
def test_a_band_is_of_the_called_party(at: str, band: str, expected: bool) -> None:
    """New York, by its number."""
    call = call_from({**HOME, "at": at})
    assert outcome(f"called.within{band}", call) == str(expected).lower()


@pytest.mark.parametrize(
    ("at", "days", "expected"),
    [
        pytest.param("2026-11-28T06:00:00Z", "mon-fri", True, id="friday's night on saturday"),
        pytest.param("2026-11-23T06:00:00Z", "mon-fri", False, id="sunday's night on monday"),
        pytest.param("2026-11-29T04:00:00Z", "sat", True, id="saturday evening"),
        pytest.param("2026-11-29T04:00:00Z", "sun-fri", False, id="around saturday"),
    ],
)
def test_a_band_over_midnight_belongs_to_the_day_it_begins_on(
    at: str, days: str, expected: bool
) -> None:
    """From 21:00 to 09:00 in New York."""
    call = call_from({**HOME, "at": at})
    when = f'called.within_days("21:00", "09:00", "{days}")'
    assert outcome(when, call) == str(expected).lower()


@pytest.mark.parametrize(
    ("called", "at", "hour", "day"),
    [
        pytest.param(
            "+12125550101", "2026-03-08T06:59:59Z", 1, "sun", id="us, before the lost hour"
        ),
        pytest.param("+12125550101", "2026-03-08T07:00:00Z", 3, "sun", id="us, after it"),
        pytest.param("+12125550101", "2026-11-01T05:59:59Z", 1, "sun", id="us, twice, first"),
        pytest.param("+12125550101", "2026-11-01T06:00:00Z", 1, "sun", id="us, twice, again"),
        pytest.param("+12125550101", "2026-11-01T07:00:00Z", 2, "sun", id="us, after both"),
        pytest.param(
            "+33612345678", "2026-03-29T00:59:59Z", 1, "sun", id="fr, before the lost hour"
        ),
        pytest.param("+33612345678", "2026-03-29T01:00:00Z", 3, "sun", id="fr, after it"),
        pytest.param("+33612345678", "2026-10-25T00:00:00Z", 2, "sun", id="fr, twice, first"),
        pytest.param("+33612345678", "2026-10-25T01:59:59Z", 2, "sun", id="fr, twice, again"),
        pytest.param("+33612345678", "2026-10-25T02:00:00Z", 3, "sun", id="fr, after both"),
        pytest.param(
            "+918123456789", "2026-03-29T01:00:00Z", 6, "sun", id="in, knows no summer time"
        ),
        pytest.param("+918123456789", "2026-10-25T01:00:00Z", 6, "sun", id="in, nor an end of it"),
        pytest.param("+918123456789", "2026-10-25T18:30:00Z", 0, "mon", id="in, half hours"),
    ],
)
def test_each_instant_lies_in_one_hour(called: str, at: str, hour: int, day: str) -> None:
    """The hour that is twice is one band both times, the lost one is in none."""
    call = call_from({"calling": HOME["calling"], "called": called, "at": at})
    found = [
        each
        for each in range(24)
        if outcome(f'called.within_days("{each:02}:00", "{each + 1:02}:00", "{day}")', call)
        == "true"
    ]
    assert found == [hour]


@pytest.mark.parametrize(
    ("called", "at", "expected"),
    [
        # From 21:00 to 09:00, on working days: the night belongs to the day it begins on.
        pytest.param("+918123456789", "2026-11-27T15:30:00Z", "true", id="in, friday at nine"),
        pytest.param("+918123456789", "2026-11-28T03:29:59Z", "true", id="in, to saturday's nine"),
        pytest.param("+918123456789", "2026-11-28T15:30:00Z", "false", id="in, saturday at nine"),
        pytest.param("+33612345678", "2026-10-24T06:59:59Z", "true", id="fr, friday's night"),
        pytest.param("+33612345678", "2026-10-26T08:30:00Z", "false",
                     id="fr, monday half past nine of winter time, sunday's night over"),
        pytest.param("+33612345678", "2026-10-26T20:00:00Z", "true", id="fr, monday at nine"),
        pytest.param("+12125550101", "2026-03-07T03:00:00Z", "true", id="us, friday ten at night"),
        pytest.param("+12125550101", "2026-03-08T12:30:00Z", "false",
                     id="us, sunday, saturday's night an hour shorter"),
    ],
)  # fmt: skip
def test_a_night_of_working_days(called: str, at: str, expected: str) -> None:
    """Across midnight, the weekend and the change of the clocks."""
    call = call_from({"calling": HOME["calling"], "called": called, "at": at})
    assert outcome('called.within_days("21:00", "09:00", "mon-fri")', call) == expected


PARIS, REUNION = Facts(), Facts(profile=Profile(zone="Indian/Reunion"))


@pytest.mark.parametrize(
    ("called", "at", "facts", "expected"),
    [
        pytest.param("+33612345678", "2026-07-14T09:00:00Z", PARIS, "true", id="at noon"),
        pytest.param("+33612345678", "2026-07-13T21:59:59Z", PARIS, "false", id="before midnight"),
        pytest.param("+33612345678", "2026-07-13T22:00:00Z", PARIS, "true", id="at midnight"),
        pytest.param("+33612345678", "2026-07-13T20:00:00Z", REUNION, "true",
                     id="at midnight where the subscriber is"),
        pytest.param("+33612345678", "2026-07-14T20:00:00Z", REUNION, "false",
                     id="over where the subscriber is"),
        pytest.param("+918123456789", "2026-01-25T18:30:00Z", PARIS, "true", id="republic day"),
        pytest.param("+79123456789", "2026-02-22T12:00:00Z", PARIS, "true",
                     id="in one of the zones it may be in"),
        pytest.param("+33612345678", "2050-07-14T09:00:00Z", PARIS, "unknown",
                     id="beyond the table"),
        pytest.param("+80012345678", "2026-07-14T09:00:00Z", PARIS, "unknown", id="of no country"),
        pytest.param("+33612345678", "2026-07-14T09:00:00Z", UNKNOWN, "unknown", id="outage"),
    ],
)  # fmt: skip
def test_a_holiday_is_of_the_called_party(
    called: str, at: str, facts: Facts, expected: str
) -> None:
    """By the country of its number and the day where it is."""
    call = call_from({"calling": HOME["calling"], "called": called, "at": at})
    assert outcome("called.holiday", call, facts) == expected


def test_a_refusal_on_holidays_holds_on_holidays() -> None:
    """Thanksgiving in New York is over in London at five in the morning, and no day there."""
    refused = mask(["loans"])
    thanksgiving = call_from({**HOME, "at": "2026-11-27T04:59:59Z"})
    for profile, expected in (
        (Profile(refused=refused, days=1 << 7), "true"),
        (Profile(refused=refused, days=1 << 7 | 1 << 0), "true"),
        (Profile(refused=refused, days=1 << 0), "false"),
        (Profile(refused=refused, days=1 << 7, bands=1 << 23), "true"),
        (Profile(refused=refused, days=1 << 7, bands=1 << 22), "false"),
        (Profile(refused=refused, days=1 << 7, zone="Europe/London"), "false"),
    ):
        facts = Facts(profile=profile)
        assert outcome('called.refuses("loans")', thanksgiving, facts) == expected, profile
    later = call_from({**HOME, "at": "2050-11-24T17:00:00Z"})
    facts = Facts(profile=Profile(refused=refused, days=1 << 7))
    assert outcome('called.refuses("loans")', later, facts) == "unknown"


def test_a_number_of_many_zones_is_within_where_all_of_them_are() -> None:
    """What is permitted is what every zone permits; a refused hour of any zone is refused."""
    russian = {"calling": HOME["calling"], "called": "+79123456789"}
    noon_in_moscow = call_from({**russian, "at": "2026-11-23T09:00:00Z"})
    assert outcome('called.within("08:00", "23:00")', noon_in_moscow) == "true"
    assert outcome('called.within("08:00", "18:00")', noon_in_moscow) == "false"
    night_in_kamchatka = Facts(profile=Profile(refused=mask(["loans"]), bands=1 << 21))
    assert outcome('called.refuses("loans")', noon_in_moscow, night_in_kamchatka) == "true"


@pytest.mark.parametrize("text", ["8:00", "24:01", "12:60", "noon", "", "12:00 "])
def test_a_time_has_one_form(text: str) -> None:
    """HH:MM, and 24:00 for the end of a day."""
    with pytest.raises(ValueError, match="HH:MM"):
        minutes(text)


@pytest.mark.parametrize("text", ["", "monday", "mon-", "mon-fri-sat", "-fri", "mon;tue"])
def test_days_have_one_form(text: str) -> None:
    """Names of three letters, spans and lists."""
    with pytest.raises(ValueError, match="mon-fri"):
        weekdays(text)
    assert weekdays("sat-mon,wed") == {5, 6, 0, 2}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(Facts(), "", id="none"),
        pytest.param(Facts(profile=Profile(prefixes=(("1201", "block"),))), "block", id="prefix"),
        pytest.param(
            Facts(profile=Profile(prefixes=(("1201", "block"), ("1201555", "allow")))), "allow",
            id="the longer prefix",
        ),
        pytest.param(
            Facts(profile=Profile(prefixes=(("1201", "block"), ("1201", "allow")))), "allow",
            id="of two the one that allows",
        ),
        pytest.param(
            Facts(personal="block", profile=Profile(prefixes=(("1201555", "allow"),))), "block",
            id="exact before prefix",
        ),
        pytest.param(Facts(profile=Profile(prefixes=(("86", "block"),))), "", id="another prefix"),
    ],
)  # fmt: skip
def test_a_personal_entry_is_exact_or_the_longest_prefix(facts: Facts, expected: str) -> None:
    """For the calling number."""
    assert outcome(f'called.personal == "{expected}"', call_from(HOME), facts) == "true"


@pytest.mark.parametrize(
    ("consent", "state"),
    [
        (None, "none"),
        (Consent(5, revoked=False, expires=0, categories=mask(["loans"])), "granted"),
        (Consent(5, revoked=False, expires=0, categories=mask(["property"])), "none"),
        (Consent(5, revoked=True, expires=0, categories=mask(["all"])), "revoked"),
        (Consent(5, revoked=False, expires=1, categories=mask(["loans"])), "expired"),
    ],
    ids=["none", "granted", "of another category", "revoked", "expired"],
)
def test_a_consent_is_for_the_category_and_the_instant(consent: Consent | None, state: str) -> None:
    """Its number is the ledger's."""
    call = call_from(HOME)
    call.category = "loans"
    when = f'consent.state == "{state}" && consent.id == {consent.sequence if consent else 0}'
    assert outcome(when, call, Facts(consent=consent)) == "true"


def test_the_names_of_the_index_are_its_own() -> None:
    """What the index may call unknown is what conditions know as unknown."""
    assert {SAME_FACT.get(name, name) for name in CALLED_NAMES} == CALLED_SIDE | {FACTS_KNOWN}


def test_every_fact_is_told() -> None:
    """Each has a meaning; the names do not collide."""
    assert all(fact.meaning for fact in (*VARIABLES.values(), *FUNCTIONS.values()))
    assert not VARIABLES.keys() & FUNCTIONS.keys()


HOME_NUMBER: Final = parse_number(HOME["calling"])
OTHERS: Final[dict[type, tuple[object, ...]]] = {
    Number: (
        HOME_NUMBER._replace(value=8613, text="+8613", plausible=not HOME_NUMBER.plausible),
        Number(86139, "+86139", NumberClass.INVALID, "FR", "cn.95", False),
    ),
    str: ("A", "restricted"),
    bool: (True,),
    int: (7,),
    float: (1.5,),
}
"""Values that no field of a call has by itself."""


def value(name: str, **scope: Call | Facts) -> object:
    return eval(VARIABLES[name].python, dict(GLOBALS), dict(scope))  # noqa: S307


def test_traits_settle_the_facts_that_are_said_to_be_of_them() -> None:
    """Whatever else of a call is another, with the same traits each such fact is the same."""
    same = call_from(HOME)
    told = {name: value(name, c=same) for name in TRAITS}
    changed = set()
    for slot in Call.__slots__:
        for other in OTHERS.get(type(getattr(same, slot)), ()):
            call = call_from(HOME)
            setattr(call, slot, other)
            if call.traits() == same.traits():
                assert {name: value(name, c=call) for name in TRAITS} == told, slot
            else:
                changed.add(slot)
    assert {"calling", "network", "vouched", "verstat", "entity_stage"} <= changed
    assert not changed & {"called", "call_id", "display_name", "trunk", "at"}


def test_plain_facts_are_the_same_for_each_called_party() -> None:
    """What no called party has set reads as nothing, whatever its lists and signals say."""
    call = call_from(HOME)
    for facts in (Facts(), Facts(listed=5, signals=tuple(range(24)), entity_calls=(1, 2))):
        assert facts.plain()
        assert {name: value(name, c=call, f=facts) for name in PLAIN} == {
            "called.personal": "",
            "called.zone": "",
            "consent.state": "none",
            "consent.outside": "",
            "consent.id": 0,
        }
    consent = Consent(5, revoked=False, expires=0, categories=1)
    for facts in (Facts(personal="allow"), Facts(consent=consent), Facts(profile=Profile())):
        assert not facts.plain()
