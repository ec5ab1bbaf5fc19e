"""What Prometheus sees of the watch, from what it last said of itself."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from screening.process_status import read_status
from screening.watching.party import KINDS

STATUS: Final = "watch.json"
STALE_SECONDS: Final = 15.0


def watch_status(folder: Path) -> dict[str, Any] | None:
    """What the watch of a state folder last said of itself, None where none runs."""
    return read_status(folder / STATUS, stale_seconds=STALE_SECONDS)


class WatchCounts(Collector):
    """Read when scraped; `configured` says that the service is to run one."""

    def __init__(self, folder: Path, *, configured: bool) -> None:
        self._folder = folder
        self._configured = configured

    def collect(self) -> Iterable[Metric]:
        status = watch_status(self._folder)
        if status is None and not self._configured:
            return
        up = GaugeMetricFamily("screening_watch_up", "1 while the node's watch runs.")
        up.add_metric((), float(status is not None))
        yield up
        if status is None:
            return
        webhook = status.get("webhook", {})
        for name, meaning, value in (
            ("warnings", "Warnings of campaigns given since the watch started.", status["found"]),
            ("calls", "Calls that the watch has taken in.", status["calls"]),
            ("missed", "Records that were gone before it read them.", status["missed"]),
            ("cpu_seconds", "Processor time of the watch, in seconds.", status["cpu_seconds"]),
            ("webhook_sent", "Warnings that the webhook took.", webhook.get("sent", 0)),
            ("webhook_failed", "Attempts that it did not take.", webhook.get("failed", 0)),
            ("webhook_given_up", "Warnings not told any more.", webhook.get("given_up", 0)),
        ):
            counter = CounterMetricFamily(f"screening_watch_{name}", meaning)
            counter.add_metric((), value)
            yield counter
        waiting = GaugeMetricFamily(
            "screening_watch_open", "Warnings that nobody acknowledged or dismissed, by kind.",
            labels=("kind",),
        )  # fmt: skip
        for kind in KINDS:
            waiting.add_metric((kind,), status.get("open", {}).get(kind, 0))
        yield waiting
        failing = GaugeMetricFamily(
            "screening_watch_webhook_failing", "1 while the webhook takes no warnings."
        )
        failing.add_metric((), float(bool(webhook.get("failure"))))
        yield failing
