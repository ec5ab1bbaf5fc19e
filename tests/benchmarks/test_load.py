"""Load: shapes, what a run is held to, and the report of it."""

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from benchmarks import plots
from benchmarks.load import OBJECTIVES, tell
from benchmarks.machine import machine
from benchmarks.report import Calls, judged
from benchmarks.shapes import SHAPES

LIMITS = tomllib.loads(OBJECTIVES.read_text("utf-8"))


def calls_of(seconds: float, *, degraded: tuple[float, float] = (0, 0), took: float = 800) -> Calls:
    """A hundred calls a second, those due in a stretch of time degraded."""
    when = np.arange(0, seconds, 0.01)
    return Calls(
        when,
        took + 5 * (when * 100 % 40),
        (when >= degraded[0]) & (when < degraded[1]),
        np.zeros(len(when), bool),
        np.full(len(when), 12.0),
    )


def test_every_shape_has_objectives_and_an_end() -> None:
    """And every objective a shape."""
    assert set(LIMITS) == set(SHAPES)
    for shape in SHAPES.values():
        assert shape.share(0) is not None
        assert shape.share(shape.seconds + 0.001) is None
        assert 0 < shape.seconds <= 60
        figures = calls_of(shape.seconds).figures(shape) | {"reloads": 9}
        assert set(LIMITS[shape.name]) <= set(figures)
        assert all(held for *_, held in judged(LIMITS[shape.name], figures))


@pytest.mark.parametrize(("until", "held"), [(17.9, True), (18.1, False)])
def test_recovery_counts_from_the_end_of_the_disturbance(until: float, held: bool) -> None:
    """Two seconds after an overload ends everything is screened in full again."""
    shape = SHAPES["overload"]
    figures = calls_of(24, degraded=(7, until)).figures(shape)
    verdicts = {name: ok for name, *_, ok in judged(LIMITS["overload"], figures)}
    assert verdicts["recovery_s"] is held
    assert figures["degraded_share"] == 0


def test_one_call_in_a_thousand_is_no_overload() -> None:
    """A moment of the machine later on is what the other shapes allow at any time; more is not."""
    shape = SHAPES["overload"]
    when = np.arange(0, 24, 0.001)
    of_call = np.zeros(len(when), bool)
    for stray, recovery in ((8, 0), (16, 5)):
        late = of_call.copy()
        late[21_000 : 21_000 + stray] = True
        told = Calls(when, np.full(len(when), 800.0), late, of_call, np.full(len(when), 12.0))
        assert told.figures(shape)["recovery_s"] == pytest.approx(recovery, abs=0.02)


@pytest.mark.parametrize("missed", [False, True])
def test_a_missed_objective_is_the_exit_code(
    tmp_path: Path, missed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON and a page without anything beside it are written either way."""
    shape = SHAPES["smoke"]
    calls = calls_of(5, took=30_000 if missed else 800)
    figures = calls.figures(shape)
    verdicts = judged(LIMITS["smoke"], figures)
    code = tell(shape, calls, figures, verdicts, machine(), how="So.", results=tmp_path)
    assert code == missed
    assert ("MISSED p99_ms" in capsys.readouterr().out) is missed
    page = (tmp_path / "load-smoke.html").read_text("utf-8")
    assert f"objectives {'missed' if missed else 'held'}" in page
    assert not re.search(r"<script|<link|src=|url\(|@import", page)
    assert machine()["commit"] in page
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawn) == 4
    for each in drawn:
        assert ET.fromstring(each).tag.endswith("svg")  # noqa: S314 - our own


@pytest.mark.parametrize(
    "axis",
    [
        plots.linear("calls", 1234),
        plots.logarithmic("ms", 0.03, 700),
        plots.logarithmic("ms", 5, 5),
        plots.percentiles(99.99),
    ],
    ids=["linear", "logarithmic", "one value", "percentiles"],
)
def test_an_axis_runs_from_end_to_end(axis: plots.Axis) -> None:
    """Its marks rise within it, and what lies beyond lies at its end."""
    shares = [axis.share(value) for value, _ in axis.ticks]
    assert shares == sorted(shares)
    assert axis.share(axis.low) == 0
    assert axis.share(axis.high) == pytest.approx(1)
    assert axis.share(axis.high * 10) == pytest.approx(1)
