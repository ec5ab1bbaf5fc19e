"""Answers as messages."""

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.screening.test_fast_lane import sip_answers, verdicts

from consent.varint import varint
from rules.ruleset import RuleSet, SipAnswer
from rules.verdict import Action, Cause, Verdict
from screening.answer import Answers
from screening.protobuf import MessageForm
from screening.screener import Decision
from screening.v1 import screening_pb2 as v1


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 16_383, 16_384, 2**32, 2**63])
def test_a_varint_is_read_as_what_was_written(number: int) -> None:
    """By the library's own reader."""
    tag = bytes([v1.Answer.LATENCY_US_FIELD_NUMBER << 3])
    assert v1.Answer.FromString(tag + varint(number)).latency_us == number


@settings(deadline=None)
@given(
    verdict=verdicts,
    sip=sip_answers,
    redress=st.sampled_from(["", "https://redress.example/%41"]),
    latency_us=st.integers(0, 10**9),
)
def test_messages_made_ahead_are_those_of_the_wire(
    verdict: Verdict, sip: SipAnswer, redress: str, latency_us: int
) -> None:
    """Whatever is in a verdict, filling its form gives the message that writing it would."""
    ruleset = RuleSet("s", "1", Action.ALLOW, (), redress=redress, sip={Cause.DEFAULT: sip})
    made = Answers(MessageForm)
    for decision_id in ("7ZK3" * 6 + "AB", "0" * 26):
        for of in (ruleset, None):
            decision = Decision(verdict, of, decision_id)
            filled = v1.Answer.FromString(made.body(decision, latency_us))
            whole = v1.Answer.FromString(MessageForm.write(decision, latency_us=latency_us))
            assert MessageToDict(filled) == MessageToDict(whole)
            assert filled.decision_id == decision_id
