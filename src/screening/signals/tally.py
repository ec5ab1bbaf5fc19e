"""The conduct of all parties that are remembered, within a bounded memory.

Numbers and blocks begin on probation and are established by their third call. Who is new takes
the place only of others on probation, so that a flood of numbers that call once does not make the
tally forget those that keep calling.
"""

from collections import OrderedDict
from collections.abc import ItemsView, Iterator
from typing import Any, Final

from screening.signals.party import Key, Party
from screening.signals.windows import LONGEST, Called

CALLING: Final = "calling"
ENTITY: Final = "entity"
BLOCK: Final = "block"
TRUNK: Final = "trunk"
KINDS: Final = (CALLING, ENTITY, BLOCK, TRUNK)

MOST: Final = {CALLING: 100_000, BLOCK: 20_000, ENTITY: 10_000, TRUNK: 2_000}
"""Parties remembered of each kind; the least recently heard of go first."""

MOST_GROWN: Final = 2_000
"""Parties of more than 48 calls in a week that have sketches, 0.6 MB each at the very most."""

_ESTABLISHED: Final = 3


class Line:
    """Parties in the order in which they were last heard of: each knows who stands beside it."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end: Final = Party()
        self._end.older = self._end.newer = self._end

    def join(self, party: Party) -> None:
        """Stand at the newest end."""
        end = self._end
        party.older, party.newer = end.older, end
        end.older.newer = end.older = party

    @staticmethod
    def leave(party: Party) -> None:
        party.older.newer, party.newer.older = party.newer, party.older

    def oldest(self) -> Party | None:
        return self._end.newer if self._end.newer is not self._end else None

    def __iter__(self) -> Iterator[Party]:
        party = self._end.newer
        while party is not self._end:
            yield party
            party = party.newer


class Table:
    """The parties of one kind."""

    def __init__(self, most: int, kind: str = "") -> None:
        self.forgotten = 0
        self._most = most
        self._kind = kind
        self._parties: dict[Key, Party] = {}
        self._established: Final = Line()
        self._probation: Final = Line()

    def __len__(self) -> int:
        return len(self._parties)

    def find(self, key: Key) -> Party | None:
        return self._parties.get(key)

    def party(self, key: Key) -> Party:
        """The party of a key, remembered from now on.

        One that waits to be published has been heard of so lately that it keeps its place.
        """
        party = self._parties.get(key)
        if party is None:
            if len(self._parties) >= self._most:
                self._forget()
            party = Party(self._kind, key)
            self.put(party, established=False)
        elif not party.established:
            party.established = party.rings is not None or len(party.events) >= _ESTABLISHED - 1
            Line.leave(party)
            self._line(party).join(party)
        elif not party.waits:
            Line.leave(party)
            self._established.join(party)
        return party

    def _line(self, party: Party) -> Line:
        return self._established if party.established else self._probation

    def _forget(self) -> None:
        oldest = self._probation.oldest() or self._established.oldest()
        if oldest is not None:
            self.forgotten += 1
            self.drop(oldest.key)

    def drop(self, key: Key) -> bool:
        """Forget one; whether it was there."""
        party = self._parties.pop(key, None)
        if party is None:
            return False
        Line.leave(party)
        party.forgotten = True
        return True

    def items(self) -> ItemsView[Key, Party]:
        return self._parties.items()

    def put(self, party: Party, *, established: bool) -> None:
        party.established = established
        self._parties[party.key] = party
        self._line(party).join(party)

    def state(self) -> list[Any]:
        return [
            [[party.key, party.state()] for party in part]
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

    def add(self, kind: str, key: Key, now: float, bits: int, called: Called) -> None:
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
