"""How far the cases of a pack prove its rules: each should be seen to match, and not to."""

from collections import Counter
from dataclasses import dataclass

from rules.cases import complete
from rules.explanation import explain
from rules.pack import Pack
from rules.rule import Mode, Rule
from rules.safeguard import safeguard


@dataclass(frozen=True, slots=True)
class Coverage:
    """One rule: in how many cases it matched, and in how many it was tried and did not."""

    rule: Rule
    matched: int
    passed: int

    @property
    def both_ways(self) -> bool:
        """Whether cases show it matching and not matching; a rule that is off has none to show."""
        return self.rule.mode is Mode.OFF or bool(self.matched and self.passed)


def coverage(pack: Pack) -> tuple[Coverage, ...]:
    """The coverage of each rule of a pack, in their order.

    A case that a safeguard answers tries no rule; a condition that is unknown or fails for a
    case shows neither.
    """
    ruleset = complete(pack.ruleset)
    seen: Counter[tuple[str, str]] = Counter()
    for case in pack.cases:
        if safeguard(case.call) is None:
            for entry in explain(ruleset, case.call, case.facts).trace:
                seen[entry["rule"], entry["outcome"]] += 1
    return tuple(
        Coverage(rule, seen[rule.id, "true"], seen[rule.id, "false"]) for rule in pack.ruleset.rules
    )
