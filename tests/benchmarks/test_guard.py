"""The regression guard: what it counts is one path, and what it says of a count."""

from pathlib import Path

import orjson
import pytest
from benchmarks import guard
from benchmarks.path import DecisionPath, bodies

COUNT = {"read": 100, "decide": 300, "write": 100, "call": 500}


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    """A file that has `COUNT` for this machine."""
    file = tmp_path / "baseline.json"
    guard.write_baseline(file, COUNT, asked="q")
    return file


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [(0, 0, "As the baseline"), (24, 0, "As the baseline"), (26, 1, "FAILED"), (-30, 0, "less")],
)
def test_over_five_percent_fails(baseline: Path, change: int, code: int, said: str) -> None:
    """The whole call decides, and what to do next is said."""
    now = COUNT | {"decide": COUNT["decide"] + change, "call": COUNT["call"] + change}
    got, words = guard.judge(baseline, now, asked="q", in_ci=False)
    assert got == code
    assert said in words
    assert (code == 0 and change == 24) or change == 0 or "BASELINE=new" in words


@pytest.mark.parametrize("in_ci", [True, False])
@pytest.mark.parametrize("asked", ["q", "others"])
def test_what_cannot_be_compared_fails_in_ci_alone(
    tmp_path: Path, baseline: Path, asked: str, in_ci: bool
) -> None:
    """No entry for this kind of machine, or one of other questions."""
    file = tmp_path / "none.json" if asked == "q" else baseline
    code, words = guard.judge(file, COUNT, asked=asked, in_ci=in_ci)
    assert code == in_ci
    assert "BASELINE=new" in words


def test_a_new_baseline_leaves_the_others(baseline: Path) -> None:
    """Entries of other machines stay as they are."""
    entries = orjson.loads(baseline.read_bytes())
    baseline.write_bytes(orjson.dumps(entries | {"other": {"questions": "x"}}))
    guard.write_baseline(baseline, COUNT | {"call": 900}, asked="q")
    entries = orjson.loads(baseline.read_bytes())
    assert entries["other"] == {"questions": "x"}
    assert entries[guard.key()]["instructions"]["call"] == 900


def test_the_committed_baseline_is_of_these_questions() -> None:
    """Who changes the traffic re-baselines with it."""
    entries = orjson.loads(guard.BASELINE.read_bytes())
    asked = guard.asked_digest(bodies(guard.SEED, guard.LONG))
    assert {entry["questions"] for entry in entries.values()} == {asked}


def test_the_path_decides_as_it_should_and_each_time_the_same() -> None:
    """Every action comes up in what is counted, and no answer is a failure of ours."""
    asked = bodies(guard.SEED, guard.LONG)
    first, second = (
        [path.answer(body) for body in asked] for path in (DecisionPath(), DecisionPath())
    )
    assert first == second
    answers = [orjson.loads(answer) for answer in first]
    assert {answer["action"] for answer in answers} == {"allow", "warn", "block"}
    assert not any(answer["degraded"] or answer["cause"] == "internal_error" for answer in answers)
