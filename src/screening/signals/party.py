"""Whose calls are counted: one number, entity, block or trunk."""

from typing import Any

from screening.signals.events import MOST_EVENTS, Events
from screening.signals.rings import Rings
from screening.signals.windows import LONGEST, SPANS, Called, Seen

Key = int | str


class Party:
    """The calls of one number, entity, block or trunk: single events, or rings when many."""

    __slots__ = (
        "due", "established", "events", "forgotten", "key", "kind", "last", "newer", "older",
        "rings", "told", "waits",
    )  # fmt: skip

    def __init__(self, kind: str = "", key: Key = 0) -> None:
        self.kind = kind
        self.key = key
        self.events = Events()
        self.rings: Rings | None = None
        self.last = 0.0
        self.due = 0.0
        """When it is to be published next; 0 when not."""
        self.told = 0.0
        """When it was last published with a new time to live; 0 when never."""
        self.waits = False
        """Whether it is among those that are to be published."""
        self.established = self.forgotten = False
        self.older: Party
        self.newer: Party
        """Those beside it, by when they were last heard of: see `tally.Line`."""

    def add(self, now: float, bits: int, called: Called) -> bool:
        """Count an event; whether it has outgrown single events just now."""
        self.last = now
        if self.rings is not None:
            self.rings.add(now, bits, called)
            return False
        self.events.add(now, bits, called)
        if len(self.events) <= MOST_EVENTS:
            return False
        self.events.forget(now - LONGEST)
        return len(self.events) > MOST_EVENTS

    def grow(self) -> None:
        """Go over to sketches."""
        self.rings = Rings()
        for now, bits, called in self.events.all():
            self.rings.add(now, bits, called)
        self.events = Events()

    def at(self, now: float) -> tuple[Seen, ...]:
        """What each of WINDOWS holds at `now`."""
        return self.events.at(now) if self.rings is None else self.rings.at(now)

    def next_change(self, now: float) -> float:
        """Seconds until what its windows hold is another, though nothing happens; 0 for never."""
        if self.rings is None:
            return self.events.next_change(now)
        age = now - self.last
        for seconds, span in SPANS:
            if age <= seconds * (span + 1):
                return float(seconds)
        return 0.0

    def state(self) -> Any:
        """What `restored` makes it again from."""
        if self.rings is None:
            return self.events.all()
        return {"rings": self.rings.state(), "last": self.last}

    @classmethod
    def restored(cls, kind: str, key: Key, state: Any, *, ahead: float) -> "Party":
        """The party of a state whose clock was `ahead` seconds behind this one's."""
        party = cls(kind, key)
        if isinstance(state, list):
            for at, bits, called in state:
                party.last = at + ahead
                party.events.add(party.last, bits, called)
            return party
        party.rings = Rings()
        party.rings.restore(state["rings"], ahead=ahead)
        party.last = state["last"] + ahead
        return party
