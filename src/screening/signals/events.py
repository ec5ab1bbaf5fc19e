"""The calls of one party while they are few: each kept, each counted exactly."""

from typing import Any, Final

from screening.signals.windows import ATTEMPT, BITS, SPANS, Called, Seen

MOST_EVENTS: Final = 48

_LANES: Final = tuple(
    sum(1 << 8 * bit for bit in range(BITS) if bits >> bit & 1) for bits in range(1 << BITS)
)
"""By the bits of an event, one in the byte of each: `MOST_EVENTS` of them add up in a byte."""

_BITS: Final = {lanes: bits for bits, lanes in enumerate(_LANES)}


class Events:
    """The single events of one party, in their order.

    In one list, as most parties have one event: of each when, what as in `_LANES`, who was called.
    """

    __slots__ = ("_flat",)

    def __init__(self) -> None:
        self._flat: list[Any] = []

    def __len__(self) -> int:
        return len(self._flat) // 3

    def add(self, now: float, bits: int, called: Called) -> None:
        """Count an event."""
        self._flat += (now, _LANES[bits], called if bits & ATTEMPT else 0)

    def forget(self, since: float) -> None:
        """Leave out those up to an instant."""
        gone = sum(at <= since for at in self._flat[::3])
        del self._flat[: 3 * gone]

    def all(self) -> list[tuple[float, int, Called]]:
        """When each was, its bits and who was called."""
        flat = self._flat
        return [(flat[at], _BITS[flat[at + 1]], flat[at + 2]) for at in range(0, len(flat), 3)]

    def at(self, now: float) -> tuple[Seen, ...]:
        """What each of WINDOWS holds at `now`."""
        flat, first, known = self._flat, len(self._flat), -1
        found: list[Seen] = []
        for seconds, span in SPANS:
            since = now - seconds * span
            while first and flat[first - 3] > since:
                first -= 3
            # Each window holds what the shorter ones hold, and some more.
            if first == known:
                found.append(found[-1])
                continue
            known = first
            called = set(flat[first + 2 :: 3])
            called.discard(0)
            lanes: int = sum(flat[first + 1 :: 3])
            found.append((*lanes.to_bytes(BITS, "little"), len(called)))
        return tuple(found)

    def next_change(self, now: float) -> float:
        """Seconds until one leaves a window, or those of a slot's length together; 0 for never."""
        flat, soon, oldest = self._flat, 0.0, 0
        for seconds, span in reversed(SPANS):
            since = now - seconds * span
            while oldest < len(flat) and flat[oldest] <= since:
                oldest += 3
            if oldest == len(flat):
                break
            leaves = max(flat[oldest] - since, float(seconds))
            soon = min(soon, leaves) if soon else leaves
        return soon
