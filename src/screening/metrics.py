"""What Prometheus sees of a worker: one registry, every metric with help and unit.

No number, name of a caller or other text that a caller can choose is ever a label.
"""

import time
from collections.abc import Iterable
from typing import Final, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from consent.index import IndexReader
from screening import __version__
from screening.compiled import is_compiled
from screening.counters import Counts, Durations
from screening.recall import Recall
from screening.snapshot import ListInForce

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_ENFORCEMENT_BUCKETS: Final = (
    0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60,
)  # fmt: skip
"""100 ms is promised; what waits for the index takes as long as that is gone."""


_ACTIVATION_BUCKETS: Final = (0.05, 0.1, 0.2, 0.5, 1, 1.5, 2, 5, 10, 60)
"""2 s is promised."""


# When a series began is of no use to any panel, and a third of the scrape.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one worker."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        Gauge(
            "screening_build_info",
            "The release that runs, and whether its decision path is compiled, always 1.",
            ("version", "compiled"),
            registry=registry,
        ).labels(__version__, str(is_compiled()).lower()).set(1)
        self.decisions = Counts(
            "screening_decisions",
            "Calls decided, each call key once, by what was decided and why.",
            ("action", "cause", "rule", "ruleset"),
        )
        self.repeats = Counter(
            "screening_repeated_questions",
            "Questions about a call that was decided before: forks, retransmissions, loops.",
            registry=registry,
        )
        self.shadow = Counts(
            "screening_shadow_decisions",
            "What rules in shadow mode would have decided.",
            ("action", "rule", "ruleset"),
        )
        self.decision_seconds = Durations(
            "screening_decision_seconds", "Time from the question read to the answer, in seconds."
        )
        self.facts_seconds = Durations(
            "screening_facts_seconds",
            "Time one read of the index took, in seconds, whatever came of it.",
        )
        for counter in (self.decisions, self.shadow, self.decision_seconds, self.facts_seconds):
            registry.register(cast("Collector", counter))
        self.degraded = Counter(
            "screening_degraded",
            "Calls decided while facts were missing.",
            registry=registry,
        )
        self.rule_errors = Counter(
            "screening_rule_errors",
            "Conditions that failed on a call and were taken as not matching.",
            ("rule", "ruleset"),
            registry=registry,
        )
        self.internal_errors = Counter(
            "screening_internal_errors",
            "Calls answered with the default because something broke outside a condition.",
            registry=registry,
        )
        self.malformed = Counter(
            "screening_malformed_questions",
            "Questions refused as malformed, by the field at fault.",
            ("field",),
            registry=registry,
        )
        self.ignored = Counter(
            "screening_unknown_fields",
            "Fields and values of a question that were ignored: a field by its name where its "
            'value is unknown, "other" where the field is.',
            ("field",),
            registry=registry,
        )
        self.washed = Counter(
            "screening_washed_numbers",
            "Numbers washed, by what they were answered; limited: not answered.",
            ("answer",),
            registry=registry,
        )
        self.honey_washed = Counter(
            "screening_honey_numbers_washed",
            "Numbers that nobody should ever wash and somebody did; the audit says who.",
            registry=registry,
        )
        self.reloads = Counter(
            "screening_reloads",
            "What was taken in while running, by kind and whether it held.",
            ("kind", "outcome"),
            registry=registry,
        )
        self.reload_failed = Gauge(
            "screening_reload_failed",
            "1 while the last reload of this kind failed and the one before is still in force.",
            ("kind",),
            registry=registry,
        )
        self.ruleset_info = Gauge(
            "screening_ruleset_info",
            "The rule sets in force, always 1.",
            ("ruleset", "revision"),
            registry=registry,
        )
        self.activation_seconds = Histogram(
            "screening_rules_activation_seconds",
            "Time from the activation of rules, by the clock of who activated, until they were "
            "in force in this worker, in seconds.",
            buckets=_ACTIVATION_BUCKETS,
            registry=registry,
        )
        self.rules_mismatch = Gauge(
            "screening_rules_revision_mismatch",
            "1 while this worker cannot run the rules that are active; /readyz says why.",
            registry=registry,
        )
        self.rules_revision = Gauge(
            "screening_rules_revision_info",
            "The bundle of rules in force by its digest, or the folder, always 1.",
            ("revision",),
            registry=registry,
        )
        self.enforcement_seconds = Histogram(
            "screening_enforcement_seconds",
            "Time until this worker decides by it, in seconds: by a decision of a subscriber from "
            "the request, by a list or an entity from its change in the record, by the clock of "
            "who changed it.",
            ("facts",),
            buckets=_ENFORCEMENT_BUCKETS,
            registry=registry,
        )
        self.notices = Gauge(
            "screening_notices",
            "Notices of the ladder by what became of them.",
            ("state",),
            registry=registry,
        )
        self._lists = _Lists()
        registry.register(self._lists)

    def follow(self, reader: IndexReader) -> None:
        """Expose what the index reader counts."""
        self.registry.register(_ReaderCounts(reader))

    def follow_recall(self, recall: Recall) -> None:
        """Expose what the recall holds and counts."""
        self.registry.register(_RecallCounts(recall))

    def lists_in_force(self, lists: Iterable[ListInForce]) -> None:
        """Show these lists and no others."""
        self._lists.in_force = tuple(lists)

    def rulesets_in_force(self, revisions: Iterable[tuple[str, str]]) -> None:
        """Show these rule sets (name, revision) and no others."""
        self.ruleset_info.clear()
        for name, revision in revisions:
            self.ruleset_info.labels(name, revision).set(1)

    def exposition(self) -> bytes:
        """The registry in the Prometheus text format."""
        return generate_latest(self.registry)


