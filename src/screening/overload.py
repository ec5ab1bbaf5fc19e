"""Overload: the lag of the event loop, and which calls are answered without being screened.

A tick is due every `TICK_SECONDS`. A loop that is behind it by more than the limit has calls in
its sockets that have waited as long, and screening all of them makes those behind them wait even
longer. From then on a call is shed that comes while so many others are being screened, or after so
many since a tick that is overdue by the limit, until for `CALM_TICKS` none was shed and the lag
stayed under half of the limit.

How many depends on what made the loop late. By what one call costs, calls did if they took most of
the time: then there are more of them than can be screened, and `SCREENED_AT_ONCE` are on their way,
half of it for each tick that is behind by half of the limit, and half as many more for each that is
not. Two such ticks that calls took up say the same before the loop is late by the limit. Anything
else held it up once: what has come meanwhile can be screened in time, `SCREENED_AT_FIRST`, which is
what comes to a busy core in 25 ms. A loop late for the third time is behind, whatever held it up:
one that gets half of a core is, too.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rules.verdict import Action, Cause, Verdict

TICK_SECONDS: Final = 0.005
CALM_TICKS: Final = 20
SCREENED_AT_FIRST: Final = 512
SCREENED_AT_ONCE: Final = 64
SCREENED_AT_LEAST: Final = 4
_WINDOW_TICKS: Final = 200
_BUSY_SHARE: Final = 0.5
"""Of the time since the last tick, for calls to have made this one late. A stall that is as long as
a tick leaves them less."""

_SHED_SHARE: Final = 1 / 3
"""Of what a call costs, for one that is shed."""

_LATE_TICKS: Final = 3
_COSTED_CALLS: Final = 4
"""Fewer in a tick say little of what one costs."""

_COST_WEIGHT: Final = 1 / 16
_FIRST_ID: Final = 1_000_000_000
"""Ten digits from the first on: to fill one up with zeros takes ten times as long."""

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

SHED: Final = Verdict(
    Action.ALLOW, Cause.DEGRADED, rule="default", ruleset="overload", degraded=True
)
"""The answer to a call that is not screened."""


class Overload:
    """The lag of one loop. `told` hears, a tick later, how many calls were shed; `spent` is the
    processor time of the loop's thread, in seconds."""

    def __init__(
        self,
        *,
        limit_seconds: float,
        told: Callable[[int], None],
        clock: Callable[[], float],
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self.late_at = inf
        """A call that arrives at this instant or later comes to a loop that is behind."""
        self.screening = 0
        """Calls that are being screened."""
        self.shed = 0
        self._limit = limit_seconds
        self._told = told
        self._clock = clock
        self._spent = spent
        self._spent_before = 0.0
        self._taken = 0
        self._taken_before = 0
        self._cost = 0.0
        """Seconds that a call takes of the loop, 0 while that is not known."""
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._lagging = False
        self._calm = 0
        self._late = 0
        """Ticks that were late by the limit since calls may be shed."""
        self._behind = False
        """Whether more come than can be screened, since calls may be shed."""
        self._strained = 0
        """Ticks up to now that were behind by half of the limit, each by calls."""
        self._stalled = False
        """Whether the last tick was behind as much, by something else."""
        self._most = SCREENED_AT_FIRST
        self._screened = 0
        """Since the last tick."""
        self._told_of = 0
        self._worst = [0.0, 0.0]
        self._ticks = 0
        # Nothing is hashed for a call that is shed; the start differs by process.
        self._ids = "".join(secrets.choice(_ALPHABET) for _ in range(16))

    def start(self) -> None:
        """Measure from now on. A limit of 0 sheds nothing."""
        self._due = self._clock()
        self._tick()

    def stop(self) -> None:
        """Measure no more, shed no more."""
        self.late_at = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def lagging(self) -> bool:
        """Whether calls are shed that come while too many are being screened."""
        return self._lagging

    @property
    def lag(self) -> float:
        """The worst lag of the last one to two seconds, in seconds."""
        return max(self._worst)

    def enter(self) -> None:
        """A call is taken in to be screened."""
        self.screening += 1
        self._taken += 1

    def leave(self) -> None:
        """One that was taken in is decided."""
        self.screening -= 1

    def sheds(self, arrived: float) -> bool:
        """Whether a call that came at `late_at` or later is shed; to be asked once of each."""
        if not self._lagging:
            self._begin(arrived)
        if self.screening >= self._most:
            return True
        # Where no index is asked none is ever on its way.
        self._screened += 1
        return self._screened > self._most and arrived > self._due + self._limit

    def _begin(self, now: float) -> None:
        self._lagging = True
        self.late_at = -inf
        self._calm = self._late = 0
        self._behind = self._busy(now) and not self._stalled
        self._most = SCREENED_AT_ONCE if self._behind else SCREENED_AT_FIRST

    def _busy(self, now: float) -> bool:
        """Whether it was calls that took the time since the last tick, as far as is known."""
        calls = self._taken - self._taken_before + _SHED_SHARE * (self.shed - self._told_of)
        passed = now - self._due + TICK_SECONDS
        return not self._cost or calls * self._cost > _BUSY_SHARE * passed

    def decision_id(self) -> str:
        """An id for a call that is shed, of the form of all others."""
        self.shed += 1
        return self._ids + str(_FIRST_ID + self.shed)

    def _tick(self) -> None:
        now = self._clock()
        lag = now - self._due
        self._ticks += 1
        if self._ticks % _WINDOW_TICKS == 0:
            self._worst = [0.0, self._worst[0]]
        self._worst[0] = max(self._worst[0], lag)
        shed = self.shed - self._told_of
        if self._limit:
            self._judge(now, lag, shed=shed > 0)
            self._learn()
        if shed:
            self._told_of = self.shed
            self._told(shed)
        self._due = now + TICK_SECONDS
        self._screened = 0
        if self._limit and not self._lagging:
            self.late_at = self._due + self._limit
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _judge(self, now: float, lag: float, *, shed: bool) -> None:
        slow, was_behind = lag > self._limit / 2, self._behind
        self._strained = self._strained + 1 if slow and self._busy(now) else 0
        if (lag > self._limit or self._strained > 1) and not self._lagging:
            self._begin(now)
        self._stalled = slow and not self._strained
        if not self._lagging:
            return
        self._late += lag > self._limit
        if not self._behind and (self._strained > 1 or self._late == _LATE_TICKS):
            self._behind, self._most = True, SCREENED_AT_ONCE
        elif was_behind and slow:
            self._most = max(SCREENED_AT_LEAST, self._most // 2)
        elif was_behind:
            self._most = min(SCREENED_AT_ONCE, self._most + max(SCREENED_AT_LEAST, self._most // 2))
        self._calm = 0 if shed or slow else self._calm + 1
        if self._calm == CALM_TICKS:
            self._lagging = self._behind = False

    def _learn(self) -> None:
        """What a call costs, from a tick in which none was shed."""
        spent, taken = self._spent(), self._taken - self._taken_before
        if not self._lagging and taken >= _COSTED_CALLS:
            cost = (spent - self._spent_before) / taken
            self._cost += (cost - self._cost) * (_COST_WEIGHT if self._cost else 1.0)
        self._spent_before, self._taken_before = spent, self._taken


class OverloadCounts(Collector):
    """What Prometheus sees of it."""

    def __init__(self, overload: Overload) -> None:
        self._overload = overload

    def collect(self) -> Iterable[Metric]:
        """Read when scraped."""
        overload = self._overload
        shed = CounterMetricFamily(
            "screening_shed", "Calls allowed without being screened, because the loop was behind."
        )
        shed.add_metric((), overload.shed)
        yield shed
        for name, meaning, value in (
            (
                "screening_overloaded",
                "1 while calls are shed that come when too many are being screened.",
                float(overload.lagging),
            ),
            (
                "screening_loop_lag_seconds",
                "The worst lag of the event loop in the last one to two seconds.",
                overload.lag,
            ),
        ):
            gauge = GaugeMetricFamily(name, meaning)
            gauge.add_metric((), value)
            yield gauge
