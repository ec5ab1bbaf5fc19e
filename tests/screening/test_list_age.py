"""A list older than it may be is another fact than a list that names nobody, or none at all."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.running import Running, wait_for

from consent.keyring import Keyring
from consent.record import Record
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


def test_a_list_grows_too_old(own_service: Running) -> None:
    """Its age passes what is permitted: metric and fact say so, and the node stays in service."""
    noon = (datetime.now(UTC) + timedelta(days=7)).replace(hour=17)  # in New York
    sale = {"calling": "+12125550123", "called": "+12125550149", "at": noon.isoformat()}

    def watched() -> object:
        return [hit["rule"] for hit in own_service.screen(**sale)["shadow"]]

    assert watched() == []
    keyring = Keyring.load_or_create(own_service.state / "secrets.json")
    record = Record.open(str(own_service.state / "record.db"), keyring=keyring)
    try:
        # In days a person permits; the catalogue counts seconds.
        record.catalogue.permit_age("sample-us-dnc", 1, actor="test")
    finally:
        record.close()
    wait_for(
        lambda: own_service.metric("screening_list_stale", list="sample-us-dnc") == 1,
        seconds=30,
        what="the list to be too old",
    )
    assert watched() == ["us.registry.stale"]
    assert own_service.ready()["ready"] is True
