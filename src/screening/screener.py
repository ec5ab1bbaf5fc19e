"""One call end to end: the rule set taken once, evaluated, the facts read, evaluated again.

Invariants: a reload never splits a call; no facts are read before the rules that need none have
had their say; every question gets one answer, and no exception leaves.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol, cast

from consent import index
from consent.calling import CallingSide
from consent.category import BIT
from consent.facts import Facts
from rules.bind import bind
from rules.call import NO_CONDUCT, Call, Conduct
from rules.explanation import explain
from rules.loading import Packs
from rules.ruleset import ReadPlan, RuleSet, evaluate
from rules.safeguard import safeguard
from rules.verdict import Action, Cause, Verdict
from screening.decision_id import decision_id
from screening.logs import log_where
from screening.sip_profile import SipProfile

log = logging.getLogger(__name__)

Reads = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]

NOTHING_LOADED: Final = Verdict(
    Action.ALLOW, Cause.DEGRADED, rule="default", ruleset="none", degraded=True
)
"""The answer of a service that has no rules yet and is asked all the same."""


class Question:
    """One question, translated.

    `emergency` says that the called or dialled number is an emergency one; `ignored` names what
    was sent and not used: "other" for an unknown field, the field of an unknown value by name.
    `replay` says that it asks for another instant than its own, so that no call is behind it.
    """

    __slots__ = ("call", "emergency", "explain", "ignored", "profile", "replay")

    def __init__(self) -> None:
        self.call = Call()
        self.emergency = False
        self.explain = False
        self.profile: SipProfile | None = None
        """How the one who asks wants a refusal told."""
        self.replay = False
        self.ignored: list[str] = []


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict rests on beside the rules, for those who ask why.

    `lists` are those that were asked, by name with their generation; `named_by` those of the
    calling side that name the calling number; `consent_id` is the ledger's sequence of the consent
    to this caller, whatever has become of it.
    """

    lists: dict[str, int]
    named_by: tuple[str, ...]
    consent_id: int | None


class Decision:
    """What one question came to; `facts`, `facts_seconds` and `plan`, by which they were read, are
    None where none were asked for."""

    __slots__ = (
        "attempt",
        "decision_id",
        "evidence",
        "facts",
        "facts_seconds",
        "internal_error",
        "plan",
        "profile",
        "ruleset",
        "verdict",
    )

    def __init__(
        self,
        verdict: Verdict,
        ruleset: RuleSet | None,
        decision_id: str,
        *,
        facts: Facts | None = None,
        internal_error: bool = False,
        profile: SipProfile | None = None,
    ) -> None:
        self.verdict = verdict
        self.ruleset = ruleset
        self.decision_id = decision_id
        self.facts = facts
        self.facts_seconds: float | None = None
        self.plan: ReadPlan | None = None
        self.internal_error = internal_error
        self.attempt = 1
        """The how-manieth question about this call it was; known once it has been answered."""
        self.evidence: Evidence | None = None
        self.profile = profile


@dataclass(frozen=True, slots=True)
class DncList:
    """A do-not-call list in force; `region` "" is a list for the numbers of every country.

    From `stale_at` (epoch seconds, 0: never) on it is older than it may be.
    """

    list_id: int
    generation: int
    category: str
    region: str
    name: str
    stale_at: float = 0.0


class Reader(Protocol):
    """What facts are read by: `consent.index.IndexReader`, or what stands in for it."""

    def read(
        self, question: index.Question, *, deadline: float, done: Callable[[Facts], None]
    ) -> None:
        """Read by `deadline`, an instant of the screener's clock; `done` is called once."""


class Kept(Protocol):
    """Which calls are kept for replays: those whose decision ids come before `below`."""

    @property
    def below(self) -> str:
        """ "" where none are."""


class _NoneKept:
    below = ""


NONE_KEPT: Final = _NoneKept()


