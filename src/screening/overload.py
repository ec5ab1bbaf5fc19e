"""Overload: the lag of the event loop, and which calls are answered without being screened.

A tick is due every `TICK_SECONDS`. A loop that is behind it by more than the limit has calls in
its sockets that have waited as long, and screening all of them makes those behind them wait even
longer. From then on a call is shed that comes while so many others are being screened, or after so
many since a tick that is overdue by the limit, until for `CALM_SECONDS` none was shed and the lag
stayed under half of the limit.

How many depends on what made the loop late. By what one call costs, calls did if they took most of
the time: then there are more of them than can be screened, and `SCREENED_AT_ONCE` are on their way.
A tick in which more came than it had time for says the same before the loop is late, where working
off what is on its way takes longer than the limit. Anything else held the loop up once: what has
come meanwhile can be screened in time, `SCREENED_AT_FIRST`, which is what comes to a busy core in
25 ms. A loop late for the fifth time is behind, whatever held it up: one that gets half of a core
is, too.

A loop that is behind ticks every `FINE_TICK_SECONDS`, and screens half as many at once after each
tick that is late by as much, half as many more after each that is not; it is behind until what came
in `WEIGHED_SECONDS` could all have been screened. What a tick of five milliseconds is late by says
nothing of a queue that is worked off in less: with it calls waited for five to seven all the time,
and what came on top of that, a stall of another process, for more than they may.
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
FINE_TICK_SECONDS: Final = 0.001
CALM_SECONDS: Final = 0.1
WEIGHED_SECONDS: Final = 0.025
SCREENED_AT_FIRST: Final = 512
SCREENED_AT_ONCE: Final = 64
SCREENED_AT_LEAST: Final = 4
_WINDOW_TICKS: Final = 200
_BUSY_SHARE: Final = 0.75
"""Of the time since the last tick, for calls to have made this one late. A stall leaves them less,
and so does what makes up for one at two thirds of what the core can screen."""

_FLOODED: Final = 1.2
"""Times as long as a tick took, for the calls that came in it to be more than it had time for."""

_BEARABLE_SHARE: Final = 0.9
"""Of the time, for all that came, had it been screened."""

_SHED_SHARE: Final = 1 / 3
"""Of what a call costs, for one that is shed."""

_LATE_TICKS: Final = 5
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
        self._every = TICK_SECONDS
        self._lagging = False
        self._calm_from = 0.0
        self._late = 0
        """Ticks that were late by the limit since calls may be shed."""
        self._came = 0
        self._weighed_from = 0.0
        """Since when `_came` are counted, all calls that came to a loop that is behind."""
        self._behind = False
        """Whether more come than can be screened, since calls may be shed."""
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
        self._calm_from, self._late = now, 0
        if self._load(now) > _BUSY_SHARE and not self._stalled:
            self._fall_behind(now)
        else:
            self._most = SCREENED_AT_FIRST

    def _fall_behind(self, now: float) -> None:
        self._behind, self._most = True, SCREENED_AT_ONCE
        self._came, self._weighed_from = 0, now

    def _load(self, now: float) -> float:
        """What calls took of the time since the last tick, or will take, as far as is known."""
        if not self._cost:
            return inf
        calls = self._taken - self._taken_before + _SHED_SHARE * (self.shed - self._told_of)
        return calls * self._cost / (now - self._due + self._every)

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
        self._every = FINE_TICK_SECONDS if self._behind else TICK_SECONDS
        self._due = now + self._every
        self._screened = 0
        if self._limit and not self._lagging:
            self.late_at = self._due + self._limit
        self._timer = asyncio.get_running_loop().call_later(self._every, self._tick)

    def _judge(self, now: float, lag: float, *, shed: bool) -> None:
        slow, was_behind, load = lag > self._limit / 2, self._behind, self._load(now)
        busy, on_its_way = load > _BUSY_SHARE, self.screening * self._cost
        # After a stall, what came meanwhile comes at once.
        flooded = load > _FLOODED and on_its_way > self._limit and not self._stalled
        late = lag > self._limit
        if (late or flooded) and not self._lagging:
            self._begin(now)
        self._stalled = slow and not busy
        if not self._lagging:
            return
        self._late += late
        if was_behind:
            self._adjust(now, lag)
        elif not self._behind and ((late and busy) or flooded or self._late >= _LATE_TICKS):
            self._fall_behind(now)
        if shed or slow:
            self._calm_from = now
        elif now - self._calm_from >= CALM_SECONDS:
            self._lagging = self._behind = False

    def _adjust(self, now: float, lag: float) -> None:
        """How many are screened at once by a loop that is behind, and whether it still is."""
        self._came += self._taken - self._taken_before + self.shed - self._told_of
        passed = now - self._weighed_from
        if passed >= WEIGHED_SECONDS:
            if self._cost and self._came * self._cost < _BEARABLE_SHARE * passed:
                self._behind, self._most = False, SCREENED_AT_FIRST
                return
            self._came, self._weighed_from = 0, now
        if lag > FINE_TICK_SECONDS:
            self._most = max(SCREENED_AT_LEAST, self._most // 2)
        else:
            self._most = min(SCREENED_AT_ONCE, self._most + max(SCREENED_AT_LEAST, self._most // 2))

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
