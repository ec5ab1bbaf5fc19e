"""The conduct of all parties that are remembered, within a bounded memory.

Numbers and blocks begin on probation and are established by their third call. Who is new takes
the place only of others on probation, so that a flood of numbers that call once does not make the
tally forget those that keep calling.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from screening.signals.windows import LONGEST, Party

CALLING, ENTITY, BLOCK, TRUNK = "calling", "entity", "block", "trunk"
KINDS: Final = (CALLING, ENTITY, BLOCK, TRUNK)

MOST: Final = {CALLING: 100_000, BLOCK: 20_000, ENTITY: 10_000, TRUNK: 2_000}
"""Parties remembered of each kind; the least recently heard of go first."""

MOST_GROWN: Final = 2_000
"""Parties of more than 48 calls in a week that have sketches, 0.6 MB each at the very most."""

_ESTABLISHED: Final = 3

Key = int | str


class Table:
    """The parties of one kind."""

    def __init__(self, most: int) -> None:
        self.forgotten = 0
        self._most = most
        self._established: OrderedDict[Key, Party] = OrderedDict()
        self._probation: OrderedDict[Key, Party] = OrderedDict()

    def __len__(self) -> int:
        return len(self._established) + len(self._probation)

    def find(self, key: Key) -> Party | None:
        return self._established.get(key) or self._probation.get(key)

    def party(self, key: Key) -> Party:
        """The party of a key, remembered from now on."""
        party = self._established.get(key)
        if party is not None:
            self._established.move_to_end(key)
            return party
        party = self._probation.get(key)
        if party is None:
            if len(self) >= self._most:
                self._forget()
            party = self._probation[key] = Party()
        elif party.events is None or len(party.events) >= _ESTABLISHED - 1:
            self._established[key] = self._probation.pop(key)
        else:
            self._probation.move_to_end(key)
        return party

    def _forget(self) -> None:
        self.forgotten += 1
        (self._probation or self._established).popitem(last=False)

    def drop(self, key: Key) -> bool:
        """Forget one; whether it was there."""
        found = self._established.pop(key, None) or self._probation.pop(key, None)
        return found is not None

    def items(self) -> Iterator[tuple[Key, Party]]:
        yield from self._established.items()
        yield from self._probation.items()

    def put(self, key: Key, party: Party, *, established: bool) -> None:
        (self._established if established else self._probation)[key] = party

    def state(self) -> list[Any]:
        return [
            [[key, party.state()] for key, party in part.items()]
            for part in (self._established, self._probation)
        ]


class Tally:
    """Every party's calls."""

    def __init__(self, *, most: dict[str, int] | None = None, most_grown: int = MOST_GROWN) -> None:
        self.tables: Final = {kind: Table((most or MOST)[kind]) for kind in KINDS}
        self.changed: Final[dict[tuple[str, Key], Party]] = {}
        """Those with something new since they were published."""
        self._most_grown = most_grown
        self._grown: OrderedDict[tuple[str, Key], Party] = OrderedDict()

    def add(self, kind: str, key: Key, now: float, bits: int, called: int) -> None:
        """Count an event of a party."""
        party = self.tables[kind].party(key)
        name = (kind, key)
        if party.events is None:
            self._grown.move_to_end(name)
        if party.add(now, bits, called):
            party.grow()
            self._grown[name] = party
            if len(self._grown) > self._most_grown:
                (other, its), _ = self._grown.popitem(last=False)
                self.tables[other].drop(its)
                self.changed.pop((other, its), None)
        self.changed[name] = party

    def drop(self, kind: str, key: Key) -> bool:
        """Forget a party's counts; whether there were any."""
        self._grown.pop((kind, key), None)
        self.changed.pop((kind, key), None)
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
                    party = Party.restored(kept, ahead=ahead)
                    self.tables[kind].put(key, party, established=established)
                    self.changed[kind, key] = party
                    if party.events is None:
                        self._grown[kind, key] = party
