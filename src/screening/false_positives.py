"""How often who was warned of or blocked was so wrongly: what appeals and called parties say."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class FalsePositives(Collector):
    """By rule and category: how many were upheld, and their share of those that were judged."""

    def __init__(self) -> None:
        self.judged: Mapping[tuple[str, str], tuple[int, int]] = {}
        """By rule and category: upheld, and judged in all."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The two families."""
        labels = ("rule", "category")
        ratio = GaugeMetricFamily(
            "screening_false_positive_ratio",
            "Share of the judged appeals that were upheld.",
            labels=labels,
        )
        upheld = GaugeMetricFamily(
            "screening_false_positives",
            "Decisions that an appeal, or the called party, found to be wrong.",
            labels=labels,
        )
        for names, (wrong, judged) in self.judged.items():
            ratio.add_metric(names, wrong / judged)
            upheld.add_metric(names, wrong)
        yield from (ratio, upheld)
