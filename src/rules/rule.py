"""One rule, and what rules are made to give: a walk, a read plan, an answer for the switch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

from rules import sip
from rules.cel import Checked
from rules.cel.syntax import Literal
from rules.schema import (
    CALLING_SIGNALS,
    CONSENT_OUTSIDE,
    ENTITY_CALLS,
    FACTS_KNOWN,
    HOLIDAY,
    REFUSES,
    WITHIN,
    WITHIN_DAYS,
)
from rules.verdict import Action, Cause


class Mode(StrEnum):
    """Whether a rule decides, only reports that it would have, or rests."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


class LateCondition:
    """A condition of which only what is asked of every call is here; its syntax is read when
    somebody asks for it, by `read` from its text."""

    __slots__ = ("_checked", "_read", "_when", "can_fail", "uses")

    def __init__(
        self, read: Callable[[str], Checked], when: str, uses: frozenset[str], can_fail: bool
    ) -> None:
        self.uses: Final = uses
        self.can_fail: Final = can_fail
        self._read = read
        self._when = when
        self._checked: Checked | None = None

    @property
    def checked(self) -> Checked:
        """The whole of it."""
        if self._checked is None:
            self._checked = self._read(self._when)
        return self._checked


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `percent` is the share of calls, by stable hash, that it applies to.

    `needs` are facts that its condition names and that do not exist yet; such a rule is off.
    """

    id: str
    when: str
    condition: Checked | LateCondition
    action: Action
    cause: Cause
    why: str
    source: str
    mode: Mode = Mode.ENFORCE
    percent: float = 100
    despite_unknown: bool = False
    label: dict[str, str] | None = None
    needs: tuple[str, ...] = ()

    @property
    def syntax(self) -> Checked:
        """Its condition with all that it says."""
        condition = self.condition
        return condition if isinstance(condition, Checked) else condition.checked


@dataclass(frozen=True, slots=True)
class SipAnswer:
    """How a switch shall refuse a call: status code and phrase, Reason text, Q.850 cause, headers.

    `reason` and the headers' values may hold `{id}`, the decision's, and `{redress}`, the set's.
    """

    code: int
    phrase: str
    reason: str = ""
    q850: int = 21
    headers: tuple[tuple[str, str], ...] = ()

    def filled(self, *, decision_id: str, redress: str) -> "SipAnswer":
        """The answer for one decision."""

        def fill(text: str) -> str:
            return sip.fill(text, decision_id=decision_id, redress=redress)

        headers = tuple((name, fill(value)) for name, value in self.headers)
        return replace(self, reason=fill(self.reason), headers=headers)


DECLINE: Final = SipAnswer(603, "Decline")
"""Where a set says nothing else."""


_PROFILE: Final = {REFUSES, WITHIN, WITHIN_DAYS, HOLIDAY, "called.personal", "called.zone"}
"""What a subscriber's profile has a say in."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What rules want of the index, and nothing else is read.

    `categories` are the do-not-call bitmaps by name, with `all` wherever any is asked for;
    `own_category` adds the one of the call's category.
    """

    categories: frozenset[str] = frozenset()
    own_category: bool = False
    consent: bool = False
    personal: bool = False
    profile: bool = False
    signals: bool = False
    frequency: bool = False


def read_plan(rules: tuple[Rule, ...]) -> ReadPlan:
    """The plan of the rules that are not off."""
    uses: set[str] = set()
    literals: set[str] = set()
    own_category = False
    for rule in rules:
        if rule.mode is Mode.OFF:
            continue
        uses |= rule.condition.uses
        for (category,) in rule.syntax.arguments(REFUSES):
            if isinstance(category, Literal):
                literals.add(str(category.value))
            else:
                own_category = True
    if REFUSES in uses:
        literals.add("all")
    every = ReadPlan(frozenset(literals), own_category, True, True, True, True, True)
    return _restricted(every, frozenset(uses))


@lru_cache(maxsize=1024)
def part_of(plan: ReadPlan, uses: frozenset[str]) -> ReadPlan:
    """What those rules of a plan want that use these facts; the same object for the same plan.

    Whether all is known that can be is a fact of the whole plan.
    """
    return plan if FACTS_KNOWN in uses else _the_same(_restricted(plan, uses))


@lru_cache(maxsize=1024)
def _the_same(plan: ReadPlan) -> ReadPlan:
    return plan


def _restricted(plan: ReadPlan, uses: frozenset[str]) -> ReadPlan:
    refuses = REFUSES in uses
    return ReadPlan(
        categories=plan.categories if refuses else frozenset(),
        own_category=plan.own_category and refuses,
        consent=plan.consent and bool(uses & {"consent.state", "consent.id", CONSENT_OUTSIDE}),
        personal=plan.personal and "called.personal" in uses,
        profile=plan.profile and bool(uses & _PROFILE),
        signals=plan.signals and bool(uses & CALLING_SIGNALS),
        frequency=plan.frequency and ENTITY_CALLS in uses,
    )