class DncPlan:
    """Which do-not-call lists a call reads. Immutable; made anew when a list changes."""

    __slots__ = ("_lists", "_reads", "_stale")

    def __init__(self, lists: tuple[DncList, ...] = ()) -> None:
        self._lists = lists
        self._reads: dict[tuple[str, str, int], tuple[ReadPlan, Reads]] = {}
        self._stale: dict[str, float] = {}

    def state(self, country: str, at: float) -> str:
        """What there is of lists for the numbers of a country at an instant: `called.lists`."""
        stale_at = self._stale.get(country)
        if stale_at is None:
            stale_at = self._stale[country] = min(
                (each.stale_at or math.inf for each in self._lists if each.region in ("", country)),
                default=0.0,
            )
        if not stale_at:
            return "none"
        return "stale" if at >= stale_at else "current"

    def reads(self, country: str, category: str, plan: ReadPlan) -> Reads:
        """What `plan` wants of a number of `country`, for a call of `category`: the bits of the
        categories, and (list, generation) of the lists that have any of them."""
        key = (country, category, id(plan))
        found = self._reads.get(key)
        if found is None or found[0] is not plan:
            wanted = plan.categories | {category} if plan.own_category else plan.categories
            lists = [
                each
                for each in self._lists
                if each.region in ("", country) and each.category in wanted
            ]
            reads = (
                tuple(sorted({BIT[each.category] for each in lists})),
                tuple((each.list_id, each.generation) for each in lists),
            )
            # The plan is held, so that no other one comes to have its identity.
            found = self._reads[key] = (plan, reads)
        return found[1]

    def generations(self, read: Iterable[tuple[int, int]]) -> dict[str, int]:
        """The generations of (list, generation) pairs by the lists' names."""
        names = {each.list_id: each.name for each in self._lists}
        return {names[list_id]: generation for list_id, generation in read}


