"""The trace of a verdict: every rule tried, what it came to, and the facts it looked at.

It tries every rule with the test that the walk has, and leaves none out; a property test holds
that both agree.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from consent.facts import Facts
from rules.call import Call
from rules.cel import RUNTIME, Checked
from rules.cel.syntax import Literal, Logic
from rules.cel.terms import Junction
from rules.rule import Mode, Rule
from rules.ruleset import RuleSet
from rules.schema import FACTS_KNOWN, FUNCTIONS, GLOBALS, STAGE_EVENT, VARIABLES
from rules.verdict import Shadow, Verdict
from rules.walk import test_of
from rules.walker import ERROR, FALSE, NOTHING_PASSED, TRUE, UNKNOWN, outcome, softened

_OUTCOMES: Final = {FALSE: "false", TRUE: "true", UNKNOWN: "unknown", ERROR: "error"}


def explain(ruleset: RuleSet, call: Call, facts: Facts) -> Verdict:
    """The verdict of `evaluate` with its trace, one entry for each rule tried.

    An entry says `rule`, `mode`, `outcome` ("true", "false", "unknown" or "error"), `why`,
    `stopped_by`, the part of the condition that kept it from matching as the rule has it written
    ("" where it matched), and `facts`, those of that part by name, where "?" stands for a value
    that is not known. Milliseconds, not microseconds: for those who ask why.
    """
    unknown = ruleset.undecided_by(facts.unknown)
    softness = NOTHING_PASSED
    hits: list[Shadow] = []
    errors: list[str] = []
    trace: list[dict[str, Any]] = []
    decided: Rule | None = None
    for rule in ruleset.rules:
        if rule.mode is Mode.OFF:
            continue
        came_to = _outcome(rule, call, facts, unknown)
        stopped_by, part = _stopped_by(rule, came_to, call, facts, unknown)
        trace.append(
            {
                "rule": rule.id,
                "mode": rule.mode.value,
                "outcome": came_to,
                "why": rule.why,
                "stopped_by": stopped_by,
                "facts": _values(part, call, facts, unknown),
            }
        )
        if came_to == "error":
            errors.append(rule.id)
        if rule.mode is Mode.SHADOW:
            if came_to == "true":
                hits.append(Shadow(rule.id, rule.action))
        elif came_to == "true":
            decided = rule
            break
        elif came_to != "false":
            softness = softened(rule, softness, ruleset.default)
    verdict = outcome(
        decided,
        softness=softness,
        default=ruleset.default,
        label=ruleset.label,
        degraded=bool(facts.unknown),
    )
    return replace(verdict, shadow=tuple(hits), trace=tuple(trace), errors=tuple(errors))


def _outcome(rule: Rule, call: Call, facts: Facts, unknown: frozenset[str]) -> str:
    return _OUTCOMES[test_of(rule, unknown)(call, facts)]


def _stopped_by(
    rule: Rule, came_to: str, call: Call, facts: Facts, unknown: frozenset[str]
) -> tuple[str, Checked]:
    """The first part of a conjunction that comes to what the rule came to: as written, and typed.

    A rule that matched was stopped by nothing; one that all parts let through, by its share.
    """
    whole = rule.syntax
    if came_to == "true":
        return "", whole
    for part in _parts(whole):
        alone = replace(rule, condition=part, percent=100)
        if _outcome(alone, call, facts, unknown) == came_to:
            expr = part.expr
            return rule.when[expr.offset : expr.offset + expr.length], part
    return f"percent = {rule.percent:g}", whole


def _parts(condition: Checked) -> Iterator[Checked]:
    """The operands of a conjunction, or the condition itself."""
    expr, term = condition.expr, condition.term
    if isinstance(expr, Logic) and expr.operator == "&&" and isinstance(term, Junction):
        for operand, typed in zip(expr.operands, term.operands, strict=True):
            yield Checked(operand, typed, condition.calls)
    else:
        yield condition


def _values(
    condition: Checked, call: Call, facts: Facts, unknown: frozenset[str]
) -> dict[str, str | int | float | bool]:
    """The facts that a condition names, as they are for this call."""
    values: dict[str, str | int | float | bool] = {}
    uses = condition.uses & VARIABLES.keys()
    if "entity.stage" in uses:
        # What the stage rests on, for who is asked to prove it.
        uses |= {STAGE_EVENT}
    for name in sorted(uses):
        missing = name in unknown and name != FACTS_KNOWN
        values[name] = "?" if missing else _plain(_access(VARIABLES[name].python), call, facts)
    for name in sorted(condition.uses & FUNCTIONS.keys()):
        for arguments in condition.arguments(name):
            literals = [repr(item.value) for item in arguments if isinstance(item, Literal)]
            own = len(literals) < len(arguments)  # the loader lets only call.category in here
            shown = f"{name}({'call.category' if own else ', '.join(literals)})"
            shown = shown.replace("'", '"')
            python = FUNCTIONS[name].python.format(*(["c.category"] if own else literals))
            values[shown] = "?" if name in unknown else _plain(_access(python), call, facts)
    return values


def _plain(
    access: Callable[[Call, Facts], Any], call: Call, facts: Facts
) -> str | int | float | bool:
    try:
        value = access(call, facts)
    except Exception:  # noqa: BLE001 - a fact without a value is shown as such
        return "?"
    return value if type(value) in (str, int, float, bool) else str(value)


@lru_cache(maxsize=512)
def _access(python: str) -> Callable[[Call, Facts], Any]:
    """The access to a fact, from the fact table's own text."""
    return eval(f"lambda c, f: {python}", {**RUNTIME, **GLOBALS})  # type: ignore[no-any-return]  # noqa: S307
