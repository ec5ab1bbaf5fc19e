"""The calls of one party when they are many: sketched, in rings of slots.

Invariant: memory is bounded whatever is called: a sketch a slot (Apache DataSketches' HyperLogLog
with 2^14 registers: 0.8 % standard error), and `MOST_WAITING` numbers.
"""

from typing import Any, Final

from datasketches import hll_sketch, hll_union, tgt_hll_type

from screening.signals.windows import ATTEMPT, BITS, SPANS, Called, Seen

LG_K: Final = 14
MOST_WAITING: Final = 1_000
"""Numbers called that are counted together: few enough for a sketch to stay a set of hashes, which
is quick to merge."""

Counts = list[int]

_NO_SLOT: Final = -(1 << 60)
_SHORTEST_SLOT: Final = SPANS[0][0]
_NOTHING: Final = [0] * BITS
_SET: Final = tuple(
    tuple(bit for bit in range(BITS) if bits >> bit & 1) for bits in range(1 << BITS)
)
"""The places of the bits of an event."""


class _Slot:
    __slots__ = ("called", "counts")

    def __init__(self) -> None:
        self.counts: Counts = [0] * BITS
        self.called = hll_union(LG_K)

    def add(self, counts: Counts, called: Any) -> None:
        """Count events: how often each bit, and a sketch of the numbers called."""
        _add(self.counts, counts)
        self.called.update(called)


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

    def count(self, now: float, counts: Counts, called: Any) -> None:
        """Count events of one slot, that of `now`, which must not go back by more than a slot."""
        number = int(now // self._seconds)
        if number > self._current:
            self._turn(number)
        _add(self._sum, counts)
        self._whole.update(called)

    def keep(self, now: float, counts: Counts, called: Any) -> None:
        """Take events that were counted into their slot, before the next one begins."""
        number = int(now // self._seconds)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot()
        slot.add(counts, called)

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


def _add(to: Counts, counts: Counts) -> None:
    for bit, count in enumerate(counts):
        if count:
            to[bit] += count


class Rings:
    """All windows of one party that calls often.

    Events wait, and are counted together when they are read: those of one slot of the shortest
    window, which lies in one slot of each. When it ends, it is kept in them.
    """

    __slots__ = ("_called", "_counts", "_rings", "_since", "_slot", "_within")

    def __init__(self) -> None:
        self._rings: Final = [Ring(seconds, span) for seconds, span in SPANS]
        self._slot = _NO_SLOT
        """The slot of the shortest window that has begun."""
        self._since = 0.0
        """An instant in it."""
        self._within = _Slot()
        """What was counted of it."""
        self._counts: Counts = [0] * BITS
        """What waits to be."""
        self._called: list[Called] = []

    def add(self, now: float, bits: int, called: Called) -> None:
        """Count an event at `now`, which must not go back by more than a slot."""
        slot = int(now // _SHORTEST_SLOT)
        if slot != self._slot:
            self._end()
            self._slot, self._since = slot, now
        for bit in _SET[bits]:
            self._counts[bit] += 1
        if bits & ATTEMPT and called:
            self._called.append(called)
            if len(self._called) > MOST_WAITING:
                self._count()

    def _count(self) -> None:
        if not any(self._counts):
            return
        called = hll_sketch(LG_K)
        update = called.update
        for number in self._called:
            update(number)
        self._within.add(self._counts, called)
        for ring in self._rings:
            ring.count(self._since, self._counts, called)
        self._counts, self._called = [0] * BITS, []

    def _end(self) -> None:
        if self._slot == _NO_SLOT:
            return
        self._count()
        called = _sketch(self._within.called)
        for ring in self._rings:
            ring.keep(self._since, self._within.counts, called)
        self._slot, self._within = _NO_SLOT, _Slot()

    def at(self, now: float) -> tuple[Seen, ...]:
        """What each of WINDOWS holds at `now`."""
        if int(now // _SHORTEST_SLOT) == self._slot:
            self._count()
        else:
            self._end()
        return tuple([ring.at(now) for ring in self._rings])

    def state(self) -> list[Any]:
        """What `restore` makes it again from."""
        self._end()
        return [ring.state() for ring in self._rings]

    def restore(self, state: list[Any], *, ahead: float) -> None:
        """Take in a state whose clock was `ahead` seconds behind this one's."""
        for ring, (seconds, _), kept in zip(self._rings, SPANS, state, strict=True):
            ring.restore(kept, shift=round(ahead / seconds))
