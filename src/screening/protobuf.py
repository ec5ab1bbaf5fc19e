"""Protobuf messages to the fields of a question, and an answer to its message.

The answer is made from the JSON that HTTP sends, so the two cannot part.
"""

from typing import Any, Final

import orjson

from screening.lookup import Answered
from screening.v1 import screening_pb2 as v1
from screening.wire import MalformedCall

_AS_THEY_ARE: Final = (
    "action", "cause", "rule", "ruleset", "decision_id", "degraded", "q850", "label", "redress",
    "shadow", "latency_us", "trace", "evidence",
)  # fmt: skip


def fields_of(question: v1.Question) -> dict[str, Any]:
    """The fields that are there, by name, as JSON has them."""
    return {field.name: value for field, value in question.ListFields()}


def answer_of(answered: Answered) -> v1.Answer:
    """The answer as a message; what is null in JSON is absent."""
    document = orjson.loads(answered.body())
    fields = {name: document.get(name) for name in _AS_THEY_ARE}
    if (sip := document["sip"]) is not None:
        headers = [{"name": name, "value": value} for name, value in sip["headers"]]
        fields["sip"] = {**sip, "headers": headers}
    return v1.Answer(**fields)


def outcome(identity: int, answered: Answered | MalformedCall) -> v1.StreamedAnswer:
    """What one question of a stream came to."""
    if isinstance(answered, MalformedCall):
        refusal = v1.Refusal(field=answered.field, message=str(answered))
        return v1.StreamedAnswer(id=identity, refusal=refusal)
    return v1.StreamedAnswer(id=identity, answer=answer_of(answered))
