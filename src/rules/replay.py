"""Two operators' packs over the same calls: what would change if one took the other's place.

Invariants: a fact that a sample did not read is unknown, never a guess; a call whose verdict
hangs on such a fact, under either side, is undecided and counts as no change; a call that a
safeguard passed never changes. What is changed is the action: a rule renamed changes nothing.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from consent.facts import CALLED_SIDE, SIGNALS, Facts
from consent.number import masked
from rules.call import Call
from rules.explanation import explain
from rules.loading import Packs
from rules.rule import Mode
from rules.ruleset import ReadPlan, RuleSet, evaluate
from rules.schema import CONSENT, ENTITY_CALLS, FACTS_KNOWN, REFUSES, SAME_FACT, WITHIN
from rules.verdict import Action, Verdict
from rules.walk import CompiledRules, compile_walk
from rules.walker import Walker

NUMBERS: Final = (
    *("calling", "called", "dialled", "presentation", "diverted_from", "original_called"),
)
"""The numbers of a call, by their names in `Call`."""

MOST_EXAMPLES: Final = 10
_MOST_ALIKE: Final = 2
"""Examples of the same change: the third teaches nothing."""

_LONG_DIGITS: Final = re.compile(r"\d(?:[ ().-]?\d){4,}")
_INSTANT: Final = "call.at"


@dataclass(frozen=True, slots=True)
class Sample:
    """A call that was decided, with what was known then.

    `read` is the plan that `facts` were read by, None where the call was decided without them.
    Of a call that a safeguard passed nothing else is kept.
    """

    call: Call
    facts: Facts = Facts()  # noqa: RUF009 - frozen
    read: ReadPlan | None = None
    safeguarded: bool = False


@dataclass(slots=True)
class Tally:
    """How many calls came to each action, under the current packs and under the new ones."""

    before: Counter[Action] = field(default_factory=Counter)
    after: Counter[Action] = field(default_factory=Counter)


def _tallies() -> "defaultdict[Any, Tally]":
    return defaultdict(Tally)


@dataclass(frozen=True, slots=True)
class Example:
    """One call that changes: its numbers masked, and both verdicts with their traces."""

    calling: str
    called: str
    category: str
    at: float
    before: Verdict
    after: Verdict


@dataclass(slots=True)
class Comparison:
    """What came of a replay.

    Tallies are of the calls that could be judged. Rules are named by (pack, rule), packs by
    name; `shadow` counts [before, after] what rules in shadow mode would have decided. `unread`
    says how many undecided calls lacked which fact, `errors` how often a condition of the new
    packs failed.
    """

    samples: int = 0
    safeguarded: int = 0
    undecided: int = 0
    total: Tally = field(default_factory=Tally)
    changes: Counter[tuple[Action, Action]] = field(default_factory=Counter)
    causes_changed: int = 0
    """Calls of the same action whose cause is another: the switch may answer otherwise."""
    rules: defaultdict[tuple[str, str], Tally] = field(default_factory=_tallies)
    categories: defaultdict[str, Tally] = field(default_factory=_tallies)
    packs: defaultdict[str, Tally] = field(default_factory=_tallies)
    shadow: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)

    @property
    def judged(self) -> int:
        """The samples of which both verdicts are certain."""
        return self.samples - self.undecided

    @property
    def changed(self) -> int:
        """The judged samples whose action would be another."""
        return self.changes.total()

    @property
    def changed_percent(self) -> float:
        """The share of judged samples whose action would be another; 0 where none was judged."""
        return 100 * self.changed / self.judged if self.judged else 0.0


def compare(
    current: Packs, new: Packs, samples: Iterable[Sample], *, most_examples: int = MOST_EXAMPLES
) -> Comparison:
    """What the calls come to under both, each call with the set that the packs select for it."""
    found = Comparison()
    sides: dict[RuleSet, _Side] = {}
    alike: Counter[tuple[object, ...]] = Counter()
    for sample in samples:
        found.samples += 1
        if sample.safeguarded:
            found.safeguarded += 1
            found.total.before[Action.ALLOW] += 1
            found.total.after[Action.ALLOW] += 1
            continue
        call = sample.call
        before_set, after_set = current.select(call), new.select(call)
        for each in (before_set, after_set):
            if each not in sides:
                sides[each] = _Side(each)
        before, lacking = sides[before_set].decide(sample)
        after, lacking_too = sides[after_set].decide(sample)
        if lacking or lacking_too:
            found.undecided += 1
            found.unread.update(lacking | lacking_too)
            continue
        _count(found, sample, (before_set, before), (after_set, after))
        if before.action is not after.action and len(found.examples) < most_examples:
            kind = (before.action, after.action, before.rule, after.rule)
            alike[kind] += 1
            if alike[kind] <= _MOST_ALIKE:
                found.examples.append(_example(sample, before_set, after_set))
    return found


def _count(
    found: Comparison,
    sample: Sample,
    current: tuple[RuleSet, Verdict],
    new: tuple[RuleSet, Verdict],
) -> None:
    (before_set, before), (after_set, after) = current, new
    category = sample.call.category
    for tally in (found.total, found.categories[category]):
        tally.before[before.action] += 1
        tally.after[after.action] += 1
    old_name, new_name = before_set.name, after_set.name
    found.packs[old_name].before[before.action] += 1
    found.packs[new_name].after[after.action] += 1
    found.rules[old_name, before.rule].before[before.action] += 1
    found.rules[new_name, after.rule].after[after.action] += 1
    for hit in before.shadow:
        found.shadow.setdefault((old_name, hit.rule), [0, 0])[0] += 1
    for hit in after.shadow:
        found.shadow.setdefault((new_name, hit.rule), [0, 0])[1] += 1
    for rule in after.errors:
        found.errors[new_name, rule] += 1
    if before.action is not after.action:
        found.changes[before.action, after.action] += 1
    elif before.cause is not after.cause:
        found.causes_changed += 1


class _Side:
    """One rule set on its way through the samples."""

    def __init__(self, ruleset: RuleSet) -> None:
        self.ruleset = ruleset
        self._probes: dict[frozenset[str], Walker] = {}

    def decide(self, sample: Sample) -> tuple[Verdict, frozenset[str]]:
        """The verdict, and the facts it hangs on that are not known; none where it is certain."""
        ruleset, call = self.ruleset, sample.call
        facts = _with_unread(sample, ruleset)
        verdict = evaluate(ruleset, call, facts)
        assert isinstance(verdict, Verdict), "with facts there is always a verdict"  # noqa: S101
        if facts.unknown:
            lacking = ruleset.undecided_by(facts.unknown)
            if lacking and isinstance(self._probe(lacking)(call, facts), ReadPlan):
                return verdict, frozenset(SAME_FACT.get(name, name) for name in lacking)
        return verdict, frozenset()

    def _probe(self, lacking: frozenset[str]) -> Walker:
        """The walk that stops at the first rule which cannot be decided without these facts.

        Without the shadow rules, for they never change an action.
        """
        found = self._probes.get(lacking)
        if found is None:
            ruleset = self.ruleset
            found = self._probes[lacking] = compile_walk(
                CompiledRules([rule for rule in ruleset.rules if rule.mode is Mode.ENFORCE]),
                default=ruleset.default,
                label=ruleset.label,
                unknown=lacking,
                before_facts=True,
            )
        return found


def _with_unread(sample: Sample, ruleset: RuleSet) -> Facts:
    """The facts of a sample, those unknown which it did not read and the set asks for."""
    facts, uses = sample.facts, ruleset.called_uses
    if not uses:
        return facts
    missing = _unread(sample.read, ruleset.plan, sample.call.category)
    if sample.read is not None or FACTS_KNOWN not in uses:
        missing &= {SAME_FACT.get(name, name) for name in uses}
    if missing <= facts.unknown:
        return facts
    return replace(facts, unknown=facts.unknown | missing)


@lru_cache(maxsize=4096)
def _unread(read: ReadPlan | None, wanted: ReadPlan, category: str) -> frozenset[str]:
    """The facts of the called side that a read by one plan did not bring for another."""
    if read is None:
        return CALLED_SIDE
    covered: set[str] = set()
    if read.profile:
        covered |= {WITHIN, "called.zone"}
        if read.personal:
            covered.add("called.personal")
        if _categories(wanted, category) <= _categories(read, category):
            covered.add(REFUSES)
    if read.consent:
        covered |= {CONSENT, "consent.id"}
    if read.signals:
        covered.add(SIGNALS)
    if read.frequency:
        covered.add(ENTITY_CALLS)
    # What is added to the table later is unknown here until this function knows of it.
    return CALLED_SIDE - covered


def _categories(plan: ReadPlan, category: str) -> frozenset[str]:
    return plan.categories | {category} if plan.own_category and category else plan.categories


def _example(sample: Sample, before_set: RuleSet, after_set: RuleSet) -> Example:
    call = sample.call
    before, after = (
        _masked(explain(each, call, _with_unread(sample, each)), call)
        for each in (before_set, after_set)
    )
    return Example(masked(call.calling), masked(call.called), call.category, call.at, before, after)


def _masked(verdict: Verdict, call: Call) -> Verdict:
    """The verdict with no number in its trace, in whichever fact it stood."""
    numbers = {f"{name}.number": masked(getattr(call, name)) for name in NUMBERS}

    def shown(name: str, value: object) -> object:
        if name in numbers:
            return numbers[name]
        # What a caller says of itself may hold its number.
        written = isinstance(value, str) and name != _INSTANT
        return _LONG_DIGITS.sub("…", str(value)) if written else value

    trace = tuple(
        {**entry, "facts": {name: shown(name, value) for name, value in entry["facts"].items()}}
        for entry in verdict.trace
    )
    return replace(verdict, trace=trace)
