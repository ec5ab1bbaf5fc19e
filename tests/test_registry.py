"""The registries that benchmarks load: as many numbers as asked, the same for the same seed."""

import io

import numpy as np
import pytest
from benchmarks.registry import BEHIND, NATIONS, draw, prefixes, taken, text, write
from hypothesis import given
from hypothesis import strategies as st

from consent.listing import Form, read_listing


@given(
    chosen=st.sets(st.integers(1000, 9999), min_size=1, max_size=5),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_as_many_as_asked(chosen: set[int], share: float, seed: int) -> None:
    """Exactly so many, rising, each behind one of the prefixes; the same again."""
    behind = np.array(sorted(chosen))
    count = round(share * len(chosen) * BEHIND)
    drawn = np.concatenate(list(draw(behind, count, seed=seed)))
    assert len(drawn) == count
    assert (np.diff(drawn) > 0).all()
    assert set((drawn // BEHIND).tolist()) <= chosen
    assert (drawn == np.concatenate(list(draw(behind, count, seed=seed)))).all()


@pytest.mark.parametrize("country", NATIONS)
def test_every_line_is_loaded(country: str) -> None:
    """Over all prefixes of the nation, its format reads every number as one of the nation's."""
    count = 20_000
    file = io.BytesIO()
    write(file, country, count, seed=1, spread=True)
    file.seek(0)
    form = Form(NATIONS[country].format, region=country.upper(), called=True)
    listing = read_listing(file, form)
    assert (listing.loaded, listing.rejected) == (count, 0)
    code = str(NATIONS[country].code)
    national = np.concatenate(list(draw(taken(country, count, spread=True), count, seed=1)))
    assert listing.numbers.tolist() == [int(f"{code}{number}") for number in national.tolist()]


def test_nations_are_whole() -> None:
    """The prefixes have room for the registry at a density that nations have."""
    for country, nation in NATIONS.items():
        assert 0.08 < nation.full / (len(prefixes(country)) * BEHIND) < 0.13
    assert text(np.array([2125550101]), form="ftc") == b"212,5550101\n"
