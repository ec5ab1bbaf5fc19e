"""Frames out of a stream of bytes, however it is split."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screening.netstring import BrokenFrame, Frames, frame

LIMIT = 300


def outcome(pieces: list[bytes]) -> tuple[list[bytes], str]:
    """The payloads that come of some pieces, and why no more did, "" where nothing is wrong."""
    frames, payloads = Frames(limit=LIMIT), []
    try:
        for piece in pieces:
            frames.feed(piece, payloads)
    except BrokenFrame as broken:
        return payloads, broken.reason
    return payloads, ""


@given(
    payloads=st.lists(st.binary(max_size=LIMIT), max_size=6),
    cuts=st.lists(st.integers(min_value=0, max_value=1500), max_size=12),
)
def test_what_is_framed_comes_out_however_it_is_split(
    payloads: list[bytes], cuts: list[int]
) -> None:
    """Payloads in, the same payloads out, for every way to split the bytes."""
    stream = b"".join(frame(each) for each in payloads)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    assert outcome(pieces) == (payloads, "")
    assert outcome([bytes([each]) for each in stream]) == (payloads, "")


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"x", "frame_length"),
        (b":", "frame_length"),
        (b",", "frame_length"),
        (b" 3:abc,", "frame_length"),
        (b"-1:", "frame_length"),
        (b"03:abc,", "frame_length"),
        (b"00", "frame_length"),
        (b"3x:abc,", "frame_length"),
        (b"\xd9\xa3:abc,", "frame_length"),
        (b"301:", "frame_too_long"),
        (b"1000", "frame_too_long"),
        (b"99999999999999999999", "frame_too_long"),
        (b"3:abcd", "frame_end"),
        (b"0:x", "frame_end"),
        (b"3:abc\n", "frame_end"),
    ],
)
def test_what_is_no_netstring_is_told_by_reason(stream: bytes, reason: str) -> None:
    """At the first byte that cannot be, at once or byte by byte, after the frames before it."""
    for pieces in ([b"2:ok," + stream], [bytes([each]) for each in b"2:ok," + stream]):
        assert outcome(pieces) == ([b"ok"], reason)


@given(st.binary(max_size=40))
def test_any_bytes_are_frames_or_broken(stream: bytes) -> None:
    """Nothing else leaves; what came whole before is the same at once and byte by byte."""
    assert outcome([stream]) == outcome([bytes([each]) for each in stream])
