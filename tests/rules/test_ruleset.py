"""The laws of evaluation, on random rule sets, calls, facts and outages."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from consent.category import BIT, mask
from consent.facts import CALLED_SIDE, UNKNOWN, Consent, Facts, Profile
from consent.number import Number, NumberClass
from rules.call import Call
from rules.cel import check, parse
from rules.explanation import explain
from rules.ruleset import Mode, ReadPlan, Rule, RuleSet, evaluate
from rules.schema import FACTS_KNOWN, declarations
from rules.verdict import Action, Cause, Shadow, Verdict
from rules.walk import share

DECLARED = declarations()

SURE = (
    "true",
    "call.commercial",
    "calling.dno",
    'call.route == "international"',
    "call.redirect_count == 1",
)
FAILING = ("1 / call.redirect_count > 0", "call.redirect_count + 9223372036854775807 < 0")
CALLED = (
    'called.refuses("loans")',
    "called.refuses(call.category)",
    'called.personal == "allow"',
    'called.personal == "block"',
    'called.within("08:00", "21:00")',
    'called.within_days("20:00", "09:00", "mon-fri")',
    'called.zone == "Asia/Shanghai"',
    'consent.state == "granted"',
    "consent.id > 0",
)

atoms = st.sampled_from((*SURE, *FAILING, *CALLED, *CALLED))
conditions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        inner.map(lambda text: f"!({text})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]} && {pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]} || {pair[1]})"),
        st.tuples(inner, inner, inner).map(lambda each: f"({each[0]} ? {each[1]} : {each[2]})"),
    ),
    max_leaves=4,
)


def a_rule(
    name: str, when: str, action: Action, *, mode: Mode = Mode.ENFORCE, percent: float = 100,
    despite_unknown: bool = False,
) -> Rule:  # fmt: skip
    return Rule(
        name, when, check(parse(when), DECLARED), action, Cause.ANALYTICS, "why", "source", mode,
        percent, despite_unknown,
    )  # fmt: skip


def a_set(*rules: Rule, default: Action = Action.ALLOW) -> RuleSet:
    return RuleSet("t", "1", default, rules)


@st.composite
def rule_sets(draw: st.DrawFn, *, despite: bool = False) -> RuleSet:
    rules = []
    for index in range(draw(st.integers(1, 5))):
        action = draw(st.sampled_from(Action))
        when = draw(conditions)
        if action is Action.ALLOW and draw(st.integers(0, 3)) == 0:
            when = draw(st.sampled_from(("!facts.known", f"facts.known && {when}")))
        rules.append(
            a_rule(
                f"r{index}",
                when,
                action,
                mode=draw(st.sampled_from((Mode.ENFORCE, Mode.ENFORCE, Mode.SHADOW, Mode.OFF))),
                percent=draw(st.sampled_from((100, 100, 50))),
                despite_unknown=despite and draw(st.booleans()),
            )
        )
    return a_set(*rules, default=draw(st.sampled_from(Action)))


@st.composite
def calls(draw: st.DrawFn) -> Call:
    call = Call()
    call.at = datetime(2026, 11, 23, tzinfo=UTC).timestamp() + draw(st.integers(0, 7 * 86400))
    # An international toll-free number lies in no zone.
    called, country = draw(st.sampled_from(((8613123456789, "CN"), (80012345678, ""))))
    call.called = Number(called, f"+{called}", NumberClass.SUBSCRIBER, country, "", True)
    call.calling = Number(441632960001, "+441632960001", NumberClass.SUBSCRIBER, "GB", "", True)
    call.category = draw(st.sampled_from(("", "loans", "service")))
    call.commercial = call.category == "loans"
    call.network = draw(st.integers(0, 1))
    call.route = draw(st.sampled_from(("", "international")))
    call.redirect_count = draw(st.integers(0, 1))
    call.decision_id = draw(st.sampled_from(("one", "two", "three")))
    return call


masks = st.sampled_from([mask(list(names)) for names in ((), ("loans",), ("all",), ("service",))])
profiles = st.builds(
    Profile,
    refused=masks,
    accepted=masks,
    bands=st.sampled_from((0, 0b1111 << 18)),
    days=st.sampled_from((0, 0b11111)),
    zone=st.sampled_from(("", "Asia/Shanghai", "Nowhere/None")),
    prefixes=st.sampled_from(((), (("44", "block"),), (("44", "block"), ("441632", "allow")))),
)
consents = st.none() | st.builds(
    Consent,
    sequence=st.integers(1, 9),
    revoked=st.booleans(),
    expires=st.sampled_from((0, 1)),
    categories=masks,
)
known_facts = st.builds(
    Facts,
    listed=masks,
    profile=profiles,
    consent=consents,
    personal=st.sampled_from(("", "allow", "block")),
)
unknowns = st.sets(st.sampled_from(sorted(CALLED_SIDE))).map(frozenset)


def without(facts: Facts, other: Facts, unknown: frozenset[str]) -> Facts:
    """The facts with what is unknown of them taken from `other`: it must not be looked at."""
    profile = facts.profile
    if "called.refuses" in unknown:
        profile = replace(
            profile,
            **{
                name: getattr(other.profile, name)
                for name in ("refused", "accepted", "bands", "days", "modes")
            },
        )
    if unknown >= {"called.refuses", "called.zone", "called.within"}:
        profile = replace(profile, zone=other.profile.zone)
    if "called.personal" in unknown:
        profile = replace(profile, prefixes=other.profile.prefixes)
    return Facts(
        listed=other.listed if "called.refuses" in unknown else facts.listed,
        profile=profile,
        consent=other.consent if unknown >= {"consent.state", "consent.id"} else facts.consent,
        personal=other.personal if "called.personal" in unknown else facts.personal,
        unknown=unknown,
    )


def as_read(facts: Facts, other: Facts, plan: ReadPlan, category: str) -> Facts:
    """The facts where the plan reads them, those of `other` where it does not."""
    read = set(plan.categories) | ({category} & BIT.keys() if plan.own_category else set())
    bits = mask(read)
    return Facts(
        listed=facts.listed & bits | other.listed & ~bits,
        profile=(facts if plan.profile else other).profile,
        consent=(facts if plan.consent else other).consent,
        personal=(facts if plan.personal else other).personal,
    )


def decided(ruleset: RuleSet, call: Call, facts: Facts) -> Verdict:
    verdict = evaluate(ruleset, call, facts)
    assert isinstance(verdict, Verdict)
    return verdict


@given(rule_sets(), calls(), known_facts, known_facts, unknowns)
@settings(max_examples=120, deadline=None)
def test_an_outage_never_makes_a_verdict_harsher(
    ruleset: RuleSet, call: Call, facts: Facts, other: Facts, unknown: frozenset[str]
) -> None:
    """For any default, shadow rule, roll-out and subset of facts made unknown."""
    known = decided(ruleset, call, facts)
    degraded = decided(ruleset, call, without(facts, other, unknown))
    assert degraded.action <= known.action
    assert degraded.degraded or not unknown


@given(rule_sets(despite=True), calls(), known_facts, known_facts, unknowns)
@settings(
    # Few sets decide without facts, and these are few of what is drawn.
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.filter_too_much],
)  # fmt: skip
def test_what_is_decided_without_facts_is_decided_so_with_them(
    ruleset: RuleSet, call: Call, facts: Facts, other: Facts, unknown: frozenset[str]
) -> None:
    """Reading the index, or failing to, changes no verdict that did not ask for it."""
    alone = evaluate(ruleset, call)
    assume(isinstance(alone, Verdict))
    for given_ in (facts, without(facts, other, unknown)):
        verdict = decided(ruleset, call, given_)
        assert (verdict.action, verdict.rule, verdict.shadow) == (
            alone.action,
            alone.rule,
            alone.shadow,
        )


@given(rule_sets(despite=True), calls(), known_facts, known_facts, unknowns)
@settings(max_examples=50, deadline=None)
def test_explain_agrees_with_evaluate(
    ruleset: RuleSet, call: Call, facts: Facts, other: Facts, unknown: frozenset[str]
) -> None:
    """The walk rule by rule and the compiled walk give one verdict."""
    for given_ in (facts, without(facts, other, unknown)):
        explained = explain(ruleset, call, given_)
        assert replace(explained, trace=()) == decided(ruleset, call, given_)
        tried = [entry["rule"] for entry in explained.trace]
        active = [rule.id for rule in ruleset.rules if rule.mode is not Mode.OFF]
        assert tried == active[: len(tried)]
        assert tried == active or tried[-1] == explained.rule or explained.degraded


@given(rule_sets(despite=True), calls(), known_facts, unknowns)
@settings(max_examples=40, deadline=None)
def test_a_shadow_rule_never_changes_an_action(
    ruleset: RuleSet, call: Call, facts: Facts, unknown: frozenset[str]
) -> None:
    """Without its shadow rules a set gives the same verdict."""
    facts = replace(facts, unknown=unknown)
    rules = tuple(rule for rule in ruleset.rules if rule.mode is Mode.ENFORCE)
    bare = decided(a_set(*rules, default=ruleset.default), call, facts)
    full = decided(ruleset, call, facts)
    assert (full.action, full.cause, full.rule) == (bare.action, bare.cause, bare.rule)


@given(st.floats(0, 100), st.floats(0, 100), st.text(max_size=26), st.sampled_from(("a", "b")))
@settings(max_examples=40, deadline=None)
def test_raising_a_percentage_only_adds_calls(
    first: float, second: float, decision_id: str, rule: str
) -> None:
    """A call that a rule applied to at 10 % is among those at 20 %."""
    low, high = sorted((first, second))
    assert not share(decision_id, rule) < low or share(decision_id, rule) < high
    assert 0 <= share(decision_id, rule) < 100


def test_a_percentage_is_its_share_of_the_calls() -> None:
    """Of 2,000 calls 30 % are 600, give or take; two rules do not draw the same ones."""
    ruleset = a_set(a_rule("a", "true", Action.BLOCK, percent=30))
    call = Call()
    hit = set()
    for index in range(2000):
        call.decision_id = f"decision {index}"
        if decided(ruleset, call, Facts()).rule == "a":
            hit.add(call.decision_id)
    assert 520 < len(hit) < 680
    both = sum(share(decision_id, "b") < 30 for decision_id in hit)
    assert 120 < both < 240


ALLOWS = a_rule("allow", 'called.personal == "allow"', Action.ALLOW)
WARNS = a_rule("warn", 'consent.state == "none"', Action.WARN)
BLOCKS = a_rule("block", "calling.dno", Action.BLOCK)
INSISTS = a_rule("block", "calling.dno", Action.BLOCK, despite_unknown=True)


@pytest.mark.parametrize(
    ("rules", "default", "action", "rule", "cause"),
    [
        pytest.param((ALLOWS, BLOCKS), Action.ALLOW, Action.ALLOW, "default", Cause.DEGRADED,
                     id="a block after an allow that may have matched"),
        pytest.param((WARNS, BLOCKS), Action.ALLOW, Action.ALLOW, "default", Cause.DEGRADED,
                     id="a block after a warn that may have matched"),
        pytest.param((WARNS, BLOCKS), Action.BLOCK, Action.WARN, "default", Cause.DEGRADED,
                     id="a default that is harsher than what was passed over"),
        pytest.param((ALLOWS,), Action.BLOCK, Action.ALLOW, "default", Cause.DEGRADED,
                     id="a harsh default after an allow that may have matched"),
        pytest.param((ALLOWS, INSISTS), Action.ALLOW, Action.BLOCK, "block", Cause.ANALYTICS,
                     id="a block despite the unknown"),
        pytest.param((BLOCKS, ALLOWS), Action.ALLOW, Action.BLOCK, "block", Cause.ANALYTICS,
                     id="a block before anything is unknown"),
        pytest.param((a_rule("x", "!facts.known", Action.ALLOW), BLOCKS), Action.BLOCK,
                     Action.ALLOW, "x", Cause.ANALYTICS, id="a policy for the outage"),
    ],
)  # fmt: skip
def test_an_outage_ends_where_the_law_says(
    rules: tuple[Rule, ...], default: Action, action: Action, rule: str, cause: Cause
) -> None:
    """Which verdict, cause and rule come out when nothing of the called side is known."""
    call = Call()
    call.network = 1
    verdict = decided(a_set(*rules, default=default), call, UNKNOWN)
    assert (verdict.action, verdict.rule, verdict.cause) == (action, rule, cause)
    assert verdict.degraded


def test_an_error_is_the_rule_not_matching_and_is_named() -> None:
    """The walk goes on after it, and the verdict says which rule failed."""
    fails = a_rule("fails", "1 / call.redirect_count > 0", Action.BLOCK)
    verdict = decided(a_set(fails, a_rule("next", "true", Action.WARN)), Call(), Facts())
    assert (verdict.rule, verdict.errors, verdict.degraded) == ("next", ("fails",), False)


def test_an_error_of_a_rule_that_would_have_softened_keeps_a_later_one_from_blocking() -> None:
    """An error is under the same law as an outage."""
    fails = a_rule("fails", "1 / call.redirect_count > 0", Action.ALLOW)
    verdict = decided(a_set(fails, a_rule("next", "true", Action.BLOCK)), Call(), Facts())
    assert (verdict.action, verdict.rule, verdict.errors) == (Action.ALLOW, "default", ("fails",))
    assert verdict.degraded


def test_an_hour_that_cannot_be_told_is_no_error() -> None:
    """A called number in no known zone leaves the rule undecided without a complaint."""
    call = Call()
    call.called = Number(80012345678, "+80012345678", NumberClass.SERVICE, "", "", True)
    late = a_rule("late", '!called.within("08:00", "21:00")', Action.BLOCK)
    early = a_rule("early", 'called.within("08:00", "21:00")', Action.BLOCK)
    verdict = decided(a_set(late, early), call, Facts())
    assert (verdict.action, verdict.rule, verdict.errors) == (Action.ALLOW, "default", ())


def test_a_shadow_rule_reports_and_the_walk_goes_on() -> None:
    """Both shadow rules above the deciding one are in the verdict, the one below is not."""
    first, second, third = (
        a_rule(name, "true", Action.BLOCK, mode=Mode.SHADOW) for name in ("a", "b", "c")
    )
    ruleset = a_set(first, second, a_rule("d", "true", Action.WARN), third)
    verdict = decided(ruleset, Call(), Facts())
    assert verdict.shadow == (Shadow("a", Action.BLOCK), Shadow("b", Action.BLOCK))
    assert (verdict.action, verdict.rule) == (Action.WARN, "d")


def test_the_trace_says_what_stopped_each_rule() -> None:
    """The part of the condition, its values by name, "?" for what is not known."""
    ruleset = a_set(
        a_rule("a", 'called.refuses("loans") && call.commercial', Action.WARN),
        a_rule("b", 'called.personal == "allow"', Action.ALLOW, despite_unknown=True),
        a_rule("c", "!call.commercial && 100 / call.redirect_count > 1", Action.WARN),
        a_rule("d", "!call.commercial", Action.WARN, percent=0),
        a_rule("e", '!call.commercial && called.refuses("loans")', Action.ALLOW),
    )
    facts = Facts(listed=mask(["loans"]), unknown=frozenset({"called.personal"}))
    trace = explain(ruleset, Call(), facts).trace
    assert [entry["outcome"] for entry in trace] == ["false", "unknown", "error", "false", "true"]
    assert [entry["stopped_by"] for entry in trace] == [
        "call.commercial",
        'called.personal == "allow"',
        "100 / call.redirect_count > 1",
        "percent = 0",
        "",
    ]
    assert [entry["facts"] for entry in trace] == [
        {"call.commercial": False},
        {"called.personal": "?"},
        {"call.redirect_count": 0},
        {"call.commercial": False},
        {"call.commercial": False, 'called.refuses("loans")': True},
    ]


@pytest.mark.parametrize(
    ("when", "plan"),
    [
        ("calling.dno", ReadPlan()),
        ('called.refuses("loans")',
         ReadPlan(categories=frozenset({"loans", "all"}), profile=True)),
        ("called.refuses(call.category)",
         ReadPlan(categories=frozenset({"all"}), own_category=True, profile=True)),
        ('consent.state == "granted"', ReadPlan(consent=True)),
        ('called.personal == ""', ReadPlan(personal=True, profile=True)),
        ('called.within("08:00", "09:00")', ReadPlan(profile=True)),
    ],
)  # fmt: skip
def test_a_plan_reads_what_the_rules_use(when: str, plan: ReadPlan) -> None:
    """Shadow rules count, rules that are off do not."""
    assert a_set(a_rule("a", when, Action.WARN)).plan == plan
    assert a_set(a_rule("a", when, Action.WARN, mode=Mode.SHADOW)).plan == plan
    assert a_set(a_rule("a", when, Action.WARN, mode=Mode.OFF)).plan == ReadPlan()


@given(rule_sets(despite=True), calls(), known_facts, known_facts)
@settings(max_examples=200, deadline=None)
def test_what_a_call_does_not_read_changes_nothing(
    ruleset: RuleSet, call: Call, facts: Facts, other: Facts
) -> None:
    """A call reads what those rules want that it may match, and the rest may be anything."""
    plan = evaluate(ruleset, call)
    assume(isinstance(plan, ReadPlan))
    full = ruleset.plan
    assert plan.categories in (frozenset(), full.categories)
    for flag in ("own_category", "consent", "personal", "profile", "signals", "frequency"):
        assert getattr(plan, flag) <= getattr(full, flag)
    read = as_read(facts, other, plan, call.category)
    assert decided(ruleset, call, read) == decided(ruleset, call, facts)


def a_call(category: str = "") -> Call:
    call = Call()
    call.category, call.commercial = category, category == "loans"
    return call


@pytest.mark.parametrize(
    ("call", "plan"),
    [
        (a_call("loans"),
         ReadPlan(categories=frozenset({"all"}), own_category=True, consent=True, personal=True,
                  profile=True)),
        (a_call(), ReadPlan(personal=True, profile=True)),
    ],
)  # fmt: skip
def test_a_call_reads_what_the_rules_want_that_it_may_match(call: Call, plan: ReadPlan) -> None:
    """Those of one plan are one object, of whichever revision of a set."""
    rules = (
        a_rule("personal", 'called.personal == "block"', Action.BLOCK),
        a_rule("consent", 'call.commercial && consent.state == "revoked"', Action.BLOCK),
        a_rule("list", "call.commercial && called.refuses(call.category)", Action.BLOCK),
    )
    sets = [a_set(*rules), a_set(*rules, a_rule("dno", "calling.dno", Action.WARN))]
    plans = [evaluate(ruleset, call) for ruleset in sets]
    assert plans == [plan, plan]
    assert plans[0] is plans[1]


def test_a_rule_that_asks_whether_all_is_known_reads_all_that_the_set_reads() -> None:
    """What was not read would be known only in that nobody asked."""
    ruleset = a_set(
        a_rule("known", "!facts.known", Action.WARN),
        a_rule("consent", 'call.commercial && consent.state == "revoked"', Action.BLOCK),
    )
    assert evaluate(ruleset, a_call()) == ruleset.plan


def test_facts_that_no_rule_uses_make_no_walk_of_their_own() -> None:
    """Unknown facts that a set does not ask for leave the verdict certain, though degraded."""
    ruleset = a_set(a_rule("a", 'consent.state == "granted"', Action.WARN))
    names = frozenset({"called.refuses", "a.fact.of.tomorrow"})
    assert ruleset.walk_without(names) is ruleset.walk_without(frozenset())
    assert decided(ruleset, Call(), Facts(unknown=names)).degraded
    assert FACTS_KNOWN not in CALLED_SIDE


def test_a_block_that_an_error_would_have_kept_from_deciding_softens_by_the_default() -> None:
    """With all facts known the block is held back to the default; the outage goes no further."""
    ruleset = a_set(
        a_rule("fails", "1 / call.redirect_count > 0", Action.WARN),
        a_rule("block", 'called.personal == "block"', Action.BLOCK),
        a_rule("warn", "true", Action.WARN),
    )
    known = decided(ruleset, Call(), Facts(personal="block"))
    assert (known.action, known.rule) == (Action.ALLOW, "default")
    assert decided(ruleset, Call(), UNKNOWN).action is Action.ALLOW


def test_a_rule_does_not_fail_outside_its_share() -> None:
    """A call that a roll-out does not reach is judged as if the rule were not there."""
    fails = a_rule("fails", "1 / call.redirect_count > 0", Action.ALLOW, percent=0)
    verdict = decided(a_set(fails, a_rule("next", "true", Action.BLOCK)), Call(), Facts())
    assert (verdict.rule, verdict.errors) == ("next", ())
