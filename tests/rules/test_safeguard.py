"""Calls that pass before any pack is asked."""

from collections.abc import Mapping

import pytest

from rules.cases import call_from
from rules.safeguard import safeguard
from rules.verdict import Action, Cause

HOME = {"calling": "+12015550123", "called": "+12125550101"}


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        pytest.param({"called": "911", "region": "US"}, "emergency", id="911"),
        pytest.param({"called": "122", "region": "CN"}, "emergency", id="a code libraries miss"),
        pytest.param({"called": "999"}, "emergency", id="a code of some country, region unknown"),
        pytest.param({"called": "urn:service:sos.fire"}, "emergency", id="a service urn"),
        pytest.param({"called": "sip:112@example.com;user=phone"}, "emergency", id="a sip uri"),
        pytest.param(
            {"dialled": "911", "region": "US"}, "emergency", id="dialled, then translated"
        ),
        pytest.param({"called": "988", "region": "US"}, "emergency", id="a crisis line"),
        pytest.param({"priority": "emergency"}, "emergency", id="priority"),
        pytest.param({"priority": "psap-callback"}, "psap_callback", id="a call back"),
        pytest.param({"priority": "wps"}, "priority", id="wireless priority"),
        pytest.param({"cpc": "emergency"}, "emergency", id="category emergency"),
        pytest.param({"cpc": "priority"}, "priority", id="category priority"),
        pytest.param({"resource_priority": "esnet.0"}, "emergency", id="esnet"),
        pytest.param({"resource_priority": "dsn.flash, WPS.1"}, "priority", id="second of two"),
        pytest.param({"called": "nonsense"}, "invalid_called", id="called is no number"),
        pytest.param({"calling": "12345", "region": "CN"}, "protected_series", id="public service"),
        pytest.param({"calling": "+911600000000"}, "protected_series", id="a bank's series"),
    ],
)
def test_a_safeguard_lets_a_call_pass(fields: Mapping[str, str], rule: str) -> None:
    """The rule says which."""
    verdict = safeguard(call_from({**HOME, **fields}))
    assert verdict is not None
    assert (verdict.action, verdict.rule) == (Action.ALLOW, f"safeguard.{rule}")
    emergency = rule in ("emergency", "psap_callback")
    assert verdict.cause is (Cause.EMERGENCY if emergency else Cause.SAFEGUARD)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="an ordinary call"),
        pytest.param({"called": "+12125550911"}, id="a number that ends so"),
        pytest.param({"cpc": "payphone"}, id="a payphone"),
        pytest.param({"resource_priority": "esnetx.1, wps.9, xwps.1"}, id="other namespaces"),
        pytest.param({"calling": "not a number"}, id="calling is no number"),
        pytest.param({"calling": "12345", "region": "CN", "route": "international"},
                     id="a public service from abroad"),
        pytest.param({"calling": "12345", "region": "CN", "verstat": "TN-Validation-Failed-C"},
                     id="a public service that failed verification"),
        pytest.param({"calling": "95000000", "region": "CN"}, id="a series that is not protected"),
    ],
)  # fmt: skip
def test_every_other_call_is_for_the_packs(fields: Mapping[str, str]) -> None:
    """What only looks like a safeguard's is none."""
    assert safeguard(call_from({**HOME, **fields})) is None


def test_what_the_transport_found_on_the_raw_text_counts() -> None:
    """Nothing else of the call is looked at."""
    verdict = safeguard(call_from(HOME), emergency=True)
    assert verdict is not None
    assert verdict.rule == "safeguard.emergency"
