"""What Prometheus sees of the recording: what this worker could not hand over, and the recorder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from screening.process_status import read_status
from screening.recording.outbox import Outbox

STATUS: Final = "recorder.json"
STALE_SECONDS: Final = 5.0


def recorder_status(folder: Path) -> dict[str, Any] | None:
    """What the recorder of a state folder last said of itself, None where none runs."""
    return read_status(folder / STATUS, stale_seconds=STALE_SECONDS)


class RecordingCounts(Collector):
    """Read when scraped."""

    def __init__(self, folder: Path, outbox: Outbox) -> None:
        self._folder = folder
        self._outbox = outbox

    def collect(self) -> Iterable[Metric]:
        outbox = self._outbox
        dropped = CounterMetricFamily(
            "screening_record_dropped",
            "Calls that this worker could not hand to the recorder, by reason.",
            labels=("reason",),
        )
        for reason in ("full", "unwritable", "shed"):
            dropped.add_metric((reason,), outbox.dropped[reason])
        yield dropped
        sent = CounterMetricFamily("screening_record_sent", "Calls handed to the recorder.")
        sent.add_metric((), outbox.sent)
        yield sent
        waiting = GaugeMetricFamily(
            "screening_record_waiting", "Calls of this worker that wait for the recorder."
        )
        waiting.add_metric((), outbox.waiting)
        yield waiting
        yield from self._recorder()

    def _recorder(self) -> Iterable[Metric]:
        status = recorder_status(self._folder)
        up = GaugeMetricFamily("screening_recorder_up", "1 while the node's recorder runs.")
        up.add_metric((), float(status is not None))
        yield up
        if status is None:
            return
        size = GaugeMetricFamily(
            "screening_recorder_log_bytes", "What the decision log takes on disk, in bytes."
        )
        # Looking at its segments here would take milliseconds of every call that waits. A recorder
        # of before an upgrade does not say.
        size.add_metric((), status.get("log_bytes", 0))
        yield size
        for name, meaning, value in (
            ("calls", "Calls taken in by the recorder since it started.", status["calls"]),
            ("written", "Records written to the decision log.", status["written"]),
            ("repeats", "Questions about a call taken in before.", status["repeats"]),
            ("cpu_seconds", "Processor time of the recorder, in seconds.", status["cpu_seconds"]),
        ):
            counter = CounterMetricFamily(f"screening_recorder_{name}", meaning)
            counter.add_metric((), value)
            yield counter
        lost = CounterMetricFamily(
            "screening_recorder_lost",
            "Calls that are not in the decision log, by reason: the log names them in a gap.",
            labels=("reason",),
        )
        for reason in ("behind", "disk", "outbox"):
            lost.add_metric((reason,), status["lost"].get(reason, 0))
        yield lost
        failed = GaugeMetricFamily(
            "screening_recorder_failed", "1 while the decision log cannot be written."
        )
        failed.add_metric((), float(bool(status["failure"])))
        yield failed
