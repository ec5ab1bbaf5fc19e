"""How a party conducts itself, as the rules see it: counts and shares over sliding windows.

The values of a party are integers in the order of `NAMES`, shares in thousandths; packed they
take at most 64 bytes, so that a number's signals are one small field of the index.
"""

from typing import Final

WINDOW_NAMES: Final = ("1m", "1h", "24h", "7d")
MEASURES: Final = {
    "attempts": "calls",
    "distinct_called": "different numbers called",
    "answered_share": "share of the calls ended that were answered, 0.0 to 1.0",
    "short_share": "share of the answered calls shorter than 6 s, 0.0 to 1.0",
    "refused_share": "share of the calls that screening refused, 0.0 to 1.0",
    "complaint_rate": "complaints a call, 0.0 to 1.0",
}
COUNTS: Final = frozenset({"attempts", "distinct_called"})
NAMES: Final = tuple(f"{measure}_{window}" for window in WINDOW_NAMES for measure in MEASURES)
SCALE: Final = 1000
BLOCK: Final = 1000
"""Consecutive numbers of a block: the thousand that numbering plans hand out at a time."""

NOTHING: Final = (0,) * len(NAMES)
"""The values of a party that is not known to have called."""

_MOST: Final = (1 << 28) - 1
"""Four bytes of varint; a count stops there."""

Values = tuple[int, ...]


def pack(values: Values) -> bytes:
    """The values as varints: 64 bytes at most, 24 for a quiet party."""
    if max(values) <= 0x7F:
        return bytes(values)
    out = bytearray()
    for value in values:
        rest = min(value, _MOST)
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def unpack(data: bytes) -> Values:
    """What `pack` packed. Raises ValueError for anything else."""
    values, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
        else:
            values.append(value)
            value = shift = 0
    if len(values) != len(NAMES) or shift:
        raise ValueError(f"{len(values)} signals, expected {len(NAMES)}")
    return tuple(values)


def combined(parts: list[Values]) -> Values:
    """The values of one party as several nodes saw it: counts add up, shares weigh by attempts."""
    if len(parts) == 1:
        return parts[0]
    out = []
    for at, name in enumerate(NAMES):
        column = [part[at] for part in parts]
        if name.rpartition("_")[0] in COUNTS:
            out.append(sum(column))
            continue
        weights = [part[at - at % len(MEASURES)] for part in parts]
        total = sum(weights)
        weighed = sum(value * weight for value, weight in zip(column, weights, strict=True))
        out.append(round(weighed / total) if total else 0)
    return tuple(out)
