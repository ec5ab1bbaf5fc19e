"""Overload: the lag of the event loop, and which calls are answered without being screened.

A tick is due every `TICK_SECONDS`. A loop that is behind it by more than the limit has calls in
its sockets that have waited as long, and screening all of them makes those behind them wait even
longer. From then on a call is shed that comes while so many others are being screened, or after so
many since a tick that is overdue by the limit, until for `CALM_TICKS` none was shed and the lag
stayed under half of the limit. So many are on their way at once where the loop or the index is
behind, and nowhere else: `SCREENED_AT_ONCE`, half of it for each tick that is behind by half of the
limit, and half as many more for each that is not. Until a second tick is late the loop was held up
once, by something else than calls: `SCREENED_AT_FIRST` is what comes to a busy core in 25 ms, and
it sheds nothing that it could have screened in time.
"""

import asyncio
import secrets
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
_FIRST_ID: Final = 1_000_000_000
"""Ten digits from the first on: to fill one up with zeros takes ten times as long."""

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

SHED: Final = Verdict(
    Action.ALLOW, Cause.DEGRADED, rule="default", ruleset="overload", degraded=True
)
"""The answer to a call that is not screened."""


class Overload:
    """The lag of one loop. `told` hears, a tick later, how many calls were shed."""

    def __init__(
        self,
        *,
        limit_seconds: float,
        told: Callable[[int], None],
        clock: Callable[[], float],
    ) -> None:
        self.late_at = inf
        """A call that arrives at this instant or later comes to a loop that is behind."""
        self.screening = 0
        """Calls that are being screened, for who screens them to say."""
        self.shed = 0
        self._limit = limit_seconds
        self._told = told
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._lagging = False
        self._calm = 0
        self._late = 0
        """Ticks that were late since calls may be shed."""
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

    def sheds(self, arrived: float) -> bool:
        """Whether a call that came at `late_at` or later is shed; to be asked once of each."""
        if not self._lagging:
            self._begin()
        if self.screening >= self._most:
            return True
        # Where no index is asked none is ever on its way.
        self._screened += 1
        return self._screened > self._most and arrived > self._due + self._limit

    def _begin(self) -> None:
        self._lagging = True
        self.late_at = -inf
        self._calm = self._late = 0
        self._most = SCREENED_AT_FIRST

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
            self._judge(lag, shed=shed > 0)
        if shed:
            self._told_of = self.shed
            self._told(shed)
        self._due = now + TICK_SECONDS
        self._screened = 0
        if self._limit and not self._lagging:
            self.late_at = self._due + self._limit
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _judge(self, lag: float, *, shed: bool) -> None:
        if lag > self._limit:
            if not self._lagging:
                self._begin()
            self._late += 1
        if not self._lagging:
            return
        if self._late > 1 and lag > self._limit / 2:
            self._most = max(SCREENED_AT_LEAST, min(SCREENED_AT_ONCE, self._most // 2))
        elif self._late > 1:
            self._most = min(SCREENED_AT_ONCE, self._most + max(SCREENED_AT_LEAST, self._most // 2))
        self._calm = 0 if shed or lag > self._limit / 2 else self._calm + 1
        self._lagging = self._calm < CALM_TICKS


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
