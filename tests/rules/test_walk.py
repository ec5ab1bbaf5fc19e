"""Which rules a call tries, against trying them all."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rules.test_ruleset import a_rule, calls, conditions, known_facts, masks, unknowns

from consent.facts import UNKNOWN, Facts
from rules.call import Call
from rules.rule import Mode, ReadPlan, Rule
from rules.schema import CALLED_NAMES
from rules.verdict import Action
from rules.walk import CompiledRules, compile_walk

COMPARISONS = (
    "call.commercial",
    "!call.commercial",
    "!!call.commercial",
    'call.category == "loans"',
    'call.category != "loans"',
    '!(call.category == "")',
    'call.category in ["loans", "service", "{x}"]',
    '!(call.category in ["service"])',
    'call.route == "international"',
    "calling.dno",
    "call.redirect_count == 1",
    "call.redirect_count in [0, 2]",
    "entity.registered",
    'called.personal == "allow"',
    'consent.state in ["granted", "none"]',
)


@st.composite
def many_rules(draw: st.DrawFn) -> list[Rule]:
    """Rules of which most compare facts with constants, one beside the other."""
    rules = []
    for index in range(draw(st.integers(2, 14))):
        parts = draw(st.lists(st.sampled_from(COMPARISONS), min_size=1, max_size=3))
        if draw(st.booleans()):
            parts.insert(draw(st.integers(0, len(parts))), draw(conditions))
        rules.append(
            a_rule(
                f"r{index}",
                " && ".join(parts),
                draw(st.sampled_from(Action)),
                mode=draw(st.sampled_from((Mode.ENFORCE, Mode.ENFORCE, Mode.SHADOW, Mode.OFF))),
                percent=draw(st.sampled_from((100, 100, 50))),
                despite_unknown=draw(st.booleans()),
            )
        )
    return rules


plain_facts = st.builds(Facts, listed=masks)
"""Of called parties that have set nothing."""


@given(
    many_rules(),
    st.sampled_from(Action),
    st.lists(st.tuples(calls(), known_facts | plain_facts), min_size=1, max_size=4),
    unknowns,
)
@settings(max_examples=150, deadline=None)
def test_what_is_not_tried_would_have_changed_nothing(
    rules: list[Rule],
    default: Action,
    asked: list[tuple[Call, Facts]],
    unknown: frozenset[str],
) -> None:
    """Verdict, shadow hits and errors are those of trying every rule, whatever is not known and
    whichever calls came before."""
    compiled = CompiledRules(rules)
    for lacking, before_facts in (
        (frozenset[str](), False),
        (unknown, False),
        (CALLED_NAMES, True),
    ):
        some, every = (
            compile_walk(
                compiled,
                default=default,
                label="t@1",
                unknown=lacking,
                before_facts=before_facts,
                degraded=bool(lacking),
                dispatch=dispatch,
            )
            for dispatch in (True, False)
        )
        for call, facts in asked:
            known = UNKNOWN if before_facts else replace(facts, unknown=lacking)
            came, wanted = some(call, known), every(call, known)
            if isinstance(wanted, ReadPlan):
                # Of the same rules, those that are tried want no more.
                assert isinstance(came, ReadPlan)
                assert all(
                    getattr(came, name) <= getattr(wanted, name) for name in ReadPlan.__slots__
                )
            else:
                assert came == wanted


@pytest.mark.parametrize(("category", "tried"), [("loans", 2), ("insurance", 1), ("", 1)])
def test_rules_of_another_category_are_not_tried(category: str, tried: int) -> None:
    """Of a thousand rules, each for one category, only those of the call's are."""
    categories = [f"c{n}" for n in range(998)]
    rules = [
        a_rule(f"r{n}", f'call.category == "{name}" && 1 / call.redirect_count == 0', Action.BLOCK)
        for n, name in enumerate([*categories, "loans"])
    ]
    rules.append(a_rule("last", "1 / call.redirect_count == 0", Action.BLOCK))
    call = Call()
    call.category = category
    walk = compile_walk(
        CompiledRules(rules), default=Action.ALLOW, label="t@1", unknown=frozenset()
    )
    # Each rule that is tried fails, and says so.
    verdict = walk(call, Facts())
    assert len(verdict.errors) == tried  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("attestation", "vouched", "tried"), [("A", False, 1), ("C", True, 1), ("C", False, 2)]
)
def test_what_several_facts_of_few_values_say_together_is_looked_up(
    attestation: str, vouched: bool, tried: int
) -> None:
    """As a macro does that a pack's rules share."""
    vouched_for = 'call.attestation == "A" || call.vouched'
    rules = [
        a_rule("unvouched", f"!({vouched_for}) && 1 / call.redirect_count == 0", Action.BLOCK),
        a_rule("last", "1 / call.redirect_count == 0", Action.BLOCK),
    ]
    call = Call()
    call.attestation, call.vouched = attestation, vouched
    walk = compile_walk(
        CompiledRules(rules), default=Action.ALLOW, label="t@1", unknown=frozenset()
    )
    assert len(walk(call, Facts()).errors) == tried  # type: ignore[union-attr]
