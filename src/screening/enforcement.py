"""How long what a person decided took until this worker decided by it.

Decisions of subscribers are read for every call, so they are in force everywhere once the index
has acknowledged them. Lists and entities are in force in a worker once it has taken them in; it is
told of a change on a channel, and would find it by itself at its next look at the record.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from consent.record.timings import Key, bound_of
from screening.snapshot import Catalogue

DAY: Final = 86_400
MOST_PENDING: Final = 10_000
"""Decisions whose time is taken while the index is gone; of more the oldest are not measured."""


class Enforcement:
    """Measures; `observe` is told what came into force, and in how many seconds."""

    def __init__(
        self,
        observe: Callable[[str, float], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._observe = observe
        self._clock = clock
        self._now = now
        self._pending: deque[tuple[int, float]] = deque(maxlen=MOST_PENDING)
        self._lists: dict[str, tuple[int, float]] | None = None
        self._entities_at: float | None = None
        self._counts: Counter[Key] = Counter()

    def take_counts(self) -> Counter[Key]:
        """What was measured since it was last asked for, for the record."""
        counts, self._counts = self._counts, Counter()
        return counts

    def put_back(self, counts: Counter[Key]) -> None:
        """Counts that could not be written."""
        self._counts += counts

    def _measured(self, facts: str, seconds: float) -> None:
        self._observe(facts, seconds)
        self._counts[int(self._now() // DAY), facts, bound_of(seconds)] += 1

    def accepted(self) -> float:
        """The instant of a request."""
        return self._clock()

    def decided(self, sequence: int, *, accepted: float, in_force: bool) -> None:
        """A decision is in the ledger, and in force or waiting for the index."""
        if in_force:
            self._measured("decisions", self._clock() - accepted)
        else:
            self._pending.append((sequence, accepted))

    def applied(self, sequence: int) -> None:
        """The index has the ledger through a sequence."""
        waiting = self._pending
        while waiting and waiting[0][0] <= sequence:
            self._measured("decisions", self._clock() - waiting.popleft()[1])

    def taken_in(self, catalogue: Catalogue, *, entities_at: float) -> None:
        """This worker decides by these lists, and by entities that last changed at an instant.

        Measured from the instants that the record has, by the clock of who changed it. What was
        there at the start is not.
        """
        lists = {each.name: (each.generation, each.since) for each in catalogue.lists}
        if self._lists is not None:
            for name, (generation, since) in lists.items():
                if self._lists.get(name) != (generation, since):
                    self._measured("lists", max(0.0, self._now() - since))
        if self._entities_at is not None and entities_at > self._entities_at:
            self._measured("entities", max(0.0, self._now() - entities_at))
        self._lists, self._entities_at = lists, entities_at
