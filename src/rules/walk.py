"""What a rule set comes to when it is compiled: a test for each rule, and which rules to try.

A rule is compiled to one Python function, its test. A call tries only the rules that its facts
do not rule out: of each fact that rules compare with constants (`calling.country == "FR"`,
`call.commercial`), a table gives for every value the mask of the rules that it leaves, and what
all masks have in common is tried, in the order of the set (see `rules.walker`). What is not tried
would have been false: `&&` with one false operand is, whatever fails or is unknown in the others.
"""

import ast
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, Final, Self, cast

from rules.cel import BOOL, RUNTIME, Emitted, emit, text_of
from rules.cel.terms import Code, Constant, Junction, Not, Term
from rules.hours import NotKnown
from rules.rule import Mode, ReadPlan, Rule, read_plan
from rules.schema import CALLED_NAMES, FACTS_KNOWN, GLOBALS, PLAIN, TRAITS, VARIABLES
from rules.verdict import Action
from rules.walker import ERROR, FALSE, TRUE, UNKNOWN, Masks, Step, Test, Walker


def nothing() -> None:
    """Between two rules where nobody waits."""


_MOST_KEYS: Final = 8
_LEAST_SHARE: Final = 0.04
"""Of the rules that a fact of many values must be compared in to be looked up for every call."""

_MOST_MADE: Final = 32
"""Facts made of several, which a set looks up."""

_RULES_AT_ONCE: Final = 256


def share(decision_id: str, rule: str) -> float:
    """Where in 0 to 100 a call falls for a rule: the same for every attempt of the call.

    Each rule draws anew, so that not the same calls are first in every roll-out.
    """
    drawn = hashlib.blake2b(decision_id.encode(), key=rule.encode()[:64], digest_size=4).digest()
    return int.from_bytes(drawn) * 100 / 2**32


# The test of one rule


