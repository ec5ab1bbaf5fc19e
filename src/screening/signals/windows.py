"""Sliding windows over one party's calls: exact while they are few, sketched when they are many.

Invariants:
- a window slides: it is cut into slots, and the slot that its edge lies in counts by the part of
  it that is inside, so that no burst counts twice or not at all at a fixed hour;
- memory is bounded whatever is called: a party has `MOST_EVENTS` events, or a sketch a slot
  (Apache DataSketches' HyperLogLog with 2^14 registers: 0.8 % standard error);
- `now` is a monotonic clock's, in seconds: steps of the wall clock move nothing.
"""

from collections.abc import Sequence
from typing import Any, Final

from datasketches import hll_sketch, hll_union, tgt_hll_type

from consent.conduct import SCALE, Values

ATTEMPT, REFUSED, ENDED, ANSWERED, SHORT, COMPLAINT = (1 << bit for bit in range(6))
"""What happened, as bits of an event."""

BITS: Final = 6

WINDOWS: Final = {"1m": (5, 12), "1h": (300, 12), "24h": (3600, 24), "7d": (21_600, 28)}
"""Each window: the seconds of a slot, and how many slots."""

MOST_EVENTS: Final = 48
LG_K: Final = 14
LONGEST: Final = 7 * 86_400

Counts = list[int]
Seen = tuple[float, ...]
"""Of one window: how often each of the bits, and how many different numbers were called."""

Event = tuple[float, int, int]
"""When (`now`), the bits, the number called."""


class _Slot:
    __slots__ = ("called", "counts")

    def __init__(self) -> None:
        self.counts: Counts = [0] * BITS
        self.called = hll_sketch(LG_K, tgt_hll_type.HLL_8)


