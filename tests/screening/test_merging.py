"""Metrics of many workers as one: what is added up, what is told apart, what is kept."""

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from screening.merging import Snapshot, Tally, exposition, merged, snapshot


def counted(calls: dict[str, int], *, seconds: tuple[float, ...] = (), **gauges: float) -> Snapshot:
    """What a worker tells, as the supervisor reads it."""
    registry = CollectorRegistry()
    counter = Counter("screening_calls", "Calls.", ("action",), registry=registry)
    for action, count in calls.items():
        counter.labels(action).inc(count)
    histogram = Histogram("screening_seconds", "Time.", buckets=(0.1, 1), registry=registry)
    for each in seconds:
        histogram.observe(each)
    for name, value in gauges.items():
        Gauge(f"screening_{name}", "State.", registry=registry).set(value)
    return orjson.loads(orjson.dumps(snapshot(registry)))


def shown(
    *live: Snapshot, dead: Tally | None = None
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = exposition(
        merged(live, dead or Tally(), speaking={str(n): each for n, each in enumerate(live)})
    ).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")  # the service turns them off
    }


def test_counts_are_added_up() -> None:
    """Counters by their labels, histograms by bucket, in the order of the buckets."""
    one = counted({"allow": 3, "block": 1}, seconds=(0.05, 0.5))
    two = counted({"allow": 4, "warn": 2}, seconds=(0.5, 5))
    found = shown(one, two)
    assert found["screening_calls_total", (("action", "allow"),)] == 7
    assert found["screening_calls_total", (("action", "block"),)] == 1
    assert found["screening_calls_total", (("action", "warn"),)] == 2
    buckets = [
        (labels[0][1], value)
        for (name, labels), value in found.items()
        if name == "screening_seconds_bucket"
    ]
    assert buckets == [("0.1", 1), ("1.0", 3), ("+Inf", 4)]
    assert found["screening_seconds_count", ()] == 4
    assert found["screening_seconds_sum", ()] == 6.05


def test_states_are_told_by_worker() -> None:
    """But for those of which each has a part, and those of one thing that all see."""
    found = shown(
        counted({}, breaker_open=1, recall_calls=10, list_age_seconds=5),
        counted({}, breaker_open=0, recall_calls=20, list_age_seconds=50),
    )
    assert found["screening_breaker_open", (("worker", "0"),)] == 1
    assert found["screening_breaker_open", (("worker", "1"),)] == 0
    assert found["screening_recall_calls", ()] == 30
    assert found["screening_list_age_seconds", ()] == 50


def test_one_process_that_all_tell_of_is_told_once() -> None:
    """What the recorder of the node counts is not counted once a worker, nor kept for the dead."""
    registry = CollectorRegistry()
    Counter("screening_recorder_calls", "Calls.", registry=registry).inc(7)
    Gauge("screening_recorder_up", "State.", registry=registry).set(1)
    taken, dead = snapshot(registry), Tally()
    dead.add(taken)
    assert shown(taken, taken, dead=dead) == {
        ("screening_recorder_calls_total", ()): 7,
        ("screening_recorder_up", ()): 1,
    }


def test_what_the_dead_counted_is_kept() -> None:
    """Their counts go on, their states do not; the living are not counted twice."""
    dead = Tally()
    dead.add(counted({"allow": 5}, seconds=(0.05,), breaker_open=1))
    living = counted({"allow": 2})
    for _ in range(2):
        found = shown(living, dead=dead)
        assert found["screening_calls_total", (("action", "allow"),)] == 7
        assert found["screening_seconds_count", ()] == 1
        assert not [name for name, _ in found if name == "screening_breaker_open"]


def test_nothing_that_is_no_number_is_shown() -> None:
    """A gauge that is infinite or undefined has no value in JSON, and none for Prometheus."""
    found = shown(counted({}, lag=float("nan")), counted({}, lag=2))
    assert [key for key in found if key[0] == "screening_lag"] == [
        ("screening_lag", (("worker", "1"),))
    ]
