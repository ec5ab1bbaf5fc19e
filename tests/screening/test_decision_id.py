"""The decision id: stable, keyed, and valid where SIP wants it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screening.decision_id import RecentCalls, decision_id

FORM = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}\Z")
texts = st.text(max_size=40)


@given(call_id=texts, calling=texts, called=texts, key=st.binary(min_size=1, max_size=64))
def test_any_call_has_a_valid_id(call_id: str, calling: str, called: str, key: bytes) -> None:
    """26 characters of Crockford base32, whatever the switch sent."""
    identity = decision_id(call_id=call_id, calling=calling, called=called, key=key)
    assert FORM.match(identity)


@given(call_id=st.text(min_size=1, max_size=40), calling=texts, called=texts)
def test_the_same_call_has_the_same_id(call_id: str, calling: str, called: str) -> None:
    """A fork or a retransmission gets the id of the first question; another key gives another."""
    first = decision_id(call_id=call_id, calling=calling, called=called, key=b"k")
    assert decision_id(call_id=call_id, calling=calling, called=called, key=b"k") == first
    assert decision_id(call_id=call_id, calling=calling, called=called, key=b"other") != first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "bc", "d"), ("ab", "c", "d")),
        (("a", "b", "cd"), ("a", "bc", "d")),
        (("1:a", "b", ""), ("1", "a", "b")),
    ],
)
def test_parts_do_not_run_together(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Different calls whose parts join to the same text differ."""
    ids = {decision_id(call_id=i, calling=g, called=d, key=b"k") for i, g, d in (one, other)}
    assert len(ids) == 2


def test_without_a_call_id_it_is_random() -> None:
    """Two questions without a key of the call are two calls."""
    ids = {decision_id(call_id="", calling="a", called="b", key=b"k") for _ in range(100)}
    assert len(ids) == 100


def test_attempts_are_counted_within_the_horizon_and_forgotten_after() -> None:
    """An id counts up while it is remembered; two horizons later it is new."""
    recent = RecentCalls(capacity=10, horizon_seconds=60.0)
    assert [recent.attempt("a", now) for now in (100.0, 101.0, 159.0)] == [1, 2, 3]
    assert recent.attempt("a", 170.0) == 4
    recent.attempt("b", 240.0)
    assert recent.attempt("a", 310.0) == 1


@given(st.lists(st.integers(0, 1000), max_size=400))
def test_memory_is_bounded(calls: list[int]) -> None:
    """Whatever is asked, at most two generations are held."""
    recent = RecentCalls(capacity=20, horizon_seconds=1e9)
    for call in calls:
        recent.attempt(str(call), 1.0)
    assert len(recent._young) + len(recent._old) <= 40
