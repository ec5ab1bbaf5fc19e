"""Change lists: what is added and removed, which date decides, and what a list is afterwards."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consent.listing import Form, ListingError, Reason, Rejected, gather
from consent.listing.changes import Changes, read_changes
from consent.listing.gather import Gathered, Gathering

FTC = Form("ftc", called=True)
GB = Form("numbers", region="GB", called=True)
A, B, C = 12125550101, 12125550102, 12125550103


def read(content: str, form: Form = FTC, rejected: list[Rejected] | None = None) -> Changes:
    source = io.BytesIO(content.encode())
    return read_changes(source, form, reject=None if rejected is None else rejected.append)


@pytest.mark.parametrize(
    ("form", "content", "added", "removed"),
    [
        pytest.param(FTC, "212,5550101,2026-11-22,A\n212,5550102,2026-11-22,D\n", [A], [B],
                     id="ftc"),
        pytest.param(FTC, '"2125550101","20261122","D"\r\n', [], [A], id="quoted, compact date"),
        pytest.param(FTC, "212,5550101,2026-11-22T10:00:00Z,A\n212,5550101,2026-11-22T09:00:00Z,D",
                     [A], [], id="the later time decides"),
        pytest.param(FTC, "212,5550101,2026-11-22,A\n2125550101,2026-11-22,D\n", [], [A],
                     id="the later line of one date decides"),
        pytest.param(FTC, "212,5550101,2026-11-22,A\n212,5550101,2026-11-21,D\n", [A], [],
                     id="an earlier date does not"),
        pytest.param(GB, "number,date,change\n# a day\n\n01632 960001,2026-11-22,A\n"
                     "+441632960002,2026-11-22,D\n", [441632960001], [441632960002],
                     id="national digits, below a header"),
    ],
)  # fmt: skip
def test_changes(form: Form, content: str, added: list[int], removed: list[int]) -> None:
    """Each number is added or removed as its last line says."""
    rejected: list[Rejected] = []
    changes = read(content, form, rejected)
    assert (changes.added.tolist(), changes.removed.tolist()) == (added, removed)
    assert rejected == []


def test_lines_that_are_no_change() -> None:
    """They are told with their line, as in a full list."""
    rejected: list[Rejected] = []
    lines = ["212,5550101,2026-11-22,A", "212,5550102", "x", "555,2026-11-22,A"]
    changes = read("\n".join(lines), FTC, rejected)
    assert sorted(rejected) == [
        Rejected(2, Reason.FORM, "212,5550102"),
        Rejected(3, Reason.FORM, "x"),
        Rejected(4, Reason.SHORT_CODE, "555"),
    ]
    assert changes.rejected == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("212,5550101\n", "none is a change", id="a full list"),
        pytest.param("", "none is a change", id="empty"),
        pytest.param("2125550101,2026-11-22,A\n+12125550101,2026-11-22,D\n", "two|another",
                     id="two spellings"),
    ],
)  # fmt: skip
def test_files_that_are_no_change_list(content: str, words: str) -> None:
    """A full list, or one that contradicts itself, changes nothing."""
    with pytest.raises(ListingError, match=words):
        read(content)


few = st.sets(st.integers(0, 60))


def values(numbers: set[int]) -> gather.Values:
    return np.array(sorted(numbers), np.uint64)


def gathered(numbers: set[int], spill: Path) -> Gathered:
    gathering = Gathering(spill)
    gathering.add(values(numbers))
    return gathering.finish()


@given(before=few, days=st.lists(st.tuples(few, few), min_size=1, max_size=4))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changes_day_by_day_or_at_once(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    before: set[int],
    days: list[tuple[set[int], set[int]]],
) -> None:
    """A list changed day by day is that changed by all days as one, and what sets say."""
    monkeypatch.setattr(gather, "HELD", 8)
    monkeypatch.setattr(gather, "SAMPLED", 2)
    expected, step = set(before), gathered(before, tmp_path)
    net: Changes | None = None
    for adds, removes in days:
        change = Changes(values(adds), values(removes - adds))
        applied = change.applied(step, Gathering(tmp_path))
        after = expected - (removes - adds) | adds
        assert applied.added == len(after - expected)
        assert applied.removed == len(expected - after)
        expected, step = after, applied.gathered
        net = net.then(change) if net else change
        again = change.applied(step, Gathering(tmp_path))
        assert (again.added, again.removed) == (0, 0)
    assert net is not None
    at_once = net.applied(gathered(before, tmp_path), Gathering(tmp_path)).gathered
    assert sorted(expected) == at_once.whole().tolist() == step.whole().tolist()
    assert at_once.sha256.digest() == step.sha256.digest()
