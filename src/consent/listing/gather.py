"""Numbers in any order to sorted and unique ones, in bounded memory.

Beyond `HELD` numbers they go to disk as sorted runs and come back range by range: a range has
the numbers of some prefixes from every run, few enough to be sorted at once.
"""

import hashlib
import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.uint64]

HELD: Final = 1 << 24
"""Numbers in memory at once: 128 MiB, and two to three times that while they are sorted."""

SAMPLED: Final = 1 << 12
"""One in so many numbers of a run tells where to cut ranges of about `HELD` numbers."""


def sorted_unique(values: Values) -> Values:
    """The values in rising order, each once; the same array where they are that already.

    `np.unique` hashes integers, at half a million a second; sorting does sixty million.
    """
    if len(values) < 2 or (values[1:] > values[:-1]).all():
        return values
    values = np.sort(values)
    first = np.concatenate(([True], values[1:] != values[:-1]))
    return values if first.all() else values[first]


class _Run:
    """Sorted unique values, in memory or in a file without a name that goes with them."""

    __slots__ = ("_mapped", "samples", "values")

    def __init__(self, values: Values, spill: Path | None) -> None:
        self.samples = values[::SAMPLED].copy()
        self.values, self._mapped = values, None
        if spill is not None:
            with tempfile.TemporaryFile(dir=spill) as file:
                values.tofile(file)
                file.flush()
                self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.values = np.frombuffer(self._mapped, np.uint64)

    def release(self) -> None:
        """Gives back the memory of what was read of the file."""
        if self._mapped is not None:
            self._mapped.madvise(mmap.MADV_DONTNEED)


class Gathering:
    """Takes in values; `spill` is a folder for those beyond `HELD`, None keeps all in memory."""

    def __init__(self, spill: Path | None) -> None:
        self._spill = spill
        self._held: list[Values] = []
        self._count = 0
        self._runs: list[_Run] = []

    def add(self, values: Values) -> None:
        """Raises OSError where the folder has no room."""
        self._held.append(values)
        self._count += len(values)
        if self._spill is not None and self._count >= HELD:
            self._end_run(self._spill)

    def finish(self) -> "Gathered":
        """All that was added. Raises OSError as `add` does."""
        if self._held:
            # A run on disk means that there are too many to keep the last ones beside it.
            self._end_run(self._spill if self._runs else None)
        runs, self._runs = tuple(self._runs), []
        return Gathered.of(runs)

    def _end_run(self, spill: Path | None) -> None:
        values = np.concatenate(self._held)
        self._held, self._count = [], 0
        values = sorted_unique(values)
        if len(values):
            self._runs.append(_Run(values, spill))


@dataclass(frozen=True, slots=True)
class Gathered:
    """Sorted unique numbers: how many, and the SHA-256 of them as little-endian 64-bit words."""

    _runs: tuple[_Run, ...]
    count: int
    sha256: "hashlib._Hash"

    @classmethod
    def of(cls, runs: tuple[_Run, ...]) -> "Gathered":
        gathered = cls(runs, 0, hashlib.sha256())
        count, digest = 0, hashlib.sha256()
        for part in gathered.parts():
            count += len(part)
            digest.update(np.ascontiguousarray(part, "<u8").data)
        return cls(runs, count, digest)

    def parts(self, *, align: int = 1) -> Iterator[Values]:
        """The numbers in rising order, in parts of about `HELD`; at least one, maybe empty.

        No two parts share a block of `align` consecutive numbers that begins at a multiple.
        """
        if not self._runs:
            yield np.zeros(0, np.uint64)
            return
        samples = np.sort(np.concatenate([run.samples for run in self._runs]))
        every = max(1, HELD // SAMPLED)
        cuts = sorted_unique(samples[every::every] // np.uint64(align) * np.uint64(align))
        edges = [
            [0, *np.searchsorted(run.values, cuts).tolist(), len(run.values)] for run in self._runs
        ]
        for ends in zip(*map(pairwise, edges), strict=True):
            found = [
                run.values[first:last]
                for run, (first, last) in zip(self._runs, ends, strict=True)
                if last > first
            ]
            if not found:
                continue
            # A copy even of one alone: what is mapped is given back.
            part = found[0].copy() if len(found) == 1 else sorted_unique(np.concatenate(found))
            del found
            for run in self._runs:
                run.release()
            yield part

    def whole(self) -> Values:
        """All in one array: for lists that memory holds anyway."""
        return np.concatenate(list(self.parts()))
