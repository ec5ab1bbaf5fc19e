"""Numbers beyond what memory should hold: sorted on disk, the same as sorted in memory."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consent.listing import gather
from consent.listing.gather import Gathered, Gathering, sorted_unique


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "HELD", 64)
    monkeypatch.setattr(gather, "SAMPLED", 4)


def gathered(batches: list[list[int]], spill: Path | None) -> Gathered:
    gathering = Gathering(spill)
    for batch in batches:
        gathering.add(np.array(batch, np.uint64))
    return gathering.finish()


values = st.one_of(st.integers(0, 300), st.integers(10**12, 10**12 + 5000), st.just(2**63))


@given(
    batches=st.lists(st.lists(values, max_size=50), max_size=30),
    align=st.sampled_from([1, 7, 100, 98_000]),
    on_disk=st.booleans(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_are_the_sorted_set(
    small: None, tmp_path: Path, batches: list[list[int]], align: int, *, on_disk: bool
) -> None:
    """In parts or whole, from disk or memory: each number once, in order, no block in two parts."""
    result = gathered(batches, tmp_path if on_disk else None)
    expected = sorted({value for batch in batches for value in batch})
    parts = [part.tolist() for part in result.parts(align=align)]
    assert [value for part in parts for value in part] == expected == result.whole().tolist()
    assert result.count == len(expected)
    assert result.sha256.digest() == hashlib.sha256(np.array(expected, "<u8").tobytes()).digest()
    blocks = [{value // align for value in part} for part in parts]
    assert sum(map(len, blocks)) == len(set().union(*blocks))
    assert list(tmp_path.iterdir()) == []


def test_parts_are_few_and_small(small: None, tmp_path: Path) -> None:
    """Runs that overlap wholly are cut into ranges of about the size that memory holds."""
    batches = np.random.default_rng(3).permutation(6400).reshape(-1, 64)
    parts = list(gathered(batches.tolist(), tmp_path).parts())
    assert 50 <= len(parts) <= 200
    assert max(map(len, parts)) <= 64 * 4


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40))
def test_sorted_unique(numbers: list[int]) -> None:
    """Sorting agrees with the set."""
    assert sorted_unique(np.array(numbers, np.uint64)).tolist() == sorted(set(numbers))
