"""How long what a person decided took to be in force, as counts by day: what a report needs.

A worker adds up what it measured and writes it now and then; days, kinds and bounds are few, so the
table stays small whatever happens.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

from sqlalchemy import delete, insert, select, update

from consent.record.database import Database, hold
from consent.record.schema import timing

BOUNDS_MS: Final = (10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000)
BEYOND: Final = 0
"""The bound of what took longer than the last of BOUNDS_MS."""

KEPT_DAYS: Final = 800
"""The longest that a month's report is asked for afterwards, and then some."""

Key = tuple[int, str, int]
"""The day (since the epoch, UTC), what was decided, and the bound in milliseconds."""


def bound_of(seconds: float) -> int:
    """The least bound that a time is within, BEYOND for none."""
    at = bisect_left(BOUNDS_MS, seconds * 1000)
    return BOUNDS_MS[at] if at < len(BOUNDS_MS) else BEYOND


class Timings:
    """The counts of all nodes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, counts: Mapping[Key, int]) -> None:
        """Adds counts to what is there. Raises RecordUnavailable."""
        if not counts:
            return
        with self._database.write() as connection:
            hold(connection, "revision")  # two who add the same row for the first time
            for (day, facts, within), count in counts.items():
                mine = (
                    (timing.c.day == day)
                    & (timing.c.facts == facts)
                    & (timing.c.within_ms == within)
                )
                more = update(timing).where(mine).values(count=timing.c.count + count)
                if not connection.execute(more).rowcount:
                    row = {"day": day, "facts": facts, "within_ms": within, "count": count}
                    connection.execute(insert(timing).values(**row))
            newest = max(day for day, _, _ in counts)
            connection.execute(delete(timing).where(timing.c.day < newest - KEPT_DAYS))

    def between(self, first: int, end: int) -> dict[Key, int]:
        """The counts of the days from `first` to before `end`."""
        within = (timing.c.day >= first) & (timing.c.day < end)
        with self._database.read() as connection:
            rows = connection.execute(select(timing).where(within)).all()
        return {(day, facts, within): int(count) for day, facts, within, count in rows}
