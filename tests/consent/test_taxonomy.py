"""The words of authorities, in ours."""

from collections import Counter

import pytest

from consent.category import BIT, NOT_COMMERCIAL, Category
from consent.taxonomy import PUBLISHED, category_of


def test_the_lists_are_whole() -> None:
    """China's nine trades, India's eight preferences and the FTC's fifteen subjects, once each."""
    counts = Counter(authority for authority, *_ in PUBLISHED)
    assert counts == {"cn.trade": 9, "in.preference": 8, "us.ftc.subject": 15}
    assert len({(authority, name) for authority, name, *_ in PUBLISHED}) == counts.total()
    assert all(source for *_, source in PUBLISHED)


@pytest.mark.parametrize(
    ("authority", "name", "category"),
    [
        ("cn.trade", "maternity", "maternity"),
        ("in.preference", "8", "food"),
        ("us.ftc.subject", "Vacation  & timeshares", "tourism"),
        ("us.ftc.subject", " charities ", "charity"),
        ("us.ftc.subject", "Other", ""),
        ("us.ftc.subject", "Gardening", None),
        ("in.preference", "9", None),
        ("fr.bloctel", "8", None),
    ],
)
def test_a_name_means_a_category(authority: str, name: str, category: str | None) -> None:
    """Spaces and case play no part; what no authority says is None, not "none of the trades"."""
    assert category_of(authority, name) == category


def test_every_category_has_a_bit_of_its_own() -> None:
    """Commercial ones below 40, the others from 40, so that masks can tell them apart."""
    assert set(BIT) == set(Category)
    assert len(set(BIT.values())) == len(BIT)
    for category, bit in BIT.items():
        assert (bit >= 40) is (category in NOT_COMMERCIAL)
