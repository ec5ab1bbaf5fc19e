"""The lookup without a transport: a question's bytes in, one answer out, what follows after it.

Invariants:
- no exception leaves `ask_…`, and `reply` is called exactly once for each of them, maybe before
  it returns: with a decision, or with what is broken about the question;
- nothing is awaited: a call that needs no facts is answered within `ask_…`, any other one from
  the callback of its read;
- what is counted or recorded of a call follows in a turn of the loop of its own, when the bytes
  of its answer have been handed to the kernel.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from screening.access import Client
from screening.answer import Answers, Form
from screening.decision_id import RecentCalls
from screening.logs import log_where
from screening.metrics import Metrics
from screening.overload import SHED, Overload, OverloadCounts
from screening.recall import Recall
from screening.screener import Decision, Question, Screener
from screening.wire import (
    MalformedCall,
    fields_of_json,
    fields_of_query,
    is_no_emergency,
    may_be_shed,
    read_fields,
    read_json,
    read_query,
)

log = logging.getLogger(__name__)


_UNREAD: Final = Question()


def _told(_answered: object) -> None:
    """The reply of what has been replied to."""


def _itself(fields: Any) -> Any:
    return fields


class Answered:
    """A question that was asked, called with its decision; then `elapsed` is seconds from its
    arrival to that."""

    __slots__ = ("arrived", "decision", "elapsed", "lookup", "question", "reply", "transport")

    decision: Decision

    def __init__(
        self,
        lookup: "Lookup",
        question: Question,
        arrived: float,
        reply: Callable[["Answered | MalformedCall"], None],
        transport: str,
    ) -> None:
        self.lookup: Final = lookup
        self.question: Final = question
        self.arrived: Final = arrived
        self.reply = reply
        self.transport: Final = transport
        self.elapsed = 0.0

    def __call__(self, decision: Decision) -> None:
        self.decision = decision
        self.lookup.decided(self)

    def body(self) -> bytes:
        """The answer as HTTP and JSON-RPC send it."""
        return self.lookup.answers.body(self.decision, int(self.elapsed * 1e6))


Reply = Callable[[Answered | MalformedCall], None]
Observer = Callable[[Question, Decision, float, str], None]
"""Hears of every call after it was answered: question, decision, seconds it took, transport."""


class Lookup:
    """Answers questions; see `screening.contract` for what comes in and goes out.

    `observers` may be added to while it runs. Belongs to the event loop that asks it.
    """

    def __init__(
        self,
        screener: Screener,
        metrics: Metrics,
        recall: Recall,
        *,
        region: str,
        shed_lag_ms: float = 0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.clock: Final = clock
        self.observers: list[Observer] = [self._count]
        self.shed_observers: list[Callable[[int], None]] = []
        """Hear how many calls were answered unscreened, of which no observer hears."""
        self.overload: Final = Overload(
            limit_seconds=shed_lag_ms / 1000, told=self._count_shed, clock=clock
        )
        metrics.registry.register(OverloadCounts(self.overload))
        self._screener = screener
        self._metrics = metrics
        self._decisions: Final = metrics.decisions
        self._shadow: Final = metrics.shadow
        self._decision_seconds: Final = metrics.decision_seconds
        self._facts_seconds: Final = metrics.facts_seconds
        self._recall = recall
        self._region = region
        self._now = now
        self._recent = RecentCalls()
        self.answers: Final = Answers()
        self._shed_form: Final = Form(SHED, None, None)
        self._answered: list[Answered] = []

    def ask_json(
        self, body: bytes, *, client: Client, arrived: float, reply: Reply, transport: str = "http"
    ) -> None:
        """The question in a JSON body, which arrived at `arrived` of `clock`."""
        if arrived >= self.overload.late_at and self._shed(fields_of_json, body, arrived, reply):
            return
        self.screen_json(body, client=client, arrived=arrived, reply=reply, transport=transport)

    def screen_json(
        self, body: bytes, *, client: Client, arrived: float, reply: Reply, transport: str = "http"
    ) -> None:
        """The same, whether or not the loop is behind."""
        self._ask(read_json, body, client, arrived, reply, transport)

    def shed_json(self, body: bytes, arrived: float) -> bytes | None:
        """The answer to a call that is shed, None where it is to be screened: to be asked once of
        each that comes to a loop that is behind.

        Two thirds of what is left of such a call are the kernel's.
        """
        overload = self.overload
        if not overload.sheds(arrived) or not (
            is_no_emergency(body) or may_be_shed(fields_of_json(body), region=self._region)
        ):
            return None
        return self._shed_form.fill(overload.decision_id(), int((self.clock() - arrived) * 1e6))

    def ask_query(
        self, query: bytes, *, client: Client, arrived: float, reply: Reply, transport: str = "http"
    ) -> None:
        """The question in a query string."""
        if arrived >= self.overload.late_at and self._shed(fields_of_query, query, arrived, reply):
            return
        self._ask(read_query, query, client, arrived, reply, transport)

    def ask_fields(
        self,
        fields: Mapping[str, Any],
        *,
        client: Client,
        arrived: float,
        reply: Reply,
        transport: str,
    ) -> None:
        """The question of a transport with a parser of its own: the fields as JSON has them."""
        if arrived >= self.overload.late_at and self._shed(_itself, fields, arrived, reply):
            return
        self._ask(read_fields, fields, client, arrived, reply, transport)

    def _ask(
        self,
        read: Callable[..., Question],
        asked: Any,
        client: Client,
        arrived: float,
        reply: Reply,
        transport: str,
    ) -> None:
        try:
            question = read(asked, client=client, region=self._region, now=self._now())
        except MalformedCall as broken:
            self.refused(broken.field)
            # Not the one that was raised: its traceback holds who is told of it.
            reply(MalformedCall(broken.field, str(broken)))
            return
        except Exception as broken:  # noqa: BLE001 - a fault of ours must not fail the call
            self.overload.enter()
            Answered(self, Question(), arrived, reply, transport)(self._screener.failed(broken))
            return
        answered = Answered(self, question, arrived, reply, transport)
        self.overload.enter()
        self._screener.screen(question, arrived=arrived, done=answered)

    def _shed(
        self, fields_of: Callable[[Any], Any], asked: Any, arrived: float, reply: Reply
    ) -> bool:
        """Answer a call of an overloaded loop unscreened, or False where it is to be screened.

        Nobody observes it: `Overload` counts it and tells of it.
        """
        overload = self.overload
        if not overload.sheds(arrived):
            return False
        try:
            if not may_be_shed(fields_of(asked), region=self._region):
                return False
            answered = Answered(self, _UNREAD, arrived, _told, "")
            answered.decision = Decision(SHED, None, overload.decision_id())
            answered.elapsed = self.clock() - arrived
            reply(answered)
        except Exception as broken:  # noqa: BLE001 - as in `decided`
            log_where(log, "an answer could not be handed over", broken)
        return True

    def _count_shed(self, calls: int) -> None:
        self._decisions.count((SHED.action.word, SHED.cause, SHED.rule, SHED.ruleset), calls)
        self._metrics.degraded.inc(calls)
        for hears in self.shed_observers:
            hears(calls)

    def decided(self, answered: Answered) -> None:
        """There is a decision on what was asked."""
        answered.elapsed = self.clock() - answered.arrived
        self.overload.leave()
        # Whoever is told keeps what it is told: held by it in turn, both would stay until a
        # collection.
        reply, answered.reply = answered.reply, _told
        try:
            reply(answered)
        except Exception as broken:  # noqa: BLE001 - a transport's fault must not reach the reader
            log_where(log, "an answer could not be handed over", broken)
        if not self._answered:
            # Written in this turn of the loop, sent at its end: the next one is after the answer.
            asyncio.get_running_loop().call_soon(self._follow_up)
        self._answered.append(answered)

    def refused(self, field: str) -> None:
        """Count a question that is refused; a transport says so of what it does not hand over."""
        self._metrics.malformed.labels(field or "body").inc()

    def _follow_up(self) -> None:
        """Tell the observers of the calls that were answered since the last turn."""
        answered, self._answered = self._answered, []
        now = self.clock()
        for each in answered:
            question, decision = each.question, each.decision
            if question.call.call_id:
                decision.attempt = self._recent.attempt(decision.decision_id, now)
            for observer in self.observers:
                try:
                    observer(question, decision, each.elapsed, each.transport)
                except Exception as broken:  # noqa: BLE001 - one observer must not hide from others
                    log_where(log, "an answered call could not be followed up", broken)

    def _count(self, question: Question, decision: Decision, elapsed: float, _by: str) -> None:
        verdict = decision.verdict
        self._decision_seconds.observe(elapsed)
        if decision.facts_seconds is not None:
            self._facts_seconds.observe(decision.facts_seconds)
        if question.ignored or decision.internal_error or verdict.errors:
            self._count_odd(question, decision)
        if decision.attempt > 1:
            self._metrics.repeats.inc()
            return
        if decision.decision_id < self._recall.below:
            self._recall.offer(question, decision)
        self._decisions.count((verdict.action.word, verdict.cause, verdict.rule, verdict.ruleset))
        if verdict.degraded:
            self._metrics.degraded.inc()
        for hit in verdict.shadow:
            self._shadow.count((hit.action.word, hit.rule, verdict.ruleset))

    def _count_odd(self, question: Question, decision: Decision) -> None:
        """What few calls have."""
        metrics, verdict = self._metrics, decision.verdict
        for name in question.ignored:
            metrics.ignored.labels(name).inc()
        if decision.internal_error:
            metrics.internal_errors.inc()
        for rule in verdict.errors:
            metrics.rule_errors.labels(rule, verdict.ruleset).inc()
