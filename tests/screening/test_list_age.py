"""A list older than it may be is another fact than a list that names nobody, or none at all."""

import pytest
from tests.running import Running

from screening.screener import DncList, DncPlan

AT = 1_790_000_000.0


@pytest.mark.parametrize(
    ("lists", "state"),
    [
        ([], "none"),
        ([("US", 0.0)], "none"),
        ([("GB", 0.0)], "current"),
        ([("", 0.0)], "current"),
        ([("GB", AT + 1)], "current"),
        ([("GB", AT)], "stale"),
        ([("GB", 0.0), ("GB", AT - 9)], "stale"),
        ([("GB", 0.0), ("US", AT - 9)], "current"),
    ],
)
def test_state_of_lists(lists: list[tuple[str, float]], state: str) -> None:
    """The oldest of the lists that a country's numbers may be on decides."""
    plan = DncPlan(
        tuple(
            DncList(at, 1, "all", region, f"list-{at}", stale_at)
            for at, (region, stale_at) in enumerate(lists)
        )
    )
    assert plan.state("GB", AT) == state
    assert plan.state("GB", AT) == state


def test_permitted_age(own_service: Running) -> None:
    """It is kept and audited, an unknown list is refused, and no node is taken out."""
    assert (
        "sample-us-dnc may be 31 days old"
        in own_service.cli("lists", "permit", "sample-us-dnc", "31").stdout
    )
    unknown = own_service.cli("lists", "permit", "nowhere", "31", check=False)
    assert unknown.returncode == 1
    assert "list.permit_age" in own_service.cli("audit").stdout
    assert own_service.metric("screening_list_stale", list="sample-us-dnc") == 0
    assert own_service.ready()["ready"] is True
