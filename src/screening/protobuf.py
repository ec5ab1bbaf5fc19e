"""Protobuf messages to the fields of a question, and an answer to its message.

The answer is made from the JSON that HTTP sends, so the two cannot part.
"""

from typing import Any, Final

import orjson

from consent.varint import varint
from screening.answer import Answers, Form
from screening.lookup import Answered
from screening.screener import Decision
from screening.v1 import screening_pb2 as v1
from screening.wire import MalformedCall, write_answer

_AS_THEY_ARE: Final = (
    "action", "cause", "rule", "ruleset", "decision_id", "degraded", "q850", "label", "redress",
    "shadow", "latency_us", "trace", "evidence",
)  # fmt: skip
_LATENCY: Final = bytes([v1.Answer.LATENCY_US_FIELD_NUMBER << 3])
"""The tag of the field, whose wire type, varint, is 0."""


def fields_of(question: v1.Question) -> dict[str, Any]:
    """The fields that are there, by name, as JSON has them."""
    return {field.name: value for field, value in question.ListFields()}


class MessageForm(Form):
    """One verdict of one rule set as the bytes of an `Answer`.

    A message may have its fields in any order (the protobuf encoding guide, "Field Order"), so the
    time comes last.
    """

    __slots__ = ()

    @staticmethod
    def write(decision: Decision, *, latency_us: int) -> bytes:
        """The JSON answer as a message; what is null in JSON is absent."""
        document = orjson.loads(write_answer(decision, latency_us=latency_us))
        fields = {name: document.get(name) for name in _AS_THEY_ARE}
        if (sip := document["sip"]) is not None:
            headers = [{"name": name, "value": value} for name, value in sip["headers"]]
            fields["sip"] = {**sip, "headers": headers}
        return bytes(v1.Answer(**fields).SerializeToString())

    @staticmethod
    def timed(text: bytes) -> bytes:
        """As it is: no time is no field."""
        return text

    def fill(self, decision_id: str, latency_us: int) -> bytes:
        """The answer of one decision."""
        text = self._text % ((decision_id.encode(),) * self._ids)
        return text + _LATENCY + varint(latency_us)


class Messages:
    """Answers as messages."""

    def __init__(self) -> None:
        self._answers = Answers(MessageForm)

    def response(self, answered: Answered) -> v1.ScreenResponse:
        """The answer to one call."""
        response = v1.ScreenResponse()
        response.answer.MergeFromString(self._body(answered))
        return response

    def outcome(self, identity: int, answered: Answered | MalformedCall) -> v1.StreamedAnswer:
        """What one question of a stream came to."""
        if isinstance(answered, MalformedCall):
            refusal = v1.Refusal(field=answered.field, message=str(answered))
            return v1.StreamedAnswer(id=identity, refusal=refusal)
        outcome = v1.StreamedAnswer(id=identity)
        outcome.answer.MergeFromString(self._body(answered))
        return outcome

    def _body(self, answered: Answered) -> bytes:
        return self._answers.body(answered.decision, int(answered.elapsed * 1e6))
