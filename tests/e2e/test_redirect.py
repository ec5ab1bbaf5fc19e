"""Switches that can only ask by SIP: the redirect server of `deploy/kamailio/`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import rpc_port
from tests.e2e.phone import Phone
from tests.e2e.switch import PATIENT, Switch, connected, running_switch
from tests.running import Running, wait_for

CALLED, CALLING = "+12125550101", "+12015550199"
PASSES = {
    "302": {"REDIRECT_HOST": '"192.0.2.7:5060"'},
    "404": {"PASS_CODE": '"404"'},
}


@pytest.fixture(scope="module", params=PASSES)
def redirect(
    request: pytest.FixtureRequest, lookup: Running, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Switch]:
    """The redirect server, with each way to say that a call may ring."""
    port = rpc_port(lookup)
    folder = tmp_path_factory.mktemp("redirect")
    given = PATIENT | PASSES[request.param]
    with running_switch(folder, "redirect.cfg", first=port, second=port, **given) as switch:
        wait_for(lambda: connected(switch, port), seconds=20, what="Kamailio to find the service")
        switch.passes = request.param
        yield switch


@pytest.fixture
def asker(redirect: Switch) -> Iterator[Phone]:
    with Phone(towards=redirect.port) as phone:
        yield phone


def test_pass(redirect: Switch, asker: Phone) -> None:
    """A call that may ring is redirected, or gets the code that the switch takes for a pass."""
    answer = asker.final(asker.invite(CALLED, CALLING))
    if redirect.passes == "302":
        assert answer.first == "SIP/2.0 302 Moved Temporarily"
        assert answer.header("Contact") == f"<sip:{CALLED}@192.0.2.7:5060>"
    else:
        assert answer.first == "SIP/2.0 404 No Objection"
        assert answer.headers("Contact") == []


def test_warn(redirect: Switch, asker: Phone) -> None:
    """A warning passes, with its label in a header."""
    answer = asker.final(asker.invite(CALLED, CALLING, display="warn analytics"))
    assert answer.first.split()[1] == redirect.passes
    assert answer.header("X-Screening-Label") == "Maybe spam"


def test_block(redirect: Switch, asker: Phone) -> None:
    """A refusal is the same as the proxy's."""
    answer = asker.final(asker.invite(CALLED, CALLING, display="block analytics"))
    assert answer.first == "SIP/2.0 603 Network Blocked"
    assert "v=analytics1;" in answer.header("Reason")


def test_emergency(redirect: Switch, asker: Phone) -> None:
    """An emergency call is never refused here."""
    answer = asker.final(asker.invite("urn:service:sos", CALLING, display="block dno"))
    assert answer.first.split()[1] == redirect.passes


def test_other_requests(redirect: Switch, asker: Phone) -> None:
    """OPTIONS says that the server lives."""
    call = asker.invite(CALLED, CALLING)
    asker.final(call)
    asker.send(call.text.replace("INVITE", "OPTIONS").replace(call.branch, call.branch + "o"))
    assert asker.hear("SIP/2.0 200", call=call).header("CSeq") == "1 OPTIONS"


def test_service_gone(tmp_path: Path) -> None:
    """Without any lookup server every call passes, and is counted."""
    with running_switch(tmp_path, "redirect.cfg", first=1, second=1) as switch:
        with Phone(towards=switch.port) as phone:
            for _ in range(5):
                assert phone.final(phone.invite(CALLED, CALLING)).first.startswith("SIP/2.0 302")
        assert switch.counters()["fail_open"] == 5
