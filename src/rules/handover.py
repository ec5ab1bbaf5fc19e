"""Packs handed over from the process that loaded them to one that answers calls.

The code objects of the tests, with what else a walk needs, go in frames of what `marshal` takes:
each is taken in within a fraction of a millisecond, so that calls are answered between two.

The syntax of conditions is not handed over: the few who ask for it (an explanation, facts that
are unknown in an unusual combination) have it read again, rule by rule.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from rules import bundle
from rules.cel import check, parse
from rules.document import Problem, RuleSetError
from rules.loading import Packs, Row
from rules.pack import Pack
from rules.rule import LateCondition, Mode, ReadPlan, Rule, SipAnswer
from rules.ruleset import RuleSet
from rules.schema import declarations
from rules.verdict import Action, Cause
from rules.walk import CompiledRules, Key, nothing, test_from_code

_RULES_A_FRAME: Final = 32
_TESTS_A_FRAME: Final = 32
_MASK_BYTES_A_FRAME: Final = 65_536
_CONTENT_A_FRAME: Final = 262_144
_FREED_AT_ONCE: Final = 128


class NotReady(Exception):
    """Packs could not be handed over; the message says why."""


Frame = tuple[Any, ...]


# There: the process that loads


def frames(packs: Packs) -> Iterator[Frame]:
    """What a worker needs of the packs, in pieces that are quickly taken in."""
    for start in range(0, len(packs.content), _CONTENT_A_FRAME):
        yield "content", packs.content[start : start + _CONTENT_A_FRAME]
    for name, pack in packs.packs.items():
        yield from _pack_frames(name, pack)
    yield "done", packs.digest, [astuple(row) for row in packs.rows]


def refusal(refused: RuleSetError | bundle.BundleError) -> Frame:
    """The frame that says why there are no packs."""
    if isinstance(refused, RuleSetError):
        return "problems", [astuple(problem) for problem in refused.problems]
    return "bundle", str(refused)


def _pack_frames(name: str, pack: Pack) -> Iterator[Frame]:
    ruleset = pack.ruleset
    compiled = ruleset.compiled
    for chunk in _chunks(ruleset.rules, _RULES_A_FRAME):
        yield "rules", [_rule_row(rule) for rule in chunk]
    for chunk in _chunks(compiled.made.items(), _TESTS_A_FRAME):
        yield "tests", [(*key, test.__code__) for key, test in chunk]
    for key in compiled.keys:
        yield "key", key.name, key.access, key.rules, key.other
        size = key.other.bit_length() // 8 + 64
        for chunk in _chunks(key.masks.items(), max(1, _MASK_BYTES_A_FRAME // size)):
            yield "masks", chunk
    yield (
        "pack",
        name,
        (ruleset.name, ruleset.revision, int(ruleset.default), ruleset.redress),
        [(str(cause), *astuple(answer)) for cause, answer in ruleset.sip.items()],
        dict(pack.macros),
        astuple(ruleset.plan),
        ruleset.called_uses,
        [astuple(warning) for warning in pack.warnings],
    )


def _rule_row(rule: Rule) -> Frame:
    return (
        rule.id,
        rule.when,
        rule.condition.uses,
        rule.condition.can_fail,
        int(rule.action),
        str(rule.cause),
        rule.why,
        rule.source,
        str(rule.mode),
        rule.percent,
        rule.despite_unknown,
        rule.label,
        rule.needs,
    )


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


# Here: the worker that takes in


def let_go(replaced: list[Packs], *, between: Callable[[], object] = nothing) -> None:
    """Frees packs that were replaced, a few rules at a time; the list gives up its own hold.

    Dropped in one go, a set of 10,000 rules would hold up its process for tens of milliseconds.
    """
    held: list[list[Any]] = []
    while replaced:
        for pack in replaced.pop().packs.values():
            compiled = pack.ruleset.compiled
            held += map(list, compiled.steps)
            held += [list(compiled.made.values()), list(pack.ruleset.rules)]
            held += [list(key.masks.items()) for key in compiled.keys]
    # The last reference to each rule and test is now here.
    compiled = pack = None  # type: ignore[assignment]
    between()
    for parts in held:
        while parts:
            del parts[-_FREED_AT_ONCE:]
            between()


def take_in(given: Iterable[Frame], *, between: Callable[[], object] = nothing) -> Packs:
    """The packs that the frames hold; `between` is called after each of them.

    Raises RuleSetError and BundleError where that is what they say, NotReady where they end
    early.
    """
    content: list[bytes] = []
    packs: dict[str, Pack] = {}
    making = _Making()
    for kind, *values in given:
        match kind:
            case "problems":
                raise RuleSetError([Problem(*row) for row in values[0]])
            case "bundle":
                raise bundle.BundleError(values[0])
            case "content":
                content.append(values[0])
            case "rules":
                making.add_rules(values[0])
            case "tests":
                making.add_tests(values[0])
            case "key":
                name, access, rules, other = values
                making.keys.append(Key(name, access, rules, {}, other))
            case "masks":
                making.keys[-1].masks.update(values[0])
            case "pack":
                name, *described = values
                packs[name] = making.pack(described, between)
                making = _Making()
            case "done":
                digest, rows = values
                table = tuple(Row(*row) for row in rows)
                return Packs(MappingProxyType(packs), table, b"".join(content), digest)
        between()
    raise NotReady("the process that loads the rules stopped before its end")


class _Making:
    """A pack on its way in."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.active: list[Rule] = []
        """Those that are not off."""
        self.made: dict[Any, Any] = {}
        self.keys: list[Key] = []
        self._macros: dict[str, str] = {}
        """Filled last, and shared by every condition."""
        self._check = partial(_checked, self._macros)
        """Holds no rule: packs that are replaced are freed without a collection of garbage."""

    def add_rules(self, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            name, when, uses, can_fail, action, cause, why, source, mode, *rest = row
            percent, despite_unknown, label, needs = rest
            rule = Rule(
                name,
                when,
                LateCondition(self._check, when, uses, can_fail),
                Action(action),
                Cause(cause),
                why,
                source,
                Mode(mode),
                percent,
                despite_unknown,
                label,
                needs,
            )
            self.rules.append(rule)
            if rule.mode is not Mode.OFF:
                self.active.append(rule)

    def add_tests(self, rows: Sequence[Sequence[Any]]) -> None:
        for index, names, before_facts, code in rows:
            self.made[index, names, before_facts] = test_from_code(code)

    def pack(self, described: Sequence[Any], between: Callable[[], object]) -> Pack:
        (name, revision, default, redress), sip, macros, plan, called_uses, warnings = described
        self._macros.update(macros)
        rules = tuple(self.rules)
        compiled = CompiledRules.ready(
            self.active,
            keys=self.keys,
            plan=ReadPlan(*plan),
            called_uses=called_uses,
            made=self.made,
            between=between,
        )
        ruleset = RuleSet(
            name,
            revision,
            Action(default),
            rules,
            redress=redress,
            sip={Cause(cause): SipAnswer(*answer) for cause, *answer in sip},
            compiled=compiled,
        )
        compiled.between = nothing
        return Pack(ruleset, (), tuple(Problem(*row) for row in warnings), macros)


def _checked(macros: Mapping[str, str], when: str) -> Any:
    return check(parse(when), declarations(macros))