class Screener:
    """Decides calls with what is in force now; its parts are swapped whole while it runs."""

    __slots__ = (
        "_budget", "_clock", "_kept", "_key", "calling_side", "conduct", "dnc", "packs", "reader",
    )  # fmt: skip

    def __init__(
        self,
        *,
        reader: Reader,
        decision_key: bytes,
        facts_budget_ms: float,
        kept: Kept = NONE_KEPT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.packs: Packs | None = None
        self.calling_side = CallingSide()
        self.conduct: Conduct = NO_CONDUCT
        self.dnc = DncPlan()
        self.reader = reader
        self._key = decision_key
        self._kept = kept
        self._budget = facts_budget_ms / 1000.0
        self._clock = clock

    def screen(
        self, question: Question, *, arrived: float, done: Callable[[Decision], None]
    ) -> None:
        """Decide a question that arrived at `arrived` of the clock.

        `done` is called once, before this returns unless facts must be read. Never raises.
        """
        call = question.call
        call.decision_id = decision_id(
            call_id=call.call_id, calling=call.calling.text, called=call.called.text, key=self._key
        )
        decision = Decision(NOTHING_LOADED, None, call.decision_id, profile=question.profile)
        try:
            packs = self.packs
            if packs is not None:
                decision.ruleset = packs.selection.of(call)
            passed = safeguard(call, emergency=question.emergency)
            if passed is not None:
                decision.verdict = _traced(passed) if question.explain else passed
            elif decision.ruleset is not None and self._asks(
                decision, decision.ruleset, question, arrived, done
            ):
                return
        except Exception as broken:  # noqa: BLE001 - whatever breaks, the switch gets an answer
            self._fall_back(decision, broken)
        done(decision)

    def failed(self, broken: Exception) -> Decision:
        """The decision where the question could not even be read, through a fault of ours."""
        decision = Decision(
            NOTHING_LOADED, None, decision_id(call_id="", calling="", called="", key=self._key)
        )
        self._fall_back(decision, broken)
        return decision

    def _asks(
        self,
        decision: Decision,
        ruleset: RuleSet,
        question: Question,
        arrived: float,
        done: Callable[[Decision], None],
    ) -> bool:
        """Decide without facts, or else ask for them: whether these now lead to `done`."""
        call, side, dnc = question.call, self.calling_side, self.dnc
        bind(call, side)
        call.dnc_lists = dnc.state(call.called.country, call.at)
        call.conduct = self.conduct
        verdict = evaluate(ruleset, call)
        if isinstance(verdict, Verdict):
            decision.verdict = verdict
            # Not needed to decide, but a trace shows values, and they shall be the real ones.
            if not question.explain:
                return False
            plan = ruleset.plan
        elif question.explain or call.decision_id < self._kept.below:
            # Tomorrow's rules are tried on these calls, and may ask for more than today's.
            plan = ruleset.plan
        else:
            plan = verdict
        decision.plan = plan
        started = self._clock()
        waiting = _Waiting(self, decision, ruleset, question, side, dnc, started, done)
        self.reader.read(_lookup(call, dnc, plan), deadline=arrived + self._budget, done=waiting)
        return True

    def decide(self, waiting: "_Waiting", facts: Facts) -> None:
        """The facts are there, as far as they could be read."""
        question, decision, ruleset = waiting.question, waiting.decision, waiting.ruleset
        call = question.call
        decision.facts = facts
        decision.facts_seconds = self._clock() - waiting.started
        try:
            if decision.verdict is NOTHING_LOADED:
                decision.verdict = cast("Verdict", evaluate(ruleset, call, facts))
            if question.explain:
                degraded = decision.verdict.degraded
                decision.verdict = replace(explain(ruleset, call, facts), degraded=degraded)
                decision.evidence = _evidence(
                    ruleset, call, facts, side=waiting.side, dnc=waiting.dnc
                )
        except Exception as broken:  # noqa: BLE001 - as in `screen`
            self._fall_back(decision, broken)
        waiting.done(decision)

    def _fall_back(self, decision: Decision, broken: Exception) -> None:
        log_where(log, "a call was answered with the default", broken)
        decision.internal_error = True
        decision.verdict = (
            decision.ruleset.fallback(Cause.INTERNAL_ERROR)
            if decision.ruleset is not None
            else NOTHING_LOADED
        )


class _Waiting:
    """A call whose facts are read, called with them; what was in force when it came stays so."""

    __slots__ = (
        "decision", "dnc", "done", "question", "ruleset", "screener", "side", "started",
    )  # fmt: skip

    def __init__(
        self,
        screener: Screener,
        decision: Decision,
        ruleset: RuleSet,
        question: Question,
        side: CallingSide,
        dnc: DncPlan,
        started: float,
        done: Callable[[Decision], None],
    ) -> None:
        self.screener = screener
        self.decision = decision
        self.ruleset = ruleset
        self.question = question
        self.side = side
        self.dnc = dnc
        self.started = started
        self.done = done

    def __call__(self, facts: Facts) -> None:
        self.screener.decide(self, facts)


def _lookup(call: Call, dnc: DncPlan, plan: ReadPlan) -> index.Question:
    categories, lists = dnc.reads(call.called.country, call.category, plan)
    return index.Question(
        call.called.value,
        call.calling.value,
        call.entity_id,
        categories,
        lists,
        plan.consent,
        plan.personal,
        plan.profile,
        plan.frequency,
        plan.signals,
        call.decision_id if call.call_id else "",
    )


def _evidence(
    ruleset: RuleSet, call: Call, facts: Facts, *, side: CallingSide, dnc: DncPlan
) -> Evidence:
    _, read = dnc.reads(call.called.country, call.category, ruleset.plan)
    return Evidence(
        lists=dict(sorted({**side.generations, **dnc.generations(read)}.items())),
        named_by=side.naming(call.calling.value),
        consent_id=facts.consent.sequence if facts.consent else None,
    )


def _traced(verdict: Verdict) -> Verdict:
    """A safeguard's verdict with its trace: no other rule was tried."""
    entry = {"rule": verdict.rule, "mode": "enforce", "outcome": "true", "facts": {}}
    return replace(verdict, trace=(entry,))
