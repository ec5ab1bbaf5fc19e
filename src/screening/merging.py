"""The metrics of many workers as those of one: counts added up, states told apart.

A counter never goes back when a worker ends: what the dead had counted is kept (`Tally`). A gauge
gets the label `worker`, but for those named here, which mean the same in every worker.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

SUMMED: Final = frozenset({"screening_recall_bytes", "screening_recall_calls"})
"""Gauges of which each worker has a part."""

LARGEST: Final = frozenset(
    {
        "screening_false_positive_ratio",
        "screening_false_positives",
        "screening_list_age_seconds",
        "screening_list_entries",
        "screening_notices",
    }
)
"""Gauges of one thing that all workers see: the one that sees it worst speaks."""

OF_THE_NODE: Final = ("screening_recorder_",)
"""How the names of what every worker tells of one process begin: told once, and not by worker."""

_COUNTED: Final = ("counter", "histogram", "summary")

Snapshot = list[list[Any]]
"""What a registry had: families as [name, type, help, [[sample name, labels, value], ...]]."""

_Key = tuple[str, tuple[tuple[str, str], ...]]


def snapshot(registry: CollectorRegistry) -> Snapshot:
    """What a registry has now, as it travels to the supervisor."""
    return [
        [
            each.name,
            each.type,
            each.documentation,
            [[sample.name, sample.labels, sample.value] for sample in each.samples],
        ]
        for each in registry.collect()
    ]


class Tally:
    """Counts of several registries, added up; their gauges are left out."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, dict[_Key, float]]] = {}

    def add(self, taken: Snapshot) -> None:
        """Add what a registry counted."""
        for name, kind, about, samples in taken:
            if kind not in _COUNTED or name.startswith(OF_THE_NODE):
                continue
            counts = self._families.setdefault(name, (kind, about, {}))[2]
            for sample, labels, value in samples:
                key = _key(sample, labels)
                counts[key] = counts.get(key, 0.0) + (value or 0.0)

    def copy(self) -> "Tally":
        """The same counts, to be added to apart."""
        other = Tally()
        other._families = {
            name: (kind, about, dict(counts))
            for name, (kind, about, counts) in self._families.items()
        }
        return other

    def families(self) -> Iterable[Metric]:
        """The counts as metrics."""
        for name, (kind, about, counts) in self._families.items():
            yield _family(name, kind, about, counts)


def merged(
    live: Iterable[Snapshot], dead: Tally, *, speaking: Mapping[str, Snapshot]
) -> list[Metric]:
    """The metrics of all workers. Counts are those of the `live` and the `dead`; gauges those
    of the workers `speaking`, by the name that is their label."""
    counts = dead.copy()
    for each in live:
        counts.add(each)
    return [*counts.families(), *_gauges(speaking)]


def exposition(families: Iterable[Metric]) -> bytes:
    """Metrics in the Prometheus text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(tuple(families)))
    return generate_latest(registry)


class _Given(Collector):
    def __init__(self, families: tuple[Metric, ...]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauges(speaking: Mapping[str, Snapshot]) -> Iterable[Metric]:
    found: dict[str, tuple[str, str, dict[_Key, float]]] = {}
    for worker, taken in speaking.items():
        for name, kind, about, samples in taken:
            if kind in _COUNTED and not name.startswith(OF_THE_NODE):
                continue
            values = found.setdefault(name, (kind, about, {}))[2]
            for sample, labels, value in samples:
                if value is None:  # no number in JSON: it says nothing
                    continue
                if name in SUMMED:
                    key = _key(sample, labels)
                    values[key] = values.get(key, 0.0) + value
                elif name in LARGEST or name.startswith(OF_THE_NODE):
                    key = _key(sample, labels)
                    values[key] = max(values.get(key, value), value)
                else:
                    values[_key(sample, {"worker": worker, **labels})] = value
    for name, (kind, about, values) in found.items():
        yield _family(name, kind, about, values)


def _key(sample: str, labels: Mapping[str, str]) -> _Key:
    return sample, tuple(labels.items())


def _family(name: str, kind: str, about: str, values: Mapping[_Key, float]) -> Metric:
    family = Metric(name, about, kind)
    for (sample, labels), value in values.items():
        family.add_sample(sample, dict(labels), value)
    return family