class Ring:
    """One window of one party."""

    __slots__ = ("_current", "_edge", "_gap", "_seconds", "_slots", "_span", "_sum", "_whole")

    def __init__(self, seconds: int, span: int) -> None:
        self._seconds = seconds
        self._span = span
        self._slots: dict[int, _Slot] = {}
        self._current = -(1 << 60)
        self._edge: Sequence[int] = _NOTHING
        """The counts of the slot that the window's edge lies in."""
        self._gap = 0.0
        """How many numbers were called in that slot and in no later one."""
        self._sum: Counts = [0] * BITS
        self._whole = hll_sketch(LG_K, tgt_hll_type.HLL_8)

    def add(self, now: float, bits: int, called: int) -> None:
        """Count an event at `now`, which must not go back by more than a slot."""
        number = int(now // self._seconds)
        if number > self._current:
            self._turn(number)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot()
        counts, whole = slot.counts, self._sum
        for bit in _SET[bits]:
            counts[bit] += 1
            whole[bit] += 1
        if bits & ATTEMPT and called:
            slot.called.update(called)
            self._whole.update(called)

    def at(self, now: float) -> Seen:
        """What the window holds at `now`."""
        number = int(now // self._seconds)
        if number > self._current:
            self._turn(number)
        inside = 1 - now % self._seconds / self._seconds
        counted = [whole + inside * edge for whole, edge in zip(self._sum, self._edge, strict=True)]
        distinct = self._whole.get_estimate() + inside * self._gap
        return (*counted, distinct)

    def _turn(self, number: int) -> None:
        """Go on to another slot: the one that has left the window is forgotten."""
        self._current = number
        first = number - self._span + 1
        for old in [each for each in self._slots if each < first - 1]:
            del self._slots[old]
        edge = self._slots.get(first - 1)
        whole = [slot for each, slot in self._slots.items() if each >= first]
        self._sum = [sum(column) for column in zip(*(each.counts for each in whole), strict=True)]
        self._sum = self._sum or [0] * BITS
        self._whole = _union(whole)
        self._edge = edge.counts if edge else _NOTHING
        self._gap = 0.0
        if edge is not None:
            both = _union([*whole, edge]).get_estimate()
            self._gap = max(0.0, both - self._whole.get_estimate())

    def state(self) -> list[Any]:
        """What `restored` makes it again from."""
        return [
            [number, slot.counts, slot.called.serialize_compact()]
            for number, slot in self._slots.items()
        ]

    def restore(self, state: list[Any], *, shift: int) -> None:
        """Take in a state of another clock, whose slots are `shift` earlier."""
        for number, counts, called in state:
            slot = _Slot()
            slot.counts = list(counts)
            slot.called = _updatable(hll_sketch.deserialize(bytes(called)))
            self._slots[number + shift] = slot


_NOTHING: Final = (0,) * BITS
_SET: Final = tuple(
    tuple(bit for bit in range(BITS) if bits >> bit & 1) for bits in range(1 << BITS)
)
"""The places of the bits of an event."""

_LANES: Final = tuple(
    sum(1 << 8 * bit for bit in range(BITS) if bits >> bit & 1) for bits in range(1 << BITS)
)
"""By the bits of an event, one in the byte of each: `MOST_EVENTS` of them add up in a byte."""


def _union(slots: list[_Slot]) -> Any:
    union = hll_union(LG_K)
    for slot in slots:
        union.update(slot.called)
    return union.get_result(tgt_hll_type.HLL_8)


def _updatable(sketch: Any) -> Any:
    union = hll_union(LG_K)
    union.update(sketch)
    return union.get_result(tgt_hll_type.HLL_8)


class Party:
    """The calls of one number, entity, block or trunk."""

    __slots__ = ("due", "events", "last", "rings", "told")

    def __init__(self) -> None:
        self.events: list[Event] | None = []
        self.rings: tuple[Ring, ...] = ()
        self.last = 0.0
        self.due = 0.0
        """When it is to be published next; 0 when not."""
        self.told = 0.0
        """When it was last published with a new time to live; 0 when never."""

    def add(self, now: float, bits: int, called: int) -> bool:
        """Count an event; whether it has outgrown single events just now."""
        self.last = now
        if self.events is None:
            for ring in self.rings:
                ring.add(now, bits, called)
            return False
        self.events.append((now, bits, called))
        if len(self.events) <= MOST_EVENTS:
            return False
        self.events = [event for event in self.events if event[0] > now - LONGEST]
        return len(self.events) > MOST_EVENTS

    def grow(self) -> None:
        """Go over to sketches."""
        self.rings = _rings()
        for now, bits, called in self.events or ():
            for ring in self.rings:
                ring.add(now, bits, called)
        self.events = None

    def at(self, now: float) -> tuple[Seen, ...]:
        """What each of WINDOWS holds at `now`."""
        if self.events is None:
            return tuple(ring.at(now) for ring in self.rings)
        # The newest first: each window holds what the shorter ones hold, and some more.
        events, at = self.events, len(self.events) - 1
        lanes, called = 0, set()
        found: list[Seen] = []
        for seconds, span in WINDOWS.values():
            since, known = now - seconds * span, at
            while at >= 0 and (event := events[at])[0] > since:
                lanes += _LANES[event[1]]
                if event[1] & ATTEMPT and event[2]:
                    called.add(event[2])
                at -= 1
            if known == at and found:
                found.append(found[-1])
            else:
                found.append((*lanes.to_bytes(BITS, "little"), len(called)))
        return tuple(found)

    def state(self) -> Any:
        """What `restored` makes it again from."""
        if self.events is not None:
            return self.events
        return {"rings": [ring.state() for ring in self.rings], "last": self.last}

    @classmethod
    def restored(cls, state: Any, *, ahead: float) -> "Party":
        """The party of a state whose clock was `ahead` seconds behind this one's."""
        party = cls()
        if isinstance(state, list):
            party.events = [(at + ahead, bits, called) for at, bits, called in state]
            party.last = max((event[0] for event in party.events), default=0.0)
            return party
        party.events = None
        party.rings = _rings()
        for ring, (seconds, _), kept in zip(
            party.rings, WINDOWS.values(), state["rings"], strict=True
        ):
            ring.restore(kept, shift=round(ahead / seconds))
        party.last = state["last"] + ahead
        return party


def _rings() -> tuple[Ring, ...]:
    return tuple(Ring(seconds, span) for seconds, span in WINDOWS.values())


def next_change(party: Party, now: float) -> float:
    """Seconds until what a party's windows hold is another, though nothing happens; 0 for never.

    Single events leave a window when their time has come, those of a slot's length together.
    """
    if party.events is not None:
        return _first_to_leave(party.events, now)
    age = now - party.last
    for seconds, span in WINDOWS.values():
        if age <= seconds * (span + 1):
            return float(seconds)
    return 0.0


def _first_to_leave(events: Sequence[Event], now: float) -> float:
    soon, oldest = 0.0, 0
    for seconds, span in reversed(WINDOWS.values()):
        since = now - seconds * span
        while oldest < len(events) and events[oldest][0] <= since:
            oldest += 1
        if oldest == len(events):
            break
        leaves = max(events[oldest][0] - since, float(seconds))
        soon = min(soon, leaves) if soon else leaves
    return soon


def values(seen: Sequence[Seen]) -> Values:
    """What the windows hold as the rules see it: `consent.conduct.NAMES`."""
    found: list[int] = []
    before: Seen = ()
    for each in seen:
        if each is not before:
            attempts, refused, ended, answered, short, complaints, distinct = before = each
            window = (
                round(attempts),
                round(distinct),
                _share(answered, ended),
                _share(short, answered),
                _share(refused, attempts),
                _share(complaints, attempts),
            )
        found += window
    return tuple(found)


def _share(part: float, whole: float) -> int:
    return min(SCALE, round(SCALE * part / whole)) if whole > 0 else 0
