"""Replay: what changes between two sets, counted as a second, naive count has it."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rules.test_ruleset import (
    a_rule,
    a_set,
    as_read,
    calls,
    decided,
    known_facts,
    rule_sets,
)

from consent.facts import CALLED_SIDE, UNKNOWN, Facts
from consent.number import parse_number
from rules.call import Call
from rules.loading import Packs, Row
from rules.pack import Pack
from rules.replay import MOST_EXAMPLES, Sample, compare
from rules.rule import Mode
from rules.ruleset import ReadPlan, RuleSet
from rules.verdict import Action, Cause

ALL = ReadPlan(
    categories=frozenset({"all", "loans"}),
    own_category=True,
    consent=True,
    personal=True,
    profile=True,
)
"""Reads whatever the conditions of these tests ask for."""


def packs(*rulesets: RuleSet, rows: tuple[Row, ...] = ()) -> Packs:
    """Packs of these sets; the last one is the default, whatever its name."""
    named = {each.name: Pack(each, ()) for each in rulesets}
    return Packs({**named, "default": Pack(rulesets[-1], ())}, rows, b"", "")


@given(
    rule_sets(despite=True),
    rule_sets(despite=True),
    st.lists(st.tuples(calls(), known_facts), max_size=6),
)
@settings(max_examples=25, deadline=None)
def test_counts_are_those_of_a_naive_count(
    current: RuleSet, new: RuleSet, known: list[tuple[Call, Facts]]
) -> None:
    """With every fact read, each sample is judged and counts what `evaluate` says of it."""
    found = compare(packs(current), packs(new), [Sample(*each, ALL) for each in known])
    pairs = [(decided(current, *each), decided(new, *each)) for each in known]
    assert (found.samples, found.judged, found.undecided) == (len(known), len(known), 0)
    assert found.total.before == Counter(old.action for old, _ in pairs)
    assert found.total.after == Counter(verdict.action for _, verdict in pairs)
    assert found.changes == Counter(
        (old.action, verdict.action) for old, verdict in pairs if old.action is not verdict.action
    )
    before, after = ({("t", v.rule): 0 for pair in pairs for v in pair} for _ in range(2))
    for old, verdict in pairs:
        before["t", old.rule] += 1
        after["t", verdict.rule] += 1
    assert {name: tally.before.total() for name, tally in found.rules.items()} == before
    assert {name: tally.after.total() for name, tally in found.rules.items()} == after
    assert {name: tally.before.total() for name, tally in found.categories.items()} == Counter(
        call.category for call, _ in known
    )
    assert found.causes_changed == sum(
        old.action is verdict.action and old.cause is not verdict.cause for old, verdict in pairs
    )


@given(rule_sets(despite=True), rule_sets(despite=True), calls(), known_facts, known_facts)
@settings(max_examples=60, deadline=None)
def test_what_is_judged_is_what_every_fact_would_give(
    current: RuleSet, new: RuleSet, call: Call, facts: Facts, other: Facts
) -> None:
    """A sample read by the current set's plan is judged under the new set only where the facts
    that it lacks, whatever they are, would change nothing."""
    sample = Sample(call, as_read(facts, other, current.plan, call.category), current.plan)
    found = compare(packs(current), packs(new), [sample])
    if found.undecided:
        assert found.unread
        assert not found.total.after
    else:
        assert found.total.before == Counter([decided(current, call, facts).action])
        assert found.total.after == Counter([decided(new, call, facts).action])


@given(rule_sets(), calls(), known_facts)
@settings(max_examples=25, deadline=None)
def test_a_set_against_itself_changes_nothing(ruleset: RuleSet, call: Call, facts: Facts) -> None:
    """Whatever was read, and through an outage."""
    samples = [
        Sample(call, facts, ALL),
        Sample(call, facts, ruleset.plan),
        Sample(call),
        Sample(call, UNKNOWN, ruleset.plan),
    ]
    found = compare(packs(ruleset), packs(ruleset), samples)
    assert (found.changed, found.causes_changed, found.examples) == (0, 0, [])
    assert found.judged + found.undecided == 4


REFUSES_ALL = 'called.refuses("all")'
REFUSES_LOANS = 'called.refuses("loans")'
READ_ALL = ReadPlan(categories=frozenset({"all"}), profile=True)


@pytest.mark.parametrize(
    ("when", "read", "undecided"),
    [
        (REFUSES_ALL, None, True),
        (REFUSES_ALL, READ_ALL, False),
        (REFUSES_LOANS, READ_ALL, True),
        (REFUSES_LOANS, replace(READ_ALL, categories=frozenset({"all", "loans"})), False),
        ("called.refuses(call.category)", READ_ALL, True),
        ("called.refuses(call.category)", replace(READ_ALL, own_category=True), False),
        ('called.personal == "block"', READ_ALL, True),
        ('called.personal == "block"', replace(READ_ALL, personal=True), False),
        ('called.zone == "Asia/Shanghai"', READ_ALL, False),
        ('called.within("08:00", "21:00")', None, True),
        ('consent.state == "granted"', READ_ALL, True),
        ('consent.state == "granted"', replace(READ_ALL, consent=True), False),
        ("facts.known", READ_ALL, False),
        ("facts.known", None, True),
        ("true || " + REFUSES_ALL, None, False),
        ("calling.dno && " + REFUSES_ALL, None, False),
        ("calling.dno", None, False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_sample_did_not_read_is_unknown(
    when: str, read: ReadPlan | None, undecided: bool
) -> None:
    """A new rule is judged only on samples whose read covers it, and not where it hangs on
    nothing that is missing."""
    call = Call()
    call.category = "property"
    new = a_set(a_rule("new", when, Action.BLOCK))
    found = compare(packs(a_set()), packs(new), [Sample(call, Facts(), read)])
    assert found.undecided == undecided
    assert bool(found.unread) == undecided
    assert set(found.unread) <= CALLED_SIDE | {"facts.known"}


def test_unread_facts_are_counted_by_name() -> None:
    """The share of samples that lacked a fact can be told fact by fact."""
    new = a_set(
        a_rule("a", REFUSES_ALL, Action.BLOCK),
        a_rule("b", 'consent.state == "granted"', Action.ALLOW),
    )
    samples = [Sample(Call()), Sample(Call()), Sample(Call(), Facts(), READ_ALL)]
    found = compare(packs(a_set()), packs(new), samples)
    assert (found.samples, found.undecided) == (3, 3)
    assert found.unread == {"called.refuses": 2, "consent.state": 3}


def test_a_shadow_rule_leaves_nothing_undecided() -> None:
    """It changes no action, so facts that only it asks for are not missed; its hits count."""
    shadow = a_set(
        a_rule("later", REFUSES_ALL, Action.BLOCK, mode=Mode.SHADOW),
        a_rule("now", "true", Action.BLOCK, mode=Mode.SHADOW),
    )
    found = compare(packs(a_set()), packs(shadow), [Sample(Call())])
    assert (found.undecided, found.changed) == (0, 0)
    assert found.shadow == {("t", "now"): [0, 1]}


def test_a_safeguarded_call_never_changes() -> None:
    """Whatever the new set does, what a safeguard passed is allowed before and after."""
    new = a_set(a_rule("all", "true", Action.BLOCK), default=Action.BLOCK)
    found = compare(packs(a_set()), packs(new), [Sample(Call(), safeguarded=True)] * 3)
    assert (found.safeguarded, found.changed) == (3, 0)
    assert found.total.after == {Action.ALLOW: 3}


def test_each_call_gets_the_pack_that_its_table_selects() -> None:
    """A row added to the table changes calls although no rule did."""
    strict = RuleSet("strict", "1", Action.BLOCK, ())
    lenient = RuleSet("lenient", "1", Action.ALLOW, ())
    call = Call()
    call.trunk = "north"
    found = compare(
        packs(strict, lenient),
        packs(strict, lenient, rows=(Row("strict", trunk="north"),)),
        [Sample(call), Sample(Call())],
    )
    assert found.changes == {(Action.ALLOW, Action.BLOCK): 1}
    assert found.packs["lenient"].before.total() == 2
    assert found.packs["strict"].after.total() == 1


def test_a_rename_is_no_change_and_another_cause_is_counted() -> None:
    """Only another action is a changed verdict; a cause may change the SIP answer."""
    old = a_rule("old", "true", Action.BLOCK)
    new = replace(a_rule("new", "true", Action.BLOCK), cause=Cause.SPOOFED)
    found = compare(packs(a_set(old)), packs(a_set(new)), [Sample(Call())])
    assert (found.changed, found.causes_changed) == (0, 1)


def test_examples_are_few_and_hold_no_number() -> None:
    """Of each kind of change a couple, with both traces, and no digits of a party in any fact."""
    rules = [
        a_rule(
            f"r{index}",
            f'calling.number.endsWith("{index:02}") && call.display_name != "" '
            '&& presentation.number != "" && call.at > timestamp("2026-01-01T00:00:00Z")',
            Action.BLOCK,
        )
        for index in range(20)
    ]
    samples = []
    for index in range(20):
        for _ in range(5):
            call = Call()
            call.calling = parse_number(f"+4416329600{index:02}")
            call.called = parse_number("+447700900123")
            call.presentation = parse_number("+12125550142")
            call.display_name = "Ring 07700 900-999 now"
            call.at = 1_795_435_200.0
            samples.append(Sample(call))
    found = compare(packs(a_set()), packs(a_set(*rules)), samples)
    assert found.changed == 100
    assert len(found.examples) == MOST_EXAMPLES
    assert Counter(each.after.rule for each in found.examples) == {f"r{n}": 2 for n in range(5)}
    shown = repr(found.examples)
    for digits in ("1632960", "7700900", "2125550", "07700", "900-999"):
        assert digits not in shown
    facts = found.examples[0].after.trace[0]["facts"]
    assert facts["calling.number"] == "+44********00"
    assert facts["call.display_name"] == "Ring … now"
    assert facts["call.at"].startswith("1795435200")
