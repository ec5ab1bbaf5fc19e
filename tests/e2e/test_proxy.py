"""Calls through the inline proxy of `deploy/kamailio/`, as they stand on the wire."""

import base64
import json

import pytest
from tests.e2e.conftest import BLOCKING
from tests.e2e.phone import Call, Message, Phone
from tests.e2e.switch import Switch
from tests.running import Running, wait_for

CALLED, CALLING = "+12125550101", "+12015550199"
REFUSALS = {
    "network_list": "603 Network Blocked",
    "analytics": "603 Network Blocked",
    "subscriber_refusal": "607 Unwanted",
    "dno": "403 Forbidden",
    "anonymous_rejected": "433 Anonymity Disallowed",
}
"""The causes whose answer a law or an RFC names (FCC 603+, RFC 8197, RFC 5079)."""


def forwarded(callee: Phone, call: Call) -> Message:
    """The INVITE as the next hop gets it, refused there so that the call ends."""
    invite = callee.hear("INVITE", call=call)
    callee.answer(invite, "486 Busy Here")
    return invite


def test_allow(proxy: Switch, caller: Phone, callee: Phone) -> None:
    """A call that may ring goes on as it came, and its answers come back."""
    call = caller.invite(CALLED, CALLING, "Subject: lunch", display="Ann")
    invite = forwarded(callee, call)
    assert invite.first == f"INVITE sip:{CALLED}@127.0.0.1 SIP/2.0"
    assert invite.header("From").startswith(f'"Ann" <sip:{CALLING}@')
    assert invite.header("Subject") == "lunch"
    assert caller.final(call).first == "SIP/2.0 486 Busy Here"


@pytest.mark.parametrize("cause", BLOCKING)
def test_block(lookup: Running, proxy: Switch, caller: Phone, callee: Phone, cause: str) -> None:
    """A blocked call gets the status line and the headers of its verdict, and goes nowhere."""
    name = f"block {cause}"
    call = caller.invite(CALLED, CALLING, display=name)
    refusal = caller.final(call)
    verdict = lookup.screen(
        calling=CALLING, called=CALLED, display_name=name, region="US", call_id=call.call_id
    )
    sip = verdict["sip"]
    assert isinstance(sip, dict)
    assert refusal.first == f"SIP/2.0 {sip['code']} {sip['phrase']}"
    assert refusal.headers("Reason") == ([sip["reason"]] if sip["reason"] else [])
    for header, value in sip["headers"]:
        assert value in refusal.headers(header)
    if cause in REFUSALS:
        assert refusal.first == f"SIP/2.0 {REFUSALS[cause]}"
    assert callee.invites(call) == []


def test_block_names_the_decision(lookup: Running, proxy: Switch, caller: Phone) -> None:
    """603+ has the decision's id and where to complain (ATIS, FCC 2025)."""
    call = caller.invite(CALLED, CALLING, display="block analytics")
    reason = caller.final(call).header("Reason")
    verdict = lookup.screen(
        calling=f"sip:{CALLING}@127.0.0.1", called=f"sip:{CALLED}@127.0.0.1", region="US",
        call_id=call.call_id, display_name="block analytics",
    )  # fmt: skip
    assert reason == (
        f'SIP;cause=603;text="v=analytics1;url={verdict["redress"]};'
        f'id={verdict["decision_id"]}";location=RLN'
    )


def test_warn(proxy: Switch, caller: Phone, callee: Phone) -> None:
    """A warned call rings with its label before the caller's own name."""
    call = caller.invite(CALLED, CALLING, display="warn analytics")
    invite = forwarded(callee, call)
    expected = f'"Maybe spam warn analytics" <sip:{CALLING}@127.0.0.1>'
    assert invite.header("From").startswith(expected)
    # The caller does not see what the called party was shown.
    back = caller.final(call)
    assert back.header("From").startswith(f'"warn analytics" <sip:{CALLING}@')


def test_refusal_of_the_subscriber(lookup: Running, proxy: Switch, caller: Phone) -> None:
    """A call that the sample registry blocks, by number alone."""
    call = caller.invite("+12125550140", "+12125550123", to="sip:+12125550140@127.0.0.1")
    assert caller.final(call).first.startswith("SIP/2.0 607")


def test_anonymous(proxy: Switch, caller: Phone, callee: Phone) -> None:
    """A call without a number is screened as one, and rings where nobody refused those."""
    call = caller.invite(CALLED, "sip:anonymous@anonymous.invalid", display="Anonymous")
    assert forwarded(callee, call).header("From").startswith('"Anonymous" <sip:anonymous@')
    refused = caller.invite(
        CALLED, "sip:anonymous@anonymous.invalid", display="block anonymous_rejected"
    )
    assert caller.final(refused).first == "SIP/2.0 433 Anonymity Disallowed"


@pytest.mark.parametrize("called", ["911", "112", "urn:service:sos", "urn:service:sos.fire"])
def test_emergency(proxy: Switch, caller: Phone, callee: Phone, called: str) -> None:
    """An emergency call goes on, whatever the caller's name would have it blocked for."""
    call = caller.invite(called, CALLING, display="block dno")
    assert forwarded(callee, call).first.startswith(f"INVITE {call.uri} ")


