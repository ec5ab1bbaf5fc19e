"""What a run of load is like over its time, apart from what the users do in it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

Phases = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """Phases of seconds and shares of the full rate; `disturbed` is from when to when something
    is wrong, in seconds, where the shape is about that."""

    name: str
    about: str
    phases: Phases
    disturbed: tuple[float, float] | None = None
    open_loop: bool = False

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return sum(seconds for seconds, _ in self.phases)

    def share(self, at: float) -> float | None:
        """The share of the full rate at an instant; None when the shape is over."""
        for seconds, share in self.phases:
            if at < seconds:
                return share
            at -= seconds
        return None


def _day(seconds: float, steps: int = 48) -> Iterator[tuple[float, float]]:
    """A working day of calls, its night left out: a hill in the late morning, the busy hour, and
    a lower one in the early evening."""
    for n in range(steps):
        hour = 7 + 15 * (n + 0.5) / steps
        morning = math.exp(-(((hour - 11) / 1.8) ** 2))
        evening = 0.8 * math.exp(-(((hour - 18.5) / 2.2) ** 2))
        yield seconds / steps, round(0.12 + 0.88 * max(morning, evening), 3)


SHAPES: Final = {
    each.name: each
    for each in (
        Shape("smoke", "A steady rate: does everything work?", ((12.0, 1.0),)),
        Shape("busy_hour", "A working day with its two hills.", tuple(_day(60.0))),
        Shape(
            "spike",
            "Five times the calls from one second to the next, and back.",
            ((12.0, 0.2), (10.0, 1.0), (18.0, 0.2)),
        ),
        Shape(
            "overload",
            "Twice what one core answers, on a schedule that waits for nobody.",
            ((6.0, 0.5), (10.0, 2.0), (8.0, 0.5)),
            disturbed=(6.0, 16.0),
            open_loop=True,
        ),
        Shape(
            "redis_outage",
            "The index server stands still for eight seconds.",
            ((34.0, 1.0),),
            disturbed=(10.0, 18.0),
        ),
        Shape("rule_reload", "New rules every two seconds while calls run.", ((30.0, 1.0),)),
    )
}
"""The full rate of `overload` is the measured capacity, that of the others is asked for."""
