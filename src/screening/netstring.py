"""Netstrings: a length in digits, a colon, that many bytes, a comma.

A core without I/O. Invariants: bytes may come split anywhere; at most one frame that is not yet
whole is held, and a frame announced longer than the limit is refused before its bytes are read.
"""

from typing import Final


class BrokenFrame(Exception):
    """What came is no netstring, so where the next begins cannot be known.

    `reason` is one of REASONS.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


REASONS: Final = ("frame_length", "frame_too_long", "frame_end")
"""Why a frame is broken: no length where one was expected, one over the limit, no comma at its
end."""


def frame(payload: bytes) -> bytes:
    """`payload` as a netstring."""
    return b"%d:%b," % (len(payload), payload)


class Frames:
    """The netstrings in a stream of bytes, given as it comes."""

    __slots__ = ("_digits", "_held", "_limit")

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._digits = len(str(limit))
        self._held = b""

    @property
    def begun(self) -> bool:
        """Whether a frame has begun and is not whole yet."""
        return bool(self._held)

    def feed(self, data: bytes, into: list[bytes]) -> None:
        """Append to `into` the payloads that `data` makes whole.

        Raises BrokenFrame; the payloads before it have been appended, and no more can be read.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        start, size = 0, len(data)
        while start < size:
            colon = data.find(b":", start, start + self._digits + 1)
            if colon < 0:
                self._expect_length(data[start : start + self._digits + 1])
                break
            # isdigit() of bytes takes ASCII digits alone.
            digits = data[start:colon]
            if not digits.isdigit() or (digits[0] == 0x30 and colon - start > 1):
                raise BrokenFrame("frame_length", "expected a netstring, which begins with digits")
            length = int(digits)
            if length > self._limit:
                raise self._too_long()
            end = colon + 1 + length
            if end >= size:
                break
            if data[end] != 0x2C:
                raise BrokenFrame("frame_end", "expected a comma at the end of a netstring")
            into.append(data[colon + 1 : end])
            start = end + 1
        if start < size:
            self._held = data[start:]

    def _expect_length(self, begun: bytes) -> None:
        """Refuse what cannot become a length within the limit."""
        if not begun.isdigit() or (begun[0] == 0x30 and len(begun) > 1):
            raise BrokenFrame("frame_length", "expected a netstring, which begins with digits")
        if len(begun) > self._digits:
            raise self._too_long()

    def _too_long(self) -> BrokenFrame:
        return BrokenFrame("frame_too_long", f"a frame holds at most {self._limit} bytes")
