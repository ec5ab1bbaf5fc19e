"""Rule sets: what they hold, and the verdict that they give.

Invariants, held by property tests:
- an outage never makes a verdict harsher: for a set without `despite_unknown` and any subset of
  facts made unknown, the action is at most as harsh as with all facts known;
- an error in a condition is that rule not matching, under the same law, and named in the verdict;
- a shadow rule never changes an action;
- what is decided without facts is what would have been decided with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from consent.facts import UNKNOWN, Facts
from rules.call import Call
from rules.rule import (
    DECLINE,
    Mode,
    ReadPlan,
    Rule,
    SipAnswer,
)
from rules.schema import CALLED_NAMES, FACTS_KNOWN, REFUSES, SAME_FACT
from rules.verdict import Action, Cause, Verdict
from rules.walk import CompiledRules, compile_walk
from rules.walker import Walker

__all__ = [
    "Mode",
    "ReadPlan",
    "Rule",
    "RuleSet",
    "SipAnswer",
    "evaluate",
]

MOST_WALKS: Final = 128
"""The table of facts allows fewer; this bounds what foreign names of facts could add."""


NOT_COMPILED: Final = CompiledRules(())

USUALLY_UNKNOWN: Final = (UNKNOWN.unknown, frozenset({REFUSES}))
"""What a reader of the index lacks in an outage, and while a list is being switched: the walks
for these are there before a call needs them."""


@dataclass(frozen=True, slots=True, eq=False)
class RuleSet:
    """A pack, compiled. Immutable but for the walks that it compiles when they are first asked.

    `sip` is keyed by cause; `default` there answers for causes that it does not name.
    """

    name: str
    revision: str
    default: Action
    rules: tuple[Rule, ...]
    redress: str = ""
    sip: Mapping[Cause, SipAnswer] = field(default_factory=dict)
    compiled: CompiledRules = field(default=NOT_COMPILED, repr=False)
    """Made here unless it is given."""
    plan: ReadPlan = field(init=False)
    called_uses: frozenset[str] = field(init=False)
    """The names of the called side that active rules use."""
    before_facts: Walker = field(init=False)
    with_facts: Walker = field(init=False)
    _walks: dict[frozenset[str], Walker] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        assign = object.__setattr__
        if self.compiled is NOT_COMPILED:
            assign(self, "compiled", CompiledRules(self.rules))
        assign(self, "plan", self.compiled.plan)
        assign(self, "called_uses", self.compiled.called_uses)
        assign(self, "before_facts", self._compiled(CALLED_NAMES, before_facts=True))
        assign(self, "with_facts", self._compiled(frozenset()))
        assign(self, "_walks", {})
        for unknown in USUALLY_UNKNOWN:
            self.walk_without(unknown)

    @property
    def label(self) -> str:
        """The set and its revision, as every verdict names them: "cn@2026-11-23.1"."""
        return f"{self.name}@{self.revision}"

    def walk_without(self, unknown: frozenset[str]) -> Walker:
        """The walk for facts of which some are unknown; at most one for each subset of the table.

        Names outside the table, or that no active rule uses, make no walk of their own.
        """
        found = self._walks.get(unknown)
        if found is None:
            relevant = self.undecided_by(unknown)
            found = self._walks.get(relevant)
            if found is None:
                found = self._walks[relevant] = self._compiled(relevant, degraded=True)
            if len(self._walks) < MOST_WALKS:
                self._walks[unknown] = found
        return found

    def _compiled(
        self, unknown: frozenset[str], *, before_facts: bool = False, degraded: bool = False
    ) -> Walker:
        return compile_walk(
            self.compiled,
            default=self.default,
            label=self.label,
            unknown=unknown,
            before_facts=before_facts,
            degraded=degraded,
        )

    def undecided_by(self, unknown: frozenset[str]) -> frozenset[str]:
        """The names in its conditions that have no value when these facts are unknown."""
        missing = {*unknown, FACTS_KNOWN} if unknown else unknown
        return frozenset(name for name in self.called_uses if SAME_FACT.get(name, name) in missing)

    def answer(self, cause: Cause) -> SipAnswer:
        """How a switch refuses a call that was blocked for `cause`."""
        return self.sip.get(cause) or self.sip.get(Cause.DEFAULT) or DECLINE

    def fallback(self, cause: Cause) -> Verdict:
        """The set's default where no rule could be asked."""
        return Verdict(self.default, cause, "default", self.label, degraded=True)


def evaluate(ruleset: RuleSet, call: Call, facts: Facts | None = None) -> Verdict | ReadPlan:
    """The verdict on a call, or where no facts were given and one is needed, what must be read.

    That is what the rules want which this call may match. With facts, unknown ones among them,
    there is always a verdict.
    """
    if facts is None:
        return ruleset.before_facts(call, UNKNOWN)
    if not facts.unknown:
        return ruleset.with_facts(call, facts)
    return ruleset.walk_without(facts.unknown)(call, facts)