class _Lists(Collector):
    """Read when scraped: an age goes on growing when loading has stopped."""

    def __init__(self) -> None:
        self.in_force: tuple[ListInForce, ...] = ()

    def collect(self) -> Iterable[Metric]:
        generation = GaugeMetricFamily(
            "screening_list_generation",
            "The generation of a list in force.",
            labels=("list", "kind"),
        )
        entries = GaugeMetricFamily(
            "screening_list_entries", "Entries of a list in force.", labels=("list", "kind")
        )
        age = GaugeMetricFamily(
            "screening_list_age_seconds",
            "Time since the generation in force was activated, in seconds.",
            labels=("list", "kind"),
        )
        stale = GaugeMetricFamily(
            "screening_list_stale",
            "1 while a list in force is older than it may be: its facts are stale to the rules.",
            labels=("list", "kind"),
        )
        now = time.time()
        for each in self.in_force:
            labels = (each.name, each.kind)
            generation.add_metric(labels, each.generation)
            entries.add_metric(labels, each.entries)
            age.add_metric(labels, now - each.since)
            stale.add_metric(labels, float(bool(each.stale_at) and now >= each.stale_at))
        return generation, entries, age, stale


class _ReaderCounts(Collector):
    """The reader counts in plain integers on the hot path; they are read when scraped."""

    def __init__(self, reader: IndexReader) -> None:
        self._reader = reader

    def collect(self) -> Iterable[Metric]:
        reader = self._reader
        is_open = GaugeMetricFamily(
            "screening_index_breaker_open",
            "1 while a node of the index is taken as gone: calls are decided without its facts.",
            labels=("node",),
        )
        for node, state in reader.nodes.states().items():
            is_open.add_metric((node,), float(state == "open"))
        yield is_open
        reads = CounterMetricFamily(
            "screening_index_reads", "Reads of the index, by outcome.", labels=("outcome",)
        )
        for outcome, count in reader.outcomes().items():
            reads.add_metric((outcome,), count)
        yield reads


class _RecallCounts(Collector):
    """The recall counts in plain integers on the hot path; they are read when scraped."""

    def __init__(self, recall: Recall) -> None:
        self._recall = recall

    def collect(self) -> Iterable[Metric]:
        recall = self._recall
        for name, meaning, value in (
            ("calls", "Recent calls kept for replays.", recall.calls),
            ("bytes", "What they take on disk, in bytes.", recall.size),
            ("share", "Share of calls that is chosen to be kept, 0 to 1.", recall.share),
        ):
            gauge = GaugeMetricFamily(f"screening_recall_{name}", meaning)
            gauge.add_metric((), value)
            yield gauge
        chosen = CounterMetricFamily("screening_recall_chosen", "Calls chosen to be kept.")
        chosen.add_metric((), recall.taken)
        yield chosen
        dropped = CounterMetricFamily(
            "screening_recall_dropped",
            "Calls chosen and not kept: too many at once, not to be written, or no disk.",
            labels=("reason",),
        )
        for reason, count in tuple(recall.dropped.items()):
            dropped.add_metric((reason,), count)
        yield dropped
