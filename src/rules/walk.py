"""The walk down a rule set, compiled to one Python function for each set of unknown facts.

The softness, 0 to 3, says what has been passed over on the way down: 3 nothing, else the action
that the call would have had at most if what could not be decided had been true. A later rule
that is harsher than that does not decide, unless it says `despite_unknown`: the set's default
does, or the softness where the default is harsher still. Hence no verdict is ever harsher than
the one that full knowledge gives: at every rule that may have matched, the softness falls to at
most what that match would have given, and nothing after it rises above the softness.
"""

import ast
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from rules.cel import RUNTIME, Emitted, emit
from rules.hours import NotKnown
from rules.rule import NEED_FACTS, Mode, Rule, Walk
from rules.schema import FACTS_KNOWN, GLOBALS
from rules.verdict import Action, Cause, Shadow, Verdict

NOTHING_PASSED: Final = 3


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


def share(decision_id: str, rule: str) -> float:
    """Where in 0 to 100 a call falls for a rule: the same for every attempt of the call.

    Each rule draws anew, so that not the same calls are first in every roll-out.
    """
    drawn = hashlib.blake2b(decision_id.encode(), key=rule.encode()[:64], digest_size=4).digest()
    return int.from_bytes(drawn) * 100 / 2**32


def conditions(rule: Rule, unknown: frozenset[str], *, before_facts: bool = False) -> Emitted:
    """What must, and what may, be true for the rule to match when `unknown` is not known.

    After the index was asked, whether everything is known is itself known; but what would be if
    it were decides whether the rule was passed over.
    """
    emitted = emit(rule.condition, unknown=unknown)
    if before_facts or FACTS_KNOWN not in unknown & rule.condition.uses:
        return emitted
    told = emit(rule.condition, unknown=unknown - {FACTS_KNOWN})
    return Emitted(told.must_source, emitted.may_source)


def compile_walk(
    rules: Sequence[Rule],
    *,
    default: Action,
    label: str,
    unknown: frozenset[str],
    before_facts: bool = False,
    degraded: bool = False,
) -> Walk:
    """The function from call and facts to the verdict, for one set of unknown facts.

    `before_facts` stops with NEED_FACTS at the first rule that cannot be decided, where else it
    is passed over. `degraded` marks the verdicts, because facts were missing.
    """
    names: dict[str, Any] = {
        **RUNTIME,
        **GLOBALS,
        "NEED_FACTS": NEED_FACTS,
        "NotKnown": NotKnown,
        "share": share,
        "noted": _noted,
    }
    body = _Body(unknown=unknown, before_facts=before_facts)
    active = [rule for rule in rules if rule.mode is not Mode.OFF]
    for index, rule in enumerate([*active, None]):
        names[f"outcomes_{index}"] = outcomes = tuple(
            outcome(rule, softness=softness, default=default, label=label, degraded=degraded)
            for softness in range(NOTHING_PASSED + 1)
        )
        names[f"verdict_{index}"] = outcomes[NOTHING_PASSED]
        if rule is None:
            body.decide(index, into=body.statements)
            break
        names[f"shadow_{index}"] = (Shadow(rule.id, rule.action),)
        names[f"error_{index}"] = (rule.id,)
        names[f"softened_{index}"] = tuple(
            softened(rule, softness, default) for softness in range(NOTHING_PASSED + 1)
        )
        body.add(index, rule)
    module = ast.parse("def walk(c, f): pass")
    function = cast("ast.FunctionDef", module.body[0])
    function.body = body.statements
    code = compile(ast.fix_missing_locations(module), f"<rule set {label}>", "exec")
    exec(code, names)  # noqa: S102 - the code is our own compiler's
    return cast("Walk", names["walk"])


def lambdas(rule: Rule, unknown: frozenset[str]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The two conditions of a rule as functions of call and facts."""
    emitted = conditions(rule, unknown)
    functions = []
    for condition in (emitted.must, emitted.may):
        expression = ast.parse("lambda c, f: 0", mode="eval")
        cast("ast.Lambda", expression.body).body = _within_share(rule, condition)
        code = compile(ast.fix_missing_locations(expression), f"<rule {rule.id}>", "eval")
        functions.append(eval(code, {**RUNTIME, **GLOBALS, "share": share}))  # noqa: S307
    return functions[0], functions[1]


def _noted(verdict: Verdict, hits: tuple[Shadow, ...], errors: tuple[str, ...]) -> Verdict:
    """The verdict with the shadow rules that matched and the rules that failed."""
    return replace(verdict, shadow=hits, errors=errors) if hits or errors else verdict


def _within_share(rule: Rule, condition: ast.expr) -> ast.expr:
    if rule.percent >= 100:
        return condition
    drawn = ast.parse(f"share(c.decision_id, {rule.id!r}) < {rule.percent!r}", mode="eval").body
    # Drawing costs more than most conditions; but one that fails must not fail outside its share.
    parts = [drawn, condition] if rule.condition.can_fail else [condition, drawn]
    return ast.BoolOp(ast.And(), parts)


class _Body:
    """The statements of a walk, and which of its variables are in use so far."""

    def __init__(self, *, unknown: frozenset[str], before_facts: bool) -> None:
        self.unknown = unknown
        self.before_facts = before_facts
        self.softness = self.notes = False
        self.statements: list[ast.stmt] = ast.parse(
            f"softness = {NOTHING_PASSED}\nhits = errors = ()"
        ).body

    def decide(self, index: int, *, into: list[ast.stmt]) -> None:
        """The return of the rule's verdict."""
        verdict = f"outcomes_{index}[softness]" if self.softness else f"verdict_{index}"
        if self.notes:
            verdict = f"noted({verdict}, hits, errors)"
        into += ast.parse(f"return {verdict}", mode="exec").body

    def add(self, index: int, rule: Rule) -> None:
        """One rule: decide, go on, or pass over."""
        undecidable = bool(rule.condition.uses & self.unknown)
        fails = rule.condition.can_fail
        shadow = rule.mode is Mode.SHADOW
        emitted = conditions(rule, self.unknown, before_facts=self.before_facts)
        passed_over = ast.parse("pass" if shadow else f"softness = softened_{index}[softness]").body
        stopped = passed_over
        if undecidable and self.before_facts:
            stopped = ast.parse("return NEED_FACTS").body
        self.notes = self.notes or shadow
        test = ast.If(_within_share(rule, emitted.must), [], [])
        if shadow:
            test.body = ast.parse(f"hits += shadow_{index}").body
        else:
            self.decide(index, into=test.body)
        if undecidable:
            test.orelse = [ast.If(_within_share(rule, emitted.may), stopped, [])]
        if fails:
            attempt = cast(
                "ast.Try",
                ast.parse(
                    f"try: pass\nexcept NotKnown: pass\nexcept Exception:\n errors += error_{index}"
                ).body[0],
            )
            attempt.body = [test]
            attempt.handlers[0].body = stopped
            attempt.handlers[1].body += stopped
            self.statements.append(attempt)
            self.notes = True
        else:
            self.statements.append(test)
        if not shadow and (fails or (undecidable and not self.before_facts)):
            self.softness = True