class CompiledRules:
    """The rules of a set that are not off, each compiled once for the unknown facts it names.

    `made` are the tests by the rule's place, the unknown facts that it names, and whether these
    are unknown because the index was not asked yet. `keys`, `plan` and `called_uses` are as
    `RuleSet` has them.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rule for rule in rules if rule.mode is not Mode.OFF)
        self.keys: Sequence[Key] = _keys(self.rules)
        self.plan = read_plan(self.rules)
        uses = frozenset[str]().union(*(rule.condition.uses for rule in self.rules))
        self.called_uses = uses & CALLED_NAMES
        self.made: dict[tuple[int, frozenset[str], bool], Test] = {}
        self.steps: list[list[Step]] = []
        """What each walk goes through, for who frees the set by and by."""
        self.between: Callable[[], object] = nothing
        """Called after every few rules of a loop, for who must not be busy for long."""

    @classmethod
    def ready(
        cls,
        rules: Sequence[Rule],
        *,
        keys: Sequence["Key"],
        plan: ReadPlan,
        called_uses: frozenset[str],
        made: dict[tuple[int, frozenset[str], bool], Test],
        between: Callable[[], object],
    ) -> Self:
        """The same, where somebody else has done the work; `rules` are those that are not off."""
        self = object.__new__(cls)
        self.rules = tuple(rules)
        self.keys, self.plan, self.called_uses, self.made = keys, plan, called_uses, made
        self.between, self.steps = between, []
        return self

    def each(self) -> Iterator[tuple[int, Rule]]:
        """The rules with their places."""
        for index, rule in enumerate(self.rules, 1):
            yield index - 1, rule
            if index % _RULES_AT_ONCE == 0:
                self.between()

    def tests(self, unknown: frozenset[str], *, before_facts: bool = False) -> list[Test]:
        """A test for each rule, in their order; those that are new are compiled together."""
        made = self.made
        found: list[Any] = []
        wanted = []
        # All that is done for each rule is done within `each`, which rests in between.
        for index, rule in self.each():
            names = unknown & rule.condition.uses
            key = (index, names, before_facts and FACTS_KNOWN in names)
            test = made.get(key)
            if test is None:
                wanted.append(key)
            found.append(test)
        texts = [
            _test_text(f"test_{n}", self.rules[index], names, before_facts=before)
            for n, (index, names, before) in enumerate(wanted)
        ]
        if texts:
            for key, test in zip(wanted, _compiled(texts), strict=True):
                made[key] = found[key[0]] = test
        return found


def test_of(rule: Rule, unknown: frozenset[str]) -> Test:
    """The test of one rule by itself, once the index was asked."""
    return _compiled([_test_text("test_0", rule, unknown & rule.condition.uses)])[0]


def _test_text(
    name: str, rule: Rule, unknown: frozenset[str], *, before_facts: bool = False
) -> str:
    emitted = _conditions(rule, unknown, before_facts=before_facts)
    must = _within_share(rule, emitted.must)
    value = f"{TRUE} if {must} else {FALSE}"
    if unknown:
        may = _within_share(rule, emitted.may)
        value = f"{TRUE} if {must} else {UNKNOWN} if {may} else {FALSE}"
    if not rule.condition.can_fail:
        return f"def {name}(c, f): return {value}\n"
    return (
        f"def {name}(c, f):\n"
        f" try: return {value}\n"
        f" except NotKnown: return {UNKNOWN}\n"
        f" except Exception: return {ERROR}\n"
    )


def _conditions(rule: Rule, unknown: frozenset[str], *, before_facts: bool) -> Emitted:
    """What must, and what may, be true for the rule to match when `unknown` is not known.

    After the index was asked, whether everything is known is itself known; but what would be if
    it were decides whether the rule was passed over.
    """
    emitted = emit(rule.syntax, unknown=unknown)
    if before_facts or FACTS_KNOWN not in unknown:
        return emitted
    told = emit(rule.syntax, unknown=unknown - {FACTS_KNOWN})
    return Emitted(told.must, emitted.may)


def _within_share(rule: Rule, condition: str) -> str:
    if rule.percent >= 100:
        return condition
    drawn = f"share(c.decision_id, {rule.id!r}) < {rule.percent!r}"
    # Drawing costs more than most conditions; but one that fails must not fail outside its share.
    first, second = (drawn, condition) if rule.condition.can_fail else (condition, drawn)
    return f"({first} and {second})"


def _compiled(texts: Sequence[str]) -> list[Test]:
    names = dict(_GLOBALS)
    # The text is our own compiler's: names and literals of a rule enter it only through repr.
    exec(compile("".join(texts), "<rules>", "exec"), names)  # noqa: S102
    return [test_from_code(names[f"test_{n}"].__code__) for n in range(len(texts))]


def test_from_code(code: CodeType) -> Test:
    """The test whose code it is. Apart from it nothing refers to it, so that a set that is
    replaced goes at once, without a search for cycles."""
    return cast("Test", FunctionType(code, _GLOBALS))


_GLOBALS: Final[dict[str, Any]] = {**RUNTIME, **GLOBALS, "NotKnown": NotKnown, "share": share}

# Which rules to try


@dataclass(frozen=True, slots=True)
class Key:
    """A fact that rules compare with constants: of each value the mask of the rules it leaves.

    `other` is that of every value which no rule names; `rules` is how many compare it.
    """

    name: str
    access: str
    rules: int
    masks: dict[Any, int]
    other: int


_Comparison = tuple[bool, frozenset[Any]]
"""Whether the value must be one of these, or with False none of them."""

_Need = tuple[str, str, bool, frozenset[Any]]
"""A fact, its Python text, and what that is compared with."""


def _keys(rules: Sequence[Rule]) -> list[Key]:
    """The facts to be looked up, those that most rules compare first: any of few values, others
    where enough rules compare them. What is made of several of few values is one more fact."""
    least = max(2.0, len(rules) * _LEAST_SHARE)
    facts = _found(_comparisons, rules)
    keys = [
        _key(name, access, of_rules, len(rules))
        for (name, access), of_rules in facts.items()
        if name in _SETTLED or len(of_rules) >= least
    ]
    made = _found(_settled, rules)
    keys += sorted(
        (_key(name, access, of_rules, len(rules)) for (name, access), of_rules in made.items()),
        key=lambda key: -key.rules,
    )[:_MOST_MADE]
    return sorted(keys, key=lambda key: -key.rules)


def _found(
    needs: Callable[[Term, bool], Iterator[_Need]], rules: Sequence[Rule]
) -> dict[tuple[str, str], dict[int, list[_Comparison]]]:
    """What rules need of facts, by the fact and its Python text, then by the rule's place."""
    found: dict[tuple[str, str], dict[int, list[_Comparison]]] = {}
    for index, rule in enumerate(rules):
        for term, holds in _operands(rule.syntax.term):
            for name, access, wanted, values in needs(term, holds):
                of_rules = found.setdefault((name, access), {})
                of_rules.setdefault(index, []).append((wanted, values))
    return found


def _operands(term: Term) -> Iterator[tuple[Term, bool]]:
    """What a condition joins with `&&`, and whether it needs it to be true or false."""
    if isinstance(term, Junction) and term.operator == "&&":
        for operand in term.operands:
            yield from _operands(operand)
        return
    wanted = True
    while isinstance(term, Not):
        term, wanted = term.operand, not wanted
    yield term, wanted


def _key(name: str, access: str, of_rules: dict[int, list[_Comparison]], count: int) -> Key:
    changes: dict[Any, list[tuple[int, bool]]] = {}
    other = (1 << count) - 1
    for index, comparisons in of_rules.items():
        if any(wanted for wanted, _ in comparisons):
            other ^= 1 << index
        for value in frozenset().union(*(values for _, values in comparisons)):
            holds = all((value in values) is wanted for wanted, values in comparisons)
            changes.setdefault(value, []).append((index, holds))
    masks = {}
    for value, changed in changes.items():
        bits = sum(1 << index for index, _ in changed)
        masks[value] = other & ~bits | sum(1 << index for index, holds in changed if holds)
    return Key(name, access, len(of_rules), masks, other)


