"""The conduct of all parties that are remembered, within a bounded memory.

Numbers and blocks begin on probation and are established by their third call. Who is new takes
the place only of others on probation, so that a flood of numbers that call once does not make the
tally forget those that keep calling.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from screening.signals.windows import LONGEST, Key, Party

CALLING, ENTITY, BLOCK, TRUNK = "calling", "entity", "block", "trunk"
KINDS: Final = (CALLING, ENTITY, BLOCK, TRUNK)

MOST: Final = {CALLING: 100_000, BLOCK: 20_000, ENTITY: 10_000, TRUNK: 2_000}
"""Parties remembered of each kind; the least recently heard of go first."""

MOST_GROWN: Final = 2_000
"""Parties of more than 48 calls in a week that have sketches, 0.6 MB each at the very most."""

_ESTABLISHED: Final = 3


class Table:
    """The parties of one kind."""

    def __init__(self, most: int, kind: str = "") -> None:
        self.forgotten = 0
        self._most = most
        self._kind = kind
        self._established: OrderedDict[Key, Party] = OrderedDict()
        self._probation: OrderedDict[Key, Party] = OrderedDict()

    def __len__(self) -> int:
        return len(self._established) + len(self._probation)

    def find(self, key: Key) -> Party | None:
        return self._established.get(key) or self._probation.get(key)

    def party(self, key: Key) -> Party:
        """The party of a key, remembered from now on.

        One that waits to be published has been heard of so lately that it keeps its place.
        """
        party = self._established.get(key)
        if party is not None:
            if not party.waits:
                self._established.move_to_end(key)
            return party
        party = self._probation.get(key)
        if party is None:
            if len(self) >= self._most:
                self._forget()
            party = self._probation[key] = Party(self._kind, key)
        elif party.rings is not None or len(party.events) >= _ESTABLISHED - 1:
            self._established[key] = self._probation.pop(key)
        else:
            self._probation.move_to_end(key)
        return party

    def _forget(self) -> None:
        self.forgotten += 1
        _, party = (self._probation or self._established).popitem(last=False)
        party.forgotten = True

    def drop(self, key: Key) -> bool:
        """Forget one; whether it was there."""
        party = self._established.pop(key, None) or self._probation.pop(key, None)
        if party is None:
            return False
        party.forgotten = True
        return True

    def items(self) -> Iterator[tuple[Key, Party]]:
        yield from self._established.items()
        yield from self._probation.items()

    def put(self, party: Party, *, established: bool) -> None:
        (self._established if established else self._probation)[party.key] = party

    def state(self) -> list[Any]:
        return [
            [[key, party.state()] for key, party in part.items()]
            for part in (self._established, self._probation)
        ]


class Tally:
    """Every party's calls."""

    def __init__(self, *, most: dict[str, int] | None = None, most_grown: int = MOST_GROWN) -> None:
        self.tables: Final = {kind: Table((most or MOST)[kind], kind) for kind in KINDS}
        self.changed: Final[list[Party]] = []
        """Those with something new since they were published, each once."""
        self._most_grown = most_grown
        self._grown: OrderedDict[Party, None] = OrderedDict()

    def add(self, kind: str, key: Key, now: float, bits: int, called: int) -> None:
        """Count an event of a party."""
        party = self.tables[kind].party(key)
        if party.add(now, bits, called):
            self._grow(party)
        if not party.waits:
            self.change(party)
            if party.rings is not None:
                self._grown.move_to_end(party)

    def change(self, party: Party) -> None:
        """A party is to be published."""
        party.waits = True
        self.changed.append(party)

    def _grow(self, party: Party) -> None:
        party.grow()
        self._grown[party] = None
        if len(self._grown) > self._most_grown:
            other, _ = self._grown.popitem(last=False)
            if not other.forgotten:
                self.tables[other.kind].drop(other.key)

    def drop(self, kind: str, key: Key) -> bool:
        """Forget a party's counts; whether there were any."""
        party = self.tables[kind].find(key)
        if party is None:
            return False
        self._grown.pop(party, None)
        return self.tables[kind].drop(key)

    def state(self, now: float) -> dict[str, Any]:
        """What `restore` takes in; `now` is this clock's."""
        return {"now": now, "tables": {kind: each.state() for kind, each in self.tables.items()}}

    def restore(self, state: dict[str, Any], *, now: float, seconds_since: float) -> None:
        """Take in what was counted before a restart, `seconds_since` ago."""
        ahead = now - float(state["now"]) - max(0.0, min(seconds_since, LONGEST))
        # A slot of the old clock at its own instant `then` is at `then + ahead` of this one.
        for kind, parts in state["tables"].items():
            for established, part in zip((True, False), parts, strict=True):
                for key, kept in part:
                    party = Party.restored(kind, key, kept, ahead=ahead)
                    self.tables[kind].put(party, established=established)
                    self.change(party)
                    if party.rings is not None:
                        self._grown[party] = None
