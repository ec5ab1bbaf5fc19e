"""Values as JSON and as text."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.cel import Duration, Timestamp, Uint
from rules.cel.compiler import evaluate
from rules.cel.interchange import NotAValue, from_json, spell, static_type, to_json
from rules.cel.runtime import TYPES, entries_of, equal, kind_of

FORMS = [
    (True, {"boolValue": True}),
    (-7, {"int64Value": "-7"}),
    (Uint(7), {"uint64Value": "7"}),
    (1.5, {"doubleValue": 1.5}),
    (math.inf, {"doubleValue": "Infinity"}),
    (-math.inf, {"doubleValue": "-Infinity"}),
    ("é", {"stringValue": "é"}),
    (b"\xff", {"bytesValue": "/w=="}),
    (None, {"nullValue": None}),
    (TYPES["int"], {"typeValue": "int"}),
    ([1], {"listValue": {"values": [{"int64Value": "1"}]}}),
    (
        entries_of((True, 1)),
        {"mapValue": {"entries": [{"key": {"boolValue": True}, "value": {"int64Value": "1"}}]}},
    ),
    (
        Timestamp(1_234_567_890_000_000_000),
        {
            "objectValue": {
                "@type": "type.googleapis.com/google.protobuf.Timestamp",
                "value": "2009-02-13T23:31:30Z",
            }
        },
    ),
    (
        Duration(-1_500_000_000),
        {
            "objectValue": {
                "@type": "type.googleapis.com/google.protobuf.Duration",
                "value": "-1.5s",
            }
        },
    ),
]


@pytest.mark.parametrize(("value", "form"), FORMS, ids=[kind_of(value) for value, _ in FORMS])
def test_form(value: Any, form: dict[str, Any]) -> None:
    """Each type has its form, both ways."""
    assert form == to_json(value)
    assert equal(value, from_json(form))
    assert kind_of(value) == kind_of(from_json(form))


BAD = [
    {},
    {"int64Value": "1", "boolValue": True},
    {"int32Value": 1},
    {"int64Value": "9223372036854775808"},
    {"int64Value": "x"},
    {"uint64Value": "-1"},
    {"boolValue": 1},
    {"stringValue": 1},
    {"stringValue": "\ud800"},
    {"bytesValue": "*"},
    {"listValue": {"values": [1]}},
    {"mapValue": {"entries": [{"key": {"doubleValue": 1}, "value": {"int64Value": 1}}]}},
    {"objectValue": {"@type": "type.googleapis.com/google.protobuf.Any", "value": ""}},
    {"objectValue": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1"}},
    7,
]


@pytest.mark.parametrize("form", BAD, ids=str)
def test_bad_form(form: Any) -> None:
    """What is no value is refused, whatever is wrong with it."""
    with pytest.raises(NotAValue):
        from_json(form)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(0, 2**64 - 1).map(Uint)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.sampled_from(sorted(TYPES)).map(TYPES.__getitem__)
    | st.integers(-(2**63), 2**63 - 1).map(Duration)
    | st.integers(-(10**17), 10**17).map(Timestamp)
)
KEYS = st.booleans() | st.integers(-5, 5) | st.text(st.characters(codec="utf-8"), max_size=3)
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(st.tuples(KEYS, inner), max_size=4, unique_by=lambda pair: repr(pair[0])).map(
            lambda pairs: entries_of(*pairs)
        )
    ),
    max_leaves=12,
)


@given(ANY)
def test_values_are_read_back(value: Any) -> None:
    """Through JSON a value stays itself, type included."""
    found = from_json(json.loads(json.dumps(to_json(value))))
    assert equal(value, found)
    assert str(static_type(value)) == str(static_type(found))


@given(ANY)
def test_spelling_is_read_back(value: Any) -> None:
    """Spelt as an expression, a value evaluates to itself."""
    text = spell(value)
    if "Inf" not in text:
        assert equal(value, evaluate(text, {}, strict=False))
