"""A list of numbers as the blocks of the layout: dense ones as bitmaps, sparse ones as gaps.

A bitmap costs a bit for each number of the plan, listed or not: 2.5 bytes a listed number at 5 %
and without bound below. Gaps cost 1.3 bytes at 5 %, 1.8 at 1 %, and a lone number its key.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from consent.index.fault import IndexRefused
from consent.index.layout import BLOCK, SPAN, SPARSE_WIDTHS

Numbers = npt.NDArray[np.uint64]

_SPARSE_BELOW: Final = BLOCK // 20
_STRETCH_BYTES: Final = 34
"""Mean length of a stretch: few then outgrow the 64 bytes that keep a hash a listpack."""
_A_RUN: Final = 300


@dataclass(frozen=True, slots=True)
class Blocks:
    """Sorted unique numbers, and of each block its id, where it starts and how many it has."""

    numbers: Numbers
    ids: Numbers
    starts: npt.NDArray[np.intp]
    counts: npt.NDArray[np.intp]
    sparse: npt.NDArray[np.bool_]

    @classmethod
    def cut(cls, numbers: Numbers) -> Self:
        """Raises IndexRefused for numbers that do not rise strictly."""
        if len(numbers) > 1 and not (numbers[1:] > numbers[:-1]).all():
            raise IndexRefused("numbers of a list: not sorted, or not unique, expected both")
        ids, starts = _groups(numbers // np.uint64(BLOCK))
        counts = np.diff(starts, append=len(numbers))
        last = numbers[starts + counts - 1] % np.uint64(BLOCK)
        per_number = 1 + np.exp(-128 * counts / BLOCK)  # bytes of a gap of this mean
        sparse_bytes = counts * (per_number + 6 / 25) + 100
        sparse = (counts < _SPARSE_BELOW) & (sparse_bytes < last // np.uint64(8))
        return cls(numbers, ids, starts, counts, sparse)

    def best_width(self) -> int:
        """The width of a stretch that suits the sparse blocks, 0 if there are none."""
        counts = self.counts[self.sparse].astype(np.float64)
        if not len(counts):
            return 0
        density = float((counts * counts).sum() / counts.sum() / BLOCK)
        wanted = _STRETCH_BYTES / (density * (1 + np.exp(-128 * density)))
        return max(w for w in SPARSE_WIDTHS if w <= max(wanted, SPARSE_WIDTHS[0]))

    def runs(self, *, sparse: bool) -> Iterator[npt.NDArray[np.intp]]:
        """The positions of the sparse or the dense blocks, as many at once as suit one pipeline."""
        chosen = np.flatnonzero(self.sparse == sparse)
        for first in range(0, len(chosen), _A_RUN):
            yield chosen[first : first + _A_RUN]

    def bitmap(self, at: int) -> bytes:
        """The bitmap of the block at a position, number 0 in the highest bit of byte 0 (SETBIT)."""
        mine = self.numbers[self.starts[at] : self.starts[at] + self.counts[at]]
        offsets = (mine % np.uint64(BLOCK)).astype(np.intp)
        bits = np.zeros(int(offsets[-1]) + 1, np.uint8)
        bits[offsets] = 1
        return np.packbits(bits).tobytes()

    def stretches(
        self, run: npt.NDArray[np.intp], width: int
    ) -> Iterator[tuple[int, dict[bytes, bytes]]]:
        """Each span of the blocks at these positions, with its fields and their gaps."""
        mine = np.concatenate(
            [self.numbers[self.starts[at] : self.starts[at] + self.counts[at]] for at in run]
        )
        places, starts = _groups(mine // np.uint64(width))
        gaps = np.diff(mine, prepend=np.uint64(0)).astype(np.int64)
        gaps[starts] = mine[starts] % np.uint64(width)
        two, three = gaps >= 1 << 7, gaps >= 1 << 14
        begins = np.concatenate([[0], np.cumsum(1 + two + three)])
        out = np.zeros(begins[-1], np.uint8)
        at = begins[:-1]
        out[at] = gaps & 127 | two.astype(np.int64) << 7
        out[at[two] + 1] = gaps[two] >> 7 & 127 | three[two].astype(np.int64) << 7
        out[at[three] + 2] = gaps[three] >> 14
        data = out.tobytes()
        span, fields = -1, dict[bytes, bytes]()
        cuts = pairwise([*begins[starts].tolist(), len(data)])
        for place, (begin, end) in zip(places.tolist(), cuts, strict=True):
            if place * width // SPAN != span:
                if fields:
                    yield span, fields
                span, fields = place * width // SPAN, {}
            fields[bytes((place % (SPAN // width),))] = data[begin:end]
        if fields:
            yield span, fields


def _groups(rising: Numbers) -> tuple[Numbers, npt.NDArray[np.intp]]:
    """The values of an array that never falls, each once, and where each begins."""
    begins = np.flatnonzero(np.diff(rising, prepend=rising[:1] + np.uint64(1)))
    return rising[begins], begins


def count_gaps(stretches: list[bytes]) -> int:
    """How many numbers stretches name: each gap ends in the one byte below 128."""
    return int((np.frombuffer(b"".join(stretches), np.uint8) < 128).sum())
