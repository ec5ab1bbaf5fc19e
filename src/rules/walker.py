"""The walk of a call down a rule set, for one set of unknown facts: `rules.walk` compiles it.

Which rules are tried is a mask, of bit n for the rule at place n. For facts of few values, which
most comparisons are of, the masks' common part is kept by the call's traits; where the called party
has set nothing, that with what this rules out.

The softness, 0 to 3, says what has been passed over on the way down: 3 nothing, else the action
that the call would have had at most if what could not be decided had been true. A later rule
that is harsher than that does not decide, unless it says `despite_unknown`: the set's default
does, or the softness where the default is harsher still. Hence no verdict is ever harsher than
the one that full knowledge gives: at every rule that may have matched, the softness falls to at
most what that match would have given, and nothing after it rises above the softness.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from consent.facts import Facts
from rules.call import Call
from rules.rule import Mode, ReadPlan, Rule, part_of
from rules.verdict import Action, Cause, Shadow, Verdict

NOTHING_PASSED: Final = 3

FALSE: Final = 0
TRUE: Final = 1
UNKNOWN: Final = 2
ERROR: Final = 3
"""What a rule's test comes to."""

Test = Callable[[Call, Facts], int]
Masks = Callable[[Call, Facts], int]
"""The rules that some facts of a call leave."""

_MOST_TRAITS: Final = 1_024
"""Of the calls met so far whose masks are kept."""

_MOST_LINKS: Final = 200_000
"""Rules in all chains that are kept: a few megabytes a walk."""

_MOST_VERDICTS: Final = 2_048
"""Of a walk that are kept: what rules in shadow mode say together may be anything."""


def softened(rule: Rule, softness: int, default: Action) -> int:
    """The softness after `rule` was passed over: at most what its match would have given."""
    if rule.action <= softness or rule.despite_unknown:
        return min(softness, rule.action)
    return min(softness, default)


def outcome(
    rule: Rule | None, *, softness: int, default: Action, label: str, degraded: bool
) -> Verdict:
    """The verdict when `rule` matches, or when none did, after what has been passed over."""
    if rule is not None and (rule.action <= softness or rule.despite_unknown):
        return Verdict(rule.action, rule.cause, rule.id, label, degraded, rule.label)
    action = Action(min(default, softness))
    kept = rule is not None or action < default
    passed = degraded and softness != NOTHING_PASSED
    cause = Cause.DEGRADED if kept or passed else Cause.DEFAULT
    return Verdict(action, cause, "default", label, degraded or kept)


class Step:
    """One rule of a walk; `stops` says that without the called side it cannot be decided, where
    the walk is one that then stops."""

    __slots__ = ("rule", "shadow", "stops", "test")

    def __init__(self, rule: Rule, test: Test, *, stops: bool) -> None:
        self.rule: Final = rule
        self.test: Final = test
        self.stops: Final = stops
        self.shadow: Final = (Shadow(rule.id, rule.action),) if rule.mode is Mode.SHADOW else None


class Chain:
    """The steps that a mask leaves; `plan` is what of the index they want, None until it is
    asked for."""

    __slots__ = ("plan", "steps")

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.steps: Final = steps
        self.plan: ReadPlan | None = None


class Walker:
    """A walk, called with a call and its facts: the verdict, or where a step stops what of `plan`,
    the whole set's, must be read for this call.

    `by_traits` is the mask that a call's traits leave, `by_plain` the same where `Facts.plain`
    holds, `by_others` what is left by the facts that neither settles; None for what no rule
    compares. `degraded` marks the verdicts, because facts were missing.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        plan: ReadPlan,
        default: Action,
        label: str,
        degraded: bool,
        by_traits: Masks,
        by_plain: Masks | None,
        by_others: Masks | None,
    ) -> None:
        self._steps = steps
        self._plan = plan
        self._default = default
        self._label = label
        self._degraded = degraded
        self._by_traits = by_traits
        self._by_plain = by_plain
        self._by_others = by_others
        self._of_traits: dict[object, int] = {}
        self._of_plain: dict[object, int] = {}
        self._chains: dict[int, Chain] = {}
        self._links = 0
        self._verdicts: dict[object, Verdict] = {}
        self._no_match = self._verdict(None, NOTHING_PASSED, (), ())

    def __call__(self, call: Call, facts: Facts) -> Verdict | ReadPlan:
        softness = NOTHING_PASSED
        hits: tuple[Shadow, ...] = ()
        errors: tuple[str, ...] = ()
        chain = self._chain(call, facts)
        for step in chain.steps:
            came = step.test(call, facts)
            if came == FALSE:
                continue
            shadow = step.shadow
            if came == TRUE:
                if shadow is None:
                    return self._verdict(step.rule, softness, hits, errors)
                hits += shadow
                continue
            if came == ERROR:
                errors += (step.rule.id,)
            if step.stops:
                return chain.plan or self._wanted_by(chain)
            if shadow is None:
                softness = softened(step.rule, softness, self._default)
        if softness == NOTHING_PASSED and not hits and not errors:
            return self._no_match
        return self._verdict(None, softness, hits, errors)

    def _chain(self, call: Call, facts: Facts) -> Chain:
        """The steps to try."""
        traits = call.traits()
        masks, known = self._by_traits, self._of_traits
        if self._by_plain is not None and facts.plain():
            masks, known = self._by_plain, self._of_plain
        mask = known.get(traits)
        if mask is None:
            if len(known) >= _MOST_TRAITS:
                known.clear()
            mask = known[traits] = masks(call, facts)
        if self._by_others is not None:
            mask &= self._by_others(call, facts)
        chain = self._chains.get(mask)
        if chain is None:
            chain = self._chain_of(mask)
        return chain

    def _chain_of(self, mask: int) -> Chain:
        steps, rest = [], mask
        while rest:
            lowest = rest & -rest
            steps.append(self._steps[lowest.bit_length() - 1])
            rest ^= lowest
        self._links += len(steps) + 1
        if self._links > _MOST_LINKS:
            self._chains.clear()
            self._links = len(steps) + 1
        found = self._chains[mask] = Chain(tuple(steps))
        return found

    def _wanted_by(self, chain: Chain) -> ReadPlan:
        uses = frozenset[str]().union(*(step.rule.condition.uses for step in chain.steps))
        chain.plan = part_of(self._plan, uses)
        return chain.plan

    def _verdict(
        self,
        rule: Rule | None,
        softness: int,
        hits: tuple[Shadow, ...],
        errors: tuple[str, ...],
    ) -> Verdict:
        """The same object for the same outcome: its answer is then written once."""
        key = (rule.id if rule is not None else None, softness, hits, errors)
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = outcome(
                rule,
                softness=softness,
                default=self._default,
                label=self._label,
                degraded=self._degraded,
            )
            if hits or errors:
                verdict = replace(verdict, shadow=hits, errors=errors)
            if len(self._verdicts) < _MOST_VERDICTS:
                self._verdicts[key] = verdict
        return verdict
