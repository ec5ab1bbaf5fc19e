"""Whether something was met before, in memory that does not grow: a Bloom filter of two halves.

What is met goes into the younger half; when that is full the older one is forgotten. So a thing is
remembered for at least `capacity` others after it, and taken for known by mistake in at most about
one case in fifty.
"""

from typing import Any, Final

_BITS_A_THING: Final = 10
_PROBES: Final = 3


class Seen:
    """The things met, by 61-bit hashes of them. `size_bits` of each half is a power of two."""

    __slots__ = ("_capacity", "_count", "_mask", "_old", "_young")

    def __init__(self, size_bits: int) -> None:
        if size_bits < 64 or size_bits & (size_bits - 1):
            raise ValueError(f"size_bits is {size_bits}, expected a power of two from 64 on")
        self._mask = size_bits - 1
        self._capacity = size_bits // _BITS_A_THING
        self._count = 0
        self._young = bytearray(size_bits // 8)
        self._old = bytearray(size_bits // 8)

    @property
    def capacity(self) -> int:
        """How many things a half holds."""
        return self._capacity

    def meet(self, thing: int) -> bool:
        """Whether this is the first time that it is met."""
        mask, young, old = self._mask, self._young, self._old
        at, step = thing & mask, (thing >> 20) | 1
        in_young = in_old = True
        for _ in range(_PROBES):
            byte, bit = at >> 3, 1 << (at & 7)
            if not young[byte] & bit:
                in_young = False
                young[byte] |= bit
            if not old[byte] & bit:
                in_old = False
            at = (at + step) & mask
        if in_young:
            return False
        self._count += 1
        if self._count >= self._capacity:
            self._old, self._young, self._count = young, bytearray(len(young)), 0
        return not in_old

    def state(self) -> dict[str, Any]:
        """What `restore` takes in."""
        return {"count": self._count, "young": bytes(self._young), "old": bytes(self._old)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take in what was met before a restart. Raises ValueError for another size."""
        if len(state["young"]) != len(self._young):
            raise ValueError("what was seen before was kept in another size")
        self._count = int(state["count"])
        self._young, self._old = bytearray(state["young"]), bytearray(state["old"])
