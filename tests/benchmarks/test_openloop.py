"""Calls on a schedule: the schedule, the histogram, and the program that sends them."""

import itertools
import json
import socket
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from benchmarks import openloop
from benchmarks.nation import SMALL, Nation
from benchmarks.traffic import ID, SHARES, questions, write_questions
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.running import Running

PHASES = st.lists(st.tuples(st.floats(0.1, 5), st.floats(1, 2000)), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(phases=PHASES, seed=st.integers(0, 2**32 - 1), poisson=st.booleans())
def test_a_schedule_rises_within_its_phases(
    phases: list[tuple[float, float]], seed: int, poisson: bool
) -> None:
    """The same seed gives the same instants, as many in each phase as its rate says."""
    due = openloop.arrivals(phases, seed=seed, poisson=poisson)
    assert (due == openloop.arrivals(phases, seed=seed, poisson=poisson)).all()
    assert (np.diff(due) >= 0).all()
    assert not len(due) or 0 <= due[0] <= due[-1] <= sum(s for s, _ in phases) * 1e9
    begun = 0.0
    for seconds, rate in phases:
        count = ((due >= int(begun * 1e9)) & (due < int((begun + seconds) * 1e9))).sum()
        expected = seconds * rate
        # Six standard deviations of a Poisson count; one call of rounding at the ends of phases.
        assert abs(count - expected) <= (6 * expected**0.5 + 6 if poisson else 2)
        begun += seconds


def test_poisson_arrivals_come_in_clumps() -> None:
    """The gaps are as long as they are different: that is what a queue must bear."""
    gaps = np.diff(openloop.arrivals([(50.0, 1000.0)], seed=1)) / 1e9
    assert np.mean(gaps) == pytest.approx(1e-3, rel=0.05)
    assert np.std(gaps) == pytest.approx(1e-3, rel=0.05)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 50_000_000), min_size=1, max_size=300))
def test_percentiles_are_those_of_the_values(values: list[int]) -> None:
    """Each is a value that so many are no larger than, within three digits."""
    told = openloop.latencies(np.array(values, np.float64))
    rising = sorted(values)
    for name, at in openloop.PERCENTILES.items():
        exact = rising[max(1, int(at / 100 * len(values) + 0.5)) - 1]
        assert told[name] == pytest.approx(exact, rel=2e-3, abs=1)
    assert told["max"] == rising[-1]


def test_two_runs_of_the_traffic_ask_the_same() -> None:
    """And the kinds of call come in their shares: calls without a number, to emergency numbers."""
    first, second = (questions(5) for _ in range(2))
    asked = [next(first) for _ in range(20_000)]
    assert asked == [next(second) for _ in range(20_000)]
    seen = Counter(each["call_id"] for each in asked)
    assert len(asked) - len(seen) == pytest.approx(0.03 * len(asked), rel=0.2)
    anonymous = sum(each["calling"] == "anonymous" for each in asked)
    assert anonymous == pytest.approx(0.05 * 0.95 * len(asked), rel=0.2)
    busiest = Counter(each["calling"] for each in asked if each["calling"] != "anonymous")
    assert max(count for number, count in busiest.items() if number[:2] == "+8") > 15
    assert sum(share for _, share in SHARES) == pytest.approx(1)


def test_written_questions_can_be_filled_in(tmp_path: Path) -> None:
    """A line each; a retransmission is the line before it again."""
    file = tmp_path / "questions"
    write_questions(file, 1, 3_000, Nation(SMALL))
    lines = file.read_text("utf-8").splitlines()
    assert len(lines) == 3_000
    for before, line in itertools.pairwise(lines):
        assert line.count(ID) == 1
        assert json.loads(line[1:])["called"]
        assert line[0] == "N" or line[1:] == before[1:]


def test_every_call_is_sent_and_its_answer_told(service: Running, tmp_path: Path) -> None:
    """Against a real service: each call once, in order, none before it was due."""
    file = tmp_path / "questions"
    write_questions(file, 2, 500)
    due = openloop.arrivals([(1.0, 200.0)], seed=3)
    before = service.metric("screening_decision_seconds_count")
    outcome = openloop.offer(int(service.url.rpartition(":")[2]), file, due, connections=32)
    assert outcome.answered.all()
    assert (outcome.sent >= due).all()
    assert (outcome.done > outcome.sent).all()
    assert outcome.summary()["calls"] == len(due)
    assert service.metric("screening_decision_seconds_count") - before == len(due)


def test_who_does_not_answer_is_told(tmp_path: Path) -> None:
    """Calls that are lost are failures, not left out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def hold() -> None:
            held.extend(server.accept()[0] for _ in range(4))

        thread = threading.Thread(target=hold)
        thread.start()
        file = tmp_path / "questions"
        write_questions(file, 2, 10)
        due = openloop.arrivals([(0.1, 200.0)], seed=3)
        port = server.getsockname()[1]
        outcome = openloop.offer(port, file, due, connections=4, drain_ms=100)
        thread.join()
        for each in held:
            each.close()
    told = outcome.summary()
    assert told["failed"] == len(due)
    assert told["p99"] == float("inf")
