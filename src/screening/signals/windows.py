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

_NO_SLOT: Final = -(1 << 60)
_SHORTEST_SLOT: Final = WINDOWS["1m"][0]
MOST_EVENTS: Final = 48
MOST_WAITING: Final = 1_000
"""Events of a party with sketches that are taken in together: few enough for a sketch to stay a
set of hashes, which is quick to merge."""

LG_K: Final = 14
LONGEST: Final = 7 * 86_400

Counts = list[int]
Seen = tuple[float, ...]
"""Of one window: how often each of the bits, and how many different numbers were called."""

Key = int | str
Event = tuple[float, int, int]
"""When (`now`), the bits, the number called."""


class _Slot:
    __slots__ = ("called", "counts")

    def __init__(self) -> None:
        self.counts: Counts = [0] * BITS
        self.called = hll_union(LG_K)


class Ring:
    """One window of one party."""

    __slots__ = ("_current", "_edge", "_gap", "_seconds", "_slots", "_span", "_sum", "_whole")

    def __init__(self, seconds: int, span: int) -> None:
        self._seconds = seconds
        self._span = span
        self._slots: dict[int, _Slot] = {}
        self._current = _NO_SLOT
        self._edge: Counts = _NOTHING
        """The counts of the slot that the window's edge lies in."""
        self._gap = 0.0
        """How many numbers were called in that slot and in no later one."""
        self._sum: Counts = [0] * BITS
        self._whole = hll_union(LG_K)

    def add(self, now: float, counts: Counts, called: Any) -> None:
        """Count events of one slot, that of `now`, which must not go back by more than a slot:
        how often each bit, and a sketch of the numbers called."""
        number = int(now // self._seconds)
        if number > self._current:
            self._turn(number)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot()
        mine, whole = slot.counts, self._sum
        for bit in range(BITS):
            mine[bit] += counts[bit]
            whole[bit] += counts[bit]
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
        self._sum = [0] * BITS
        self._whole = hll_union(LG_K)
        for each, slot in self._slots.items():
            if each >= first:
                self._sum = [a + b for a, b in zip(self._sum, slot.counts, strict=True)]
                self._whole.update(_sketch(slot.called))
        edge = self._slots.get(first - 1)
        self._edge, self._gap = _NOTHING, 0.0
        if edge is not None:
            self._edge = edge.counts
            both = hll_union(LG_K)
            both.update(_sketch(self._whole))
            both.update(_sketch(edge.called))
            self._gap = max(0.0, both.get_estimate() - self._whole.get_estimate())

    def state(self) -> list[Any]:
        """What `restore` makes it again from."""
        return [
            [number, slot.counts, _sketch(slot.called).serialize_compact()]
            for number, slot in self._slots.items()
        ]

    def restore(self, state: list[Any], *, shift: int) -> None:
        """Take in a state of another clock, whose slots are `shift` earlier."""
        for number, counts, called in state:
            slot = self._slots[number + shift] = _Slot()
            slot.counts = list(counts)
            slot.called.update(hll_sketch.deserialize(bytes(called)))


def _sketch(union: Any) -> Any:
    return union.get_result(tgt_hll_type.HLL_8)


class Rings:
    """All windows of one party that calls often.

    Events wait to be taken in together: those of one slot of the shortest window, which lies in one
    slot of each. Whatever reads takes them in first.
    """

    __slots__ = ("_called", "_counts", "_rings", "_since", "_slot")

    def __init__(self) -> None:
        self._rings: Final = [Ring(seconds, span) for seconds, span in WINDOWS.values()]
        self._slot = _NO_SLOT
        """Of the events that wait, in the shortest window."""
        self._since = 0.0
        self._counts: Counts = [0] * BITS
        self._called: list[int] = []

    def add(self, now: float, bits: int, called: int) -> None:
        """Count an event at `now`, which must not go back by more than a slot."""
        slot = int(now // _SHORTEST_SLOT)
        if slot != self._slot or len(self._called) >= MOST_WAITING:
            self._take_in()
            self._slot, self._since = slot, now
        for bit in _SET[bits]:
            self._counts[bit] += 1
        if bits & ATTEMPT and called:
            self._called.append(called)

    def _take_in(self) -> None:
        if self._slot == _NO_SLOT:
            return
        called = hll_sketch(LG_K, tgt_hll_type.HLL_8)
        update = called.update
        for number in self._called:
            update(number)
        for ring in self._rings:
            ring.add(self._since, self._counts, called)
        self._slot, self._counts, self._called = _NO_SLOT, [0] * BITS, []

    def at(self, now: float) -> tuple[Seen, ...]:
        """What each of WINDOWS holds at `now`."""
        self._take_in()
        return tuple([ring.at(now) for ring in self._rings])

    def state(self) -> list[Any]:
        """What `restore` makes it again from."""
        self._take_in()
        return [ring.state() for ring in self._rings]

    def restore(self, state: list[Any], *, ahead: float) -> None:
        """Take in a state whose clock was `ahead` seconds behind this one's."""
        for ring, (seconds, _), kept in zip(self._rings, WINDOWS.values(), state, strict=True):
            ring.restore(kept, shift=round(ahead / seconds))


_NOTHING: Final = [0] * BITS
_SET: Final = tuple(
    tuple(bit for bit in range(BITS) if bits >> bit & 1) for bits in range(1 << BITS)
)
"""The places of the bits of an event."""

_LANES: Final = tuple(
    sum(1 << 8 * bit for bit in range(BITS) if bits >> bit & 1) for bits in range(1 << BITS)
)
"""By the bits of an event, one in the byte of each: `MOST_EVENTS` of them add up in a byte."""


class Party:
    """The calls of one number, entity, block or trunk: single events, or rings when many."""

    __slots__ = ("due", "events", "forgotten", "key", "kind", "last", "rings", "told", "waits")

    def __init__(self, kind: str = "", key: Key = 0) -> None:
        self.kind = kind
        self.key = key
        self.events: list[Event] = []
        self.rings: Rings | None = None
        self.last = 0.0
        self.due = 0.0
        """When it is to be published next; 0 when not."""
        self.told = 0.0
        """When it was last published with a new time to live; 0 when never."""
        self.waits = False
        """Whether it is among those that are to be published."""
        self.forgotten = False

    def add(self, now: float, bits: int, called: int) -> bool:
        """Count an event; whether it has outgrown single events just now."""
        self.last = now
        if self.rings is not None:
            self.rings.add(now, bits, called)
            return False
        self.events.append((now, bits, called))
        if len(self.events) <= MOST_EVENTS:
            return False
        self.events = [event for event in self.events if event[0] > now - LONGEST]
        return len(self.events) > MOST_EVENTS

    def grow(self) -> None:
        """Go over to sketches."""
        self.rings = Rings()
        for now, bits, called in self.events:
            self.rings.add(now, bits, called)
        self.events = []

    def at(self, now: float) -> tuple[Seen, ...]:
        """What each of WINDOWS holds at `now`."""
        if self.rings is not None:
            return self.rings.at(now)
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
        if self.rings is None:
            return self.events
        return {"rings": self.rings.state(), "last": self.last}

    @classmethod
    def restored(cls, kind: str, key: Key, state: Any, *, ahead: float) -> "Party":
        """The party of a state whose clock was `ahead` seconds behind this one's."""
        party = cls(kind, key)
        if isinstance(state, list):
            party.events = [(at + ahead, bits, called) for at, bits, called in state]
            party.last = max((event[0] for event in party.events), default=0.0)
            return party
        party.rings = Rings()
        party.rings.restore(state["rings"], ahead=ahead)
        party.last = state["last"] + ahead
        return party


def next_change(party: Party, now: float) -> float:
    """Seconds until what a party's windows hold is another, though nothing happens; 0 for never.

    Single events leave a window when their time has come, those of a slot's length together.
    """
    if party.rings is None:
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
