"""What is counted while calls pass: by one thread, without a lock, and read when scraped."""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

BUCKETS: Final[tuple[float, ...]] = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1,
)  # fmt: skip
"""50 µs to 100 ms: below is nothing, above no switch still waits."""


class Counts:
    """A counter: one look into a table for each that is counted."""

    def __init__(self, name: str, meaning: str, labels: tuple[str, ...]) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._counts: dict[tuple[str, ...], int] = {}
        """Bounded: rules and revisions are the operator's, actions and causes ours."""

    def count(self, labels: tuple[str, ...], calls: int = 1) -> None:
        """Count so many."""
        self._counts[labels] = self._counts.get(labels, 0) + calls

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client's Collector."""
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, count in tuple(self._counts.items()):
            family.add_metric(labels, count)
        return [family]


class Durations:
    """A histogram: two additions and a search for each that is observed."""

    def __init__(self, name: str, meaning: str) -> None:
        self._name = name
        self._meaning = meaning
        self._counts = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        at = bisect_left(BUCKETS, seconds)
        self._counts[at] += 1
        self._sum += seconds

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client's Collector."""
        family = HistogramMetricFamily(self._name, self._meaning)
        buckets = zip((*map(str, BUCKETS), "+Inf"), accumulate(self._counts), strict=True)
        family.add_metric((), [*buckets], self._sum)
        return [family]