def _comparisons(term: Term, wanted: bool) -> Iterator[_Need]:
    """What a single fact must be, where the term compares one with constants.

    How a text begins is a fact of its own for each length of what it is compared with.
    """
    if not isinstance(term, Code) or term.can_fail or len(term.uses) != 1:
        return
    (name,) = term.uses
    if name not in VARIABLES:
        return
    access = VARIABLES[name].operand
    if term.template == _BEGINS and _is(term.operands[0], access):
        beginning = term.operands[1]
        if isinstance(beginning, Constant) and isinstance(beginning.value, str):
            length = len(beginning.value)
            yield name, f"{access}[:{length}]", wanted, frozenset({beginning.value})
        return
    values = _compared_with(term, access)
    if values is not None:
        if VARIABLES[name].type == BOOL:
            access = f"bool({access})"
        yield name, access, wanted is values[0], values[1]


def _settled(term: Term, wanted: bool) -> Iterator[_Need]:
    """What several facts must say together, where the call's traits settle them all."""
    if isinstance(term, Junction) and not term.can_fail and term.uses and term.uses <= TRAITS:
        yield min(term.uses), f"bool({text_of(term)})", wanted, frozenset({True})


def _compared_with(term: Code, access: str) -> tuple[bool, frozenset[Any]] | None:
    """The values that a fact's comparison is true for, or with False those it is false for."""
    if term.template == access and not term.operands:
        return True, frozenset({True})
    if not term.operands or not _is(term.operands[0], access):
        return None
    others = term.operands[1:]
    if term.template in (_EQUAL, _UNEQUAL):
        (constant,) = others
        if isinstance(constant, Constant) and type(constant.value) in (str, int, bool):
            return term.template == _EQUAL, frozenset({constant.value})
    elif not others and term.template.startswith(_AMONG):
        members = _members(term.template)
        return None if members is None else (True, members)
    return None


@lru_cache(maxsize=1024)
def _members(template: str) -> frozenset[Any] | None:
    """The constants of an `in [...]`; None where some are of no type of Python's own."""
    members = template.removeprefix(_AMONG).removesuffix("}})").format()
    try:
        return frozenset(ast.literal_eval(f"[{members}]"))
    except ValueError:
        return None


def _is(term: Term, access: str) -> bool:
    return isinstance(term, Code) and term.template == access and not term.operands


_SETTLED: Final = TRAITS | PLAIN

_BEGINS: Final = "{0}.startswith({1})"
_EQUAL: Final = "({0} == {1})"
_UNEQUAL: Final = "({0} != {1})"
_AMONG: Final = "({0} in {{"

# The walk


def compile_walk(
    compiled: CompiledRules,
    *,
    default: Action,
    label: str,
    unknown: frozenset[str],
    before_facts: bool = False,
    degraded: bool = False,
    dispatch: bool = True,
) -> Walker:
    """The walk for one set of unknown facts.

    `before_facts` stops at the first rule that cannot be decided, where else it is passed over.
    `degraded` marks the verdicts, because facts were missing. Without `dispatch` every rule is
    tried, with the same verdict, and all of them want their facts read.
    """
    compiled.between()
    tests = compiled.tests(unknown, before_facts=before_facts)
    steps = [
        Step(
            rule,
            tests[index],
            stops=before_facts and not unknown.isdisjoint(rule.condition.uses),
        )
        for index, rule in compiled.each()
    ]
    compiled.steps.append(steps)
    keys = [key for key in compiled.keys if dispatch and key.name not in unknown]
    of_traits = [key for key in keys if key.name in TRAITS]
    of_plain = [key for key in keys if key.name in PLAIN]
    others = [key for key in keys if key.name not in _SETTLED]
    every = (1 << len(compiled.rules)) - 1
    return Walker(
        steps,
        plan=compiled.plan,
        default=default,
        label=label,
        degraded=degraded,
        by_traits=_masks(of_traits, every),
        by_plain=_masks(of_traits + of_plain, every) if of_plain else None,
        by_others=_masks(others[:_MOST_KEYS], every) if others else None,
    )


def _masks(keys: Sequence[Key], every: int) -> Masks:
    """The function to what the masks of these have in common."""
    names: dict[str, Any] = {**_GLOBALS, "every": every}
    for n, key in enumerate(keys):
        names[f"key_{n}"], names[f"other_{n}"] = key.masks, key.other
    looked_up = [f"key_{n}.get({key.access}, other_{n})" for n, key in enumerate(keys)]
    text = f"def masks(c, f): return {' & '.join(looked_up) or 'every'}"
    exec(compile(text, "<rules>", "exec"), names)  # noqa: S102
    return cast("Masks", names.pop("masks"))