def test_verdicts_from_outside_are_stripped(proxy: Switch, caller: Phone, callee: Phone) -> None:
    """Nobody outside says what our verdict was; other headers pass."""
    spoofed = ("X-Screening-Label: Trusted bank", "x-screening-verdict: allow", "X-Other: kept")
    invite = forwarded(callee, caller.invite(CALLED, CALLING, *spoofed))
    assert "screening-" not in invite.text.lower().replace("record-route", "")
    assert invite.header("X-Other") == "kept"


def test_asserted_identity(lookup: Running, proxy: Switch, caller: Phone) -> None:
    """From a trusted peer P-Asserted-Identity is the calling number, tel before sip."""
    blocked = "+441632960077"  # of the sample's block list
    asserted = f"P-Asserted-Identity: <sip:+12015550100@127.0.0.1>, <tel:{blocked}>"
    call = caller.invite("+447700900123", CALLING, asserted)
    assert caller.final(call).first.startswith("SIP/2.0 6")


def test_fields_of_the_contract(lookup: Running, proxy: Switch, caller: Phone) -> None:
    """Whatever SIP carries reaches the rules: the question is the one that HTTP would send."""
    claims = base64.urlsafe_b64encode(
        json.dumps({"attest": "A", "origid": "9c7e", "orig": {"tn": CALLING[1:]}}).encode()
    ).decode().rstrip("=")  # fmt: skip
    headers = (
        f"P-Asserted-Identity: <tel:{CALLING};cpc=ordinary;verstat=TN-Validation-Passed>",
        'P-Charging-Vector: icid-value="icid-77";orig-ioi=a.example',
        f"Identity: eyJhbGciOiJFUzI1NiJ9.{claims}.c2ln;info=<https://a.example/c>;alg=ES256",
        (
            "Diversion: <sip:+12125550155@127.0.0.1>;reason=no-answer;counter=2, "
            "<sip:+12125550166@127.0.0.1>;reason=unconditional"
        ),
        'Call-Info: <https://a.example/j>;purpose=jcard;call-reason="your parcel"',
        "Privacy: id",
    )
    before = lookup.metric("screening_decisions_total")
    call = caller.invite(CALLED, CALLING, *headers, display="block network_list", call_id="own-id")
    refusal = caller.final(call)
    # The ICID was the key of the call, so the decision is the one that HTTP gives for it.
    verdict = lookup.screen(
        calling=CALLING, called=CALLED, call_id="icid-77", region="US",
        display_name="block network_list",
    )  # fmt: skip
    assert f"id={verdict['decision_id']}" in refusal.header("Reason")
    wait_for(
        lambda: lookup.metric("screening_decisions_total") > before, seconds=5, what="the count"
    )
    assert lookup.metric("screening_malformed_questions_total") == 0
    assert lookup.metric("screening_unknown_fields_total") == 0


def test_retransmission(proxy: Switch, caller: Phone, callee: Phone) -> None:
    """An INVITE that is sent again is the same call: one lookup, one INVITE onward."""
    before = proxy.counters()["asked"]
    call = caller.invite(CALLED, CALLING)
    for _ in range(3):
        caller.again(call)
    invite = callee.hear("INVITE", call=call)
    callee.answer(invite, "180 Ringing")
    caller.hear("SIP/2.0 180", call=call)
    callee.answer(invite, "486 Busy Here")
    caller.final(call)
    assert proxy.counters()["asked"] == before + 1
    branches = {each.headers("Via")[0] for each in callee.invites(call)}
    assert len(branches) == 1


def test_fork(lookup: Running, proxy: Switch, caller: Phone) -> None:
    """The branches of a forked call are one decision, counted once."""
    refusals = []
    for _ in range(2):
        call = caller.invite(CALLED, CALLING, display="block analytics", call_id="forked-call")
        refusals.append(caller.final(call).header("Reason"))
    assert refusals[0] == refusals[1]
    wait_for(
        lambda: lookup.metric("screening_repeated_questions_total") >= 1,
        seconds=5,
        what="the repeat's count",
    )


def test_within_the_dialog(proxy: Switch, caller: Phone, callee: Phone) -> None:
    """A re-INVITE is neither asked about nor changed."""
    call = caller.invite(CALLED, CALLING)
    invite = callee.hear("INVITE", call=call)
    callee.answer(invite, "200 OK")
    answered = caller.final(call)
    asked = proxy.counters()["asked"]
    route = answered.header("Record-Route")
    call_again = caller.invite(
        f"sip:phone@127.0.0.1:{callee.port}", CALLING, f"Route: {route}", "X-Screening-Own: mine",
        display="block dno", call_id=call.call_id, to_tag="callee",
    )  # fmt: skip
    again = callee.hear("INVITE", call=call_again)
    callee.answer(again, "200 OK")
    assert caller.final(call_again).first == "SIP/2.0 200 OK"
    assert proxy.counters()["asked"] == asked
