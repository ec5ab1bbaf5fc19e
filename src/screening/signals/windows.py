"""The windows over which a party's calls are counted, and what of them is published.

Invariants, of single events (`events`) and of sketches (`rings`):
- a window slides: single events leave it one by one; else it is cut into slots, and the slot that
  its edge lies in counts by the part of it that is inside, so that no burst counts twice or not at
  all at a fixed hour;
- `now` is a monotonic clock's, in seconds: steps of the wall clock move nothing.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from consent.conduct import NOTHING, SCALE, pack

ATTEMPT: Final = 1
REFUSED: Final = 2
ENDED: Final = 4
ANSWERED: Final = 8
SHORT: Final = 16
COMPLAINT: Final = 32
"""What happened, as bits of an event."""

BITS: Final = 6

WINDOWS: Final = {"1m": (5, 12), "1h": (300, 12), "24h": (3600, 24), "7d": (21_600, 28)}
"""Each window: the seconds of a slot, and how many slots."""

SPANS: Final = tuple(WINDOWS.values())
LONGEST: Final = 7 * 86_400

Seen = tuple[float, ...]
"""Of one window: how often each of the bits, and how many different numbers were called."""

Called = object
"""A number called; it is only told apart from others, 0 for none."""


def packed(seen: Sequence[Seen]) -> bytes | None:
    """What windows hold as the rules are to see it, see `consent.conduct`; None for nothing."""
    before: Seen = ()
    part = out = b""
    for each in seen:
        if each is not before:
            before, part = each, _packed(each)
        out += part
    return out if out != _NOTHING_PACKED else None


@lru_cache(maxsize=8192)
def _packed(seen: Seen) -> bytes:
    """One window; most parties have done what many others have."""
    attempts, refused, ended, answered, short, complaints, distinct = seen
    return pack(
        (
            round(attempts),
            round(distinct),
            _share(answered, ended),
            _share(short, answered),
            _share(refused, attempts),
            _share(complaints, attempts),
        )
    )


def _share(part: float, whole: float) -> int:
    return min(SCALE, round(SCALE * part / whole)) if whole > 0 else 0


_NOTHING_PACKED: Final = pack(NOTHING)
