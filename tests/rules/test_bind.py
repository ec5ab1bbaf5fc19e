"""What the calling side adds to a call."""

import pytest

from consent.calling import BLOCK, DNO
from rules.bind import bind
from rules.cases import CaseEntity, CaseSide, call_from

LOANS = CaseEntity(7, "Example Loans", ("loans",))
TWO = CaseEntity(8, "Example Holding", ("loans", "property"))
HOME = "+12015550123"
INDIA_PROMOTION = "+911409305260"


@pytest.mark.parametrize(
    ("calling", "purpose", "entity", "category", "basis", "commercial"),
    [
        pytest.param(HOME, "", None, "", "", False, id="nothing known"),
        pytest.param(HOME, "survey", LOANS, "survey", "purpose", False, id="purpose first"),
        pytest.param(HOME, "", LOANS, "loans", "entity", True, id="an entity of one trade"),
        pytest.param(HOME, "", TWO, "", "", False, id="an entity of two trades"),
        pytest.param(INDIA_PROMOTION, "", TWO, "all", "series", True, id="then the series"),
        pytest.param(INDIA_PROMOTION, "", LOANS, "loans", "entity", True, id="before the series"),
    ],
)
def test_the_category_comes_from_the_first_that_knows(
    calling: str, purpose: str, entity: CaseEntity | None, category: str, basis: str,
    commercial: bool,
) -> None:  # fmt: skip
    """Purpose, entity, series, nothing."""
    call = call_from({"calling": calling, "called": HOME, "purpose": purpose})
    bind(call, CaseSide(entity=entity))
    assert (call.category, call.category_basis, call.commercial) == (category, basis, commercial)
    assert (call.entity_id, call.entity) == ((entity.id, entity.name) if entity else (0, ""))


def test_a_call_without_a_number_is_on_no_list() -> None:
    """The calling side is not asked for it."""
    call = call_from({"calling": "anonymous", "called": HOME})
    bind(call, CaseSide(network=DNO | BLOCK, entity=LOANS))
    assert (call.network, call.entity_id) == (0, 0)
