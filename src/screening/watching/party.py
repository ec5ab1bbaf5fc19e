"""One party's own history, and the evidence against it: what the watch remembers of whom.

Rates are of events an hour. A history forgets by the week; it is kept sparsely, by the hours of the
week in which the party called at all.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

NUMBER, BLOCK, ENTITY, TRUNK, NEIGHBOURS = "number", "block", "entity", "trunk", "neighbours"
KINDS: Final = (NUMBER, BLOCK, ENTITY, TRUNK, NEIGHBOURS)

CALLS, UNITS, FRESH, CONSENTED, VOUCHED, REFUSED, ENDED, ANSWERED, SHORT, COMPLAINTS = range(10)
"""Places of the counts of a party: `UNITS` is what its rate is of."""

MARKS: Final = 10
HOURS: Final = 168
WEEK_KEEPS: Final = 0.65
DAY_KEEPS: Final = 0.85
SHARES_KEEP: Final = 0.5 ** (1 / (14 * 24))
"""An hour's forgetting of shares and scatter: half of it in a fortnight."""

Counts = list[float]


class Rate(NamedTuple):
    """How a kind of party calls as a rule, and what departs from it."""

    prior: float
    """Events an hour of a party without a history, and the least that is expected of any."""
    scatter: float
    """Variance a mean of a party without a history."""
    factor: float
    """A campaign has so many times what was expected,"""
    more: float
    """and so many an hour more."""
    least_hours: float
    """Hours since a party was first met (neighbours: since the watch began) before its rate can
    depart from anything."""


RATES: Final = {
    NUMBER: Rate(4.0, 1.5, 1.5, 8.0, 0.0),
    BLOCK: Rate(5.0, 1.5, 2.0, 14.0, 0.0),
    ENTITY: Rate(10.0, 3.0, 1.6, 20.0, 48.0),
    TRUNK: Rate(10.0, 3.0, 1.6, 30.0, 72.0),
    NEIGHBOURS: Rate(2.0, 1.5, 2.0, 12.0, 24.0),
}


class Party:
    """A number, block, entity or trunk, or the unknown neighbours that call by a trunk."""

    __slots__ = (
        "bin",
        "callings",
        "days",
        "departed",
        "entity",
        "examples",
        "excess",
        "expected_hourly",
        "expected_in",
        "first",
        "hod",
        "hour",
        "hour_at",
        "how",
        "key",
        "kind",
        "last",
        "marks",
        "quiet_until",
        "scatter",
        "scatter_hours",
        "seen",
        "shares",
        "shares_at",
        "since",
        "warned",
        "warned_score",
    )

    def __init__(self, kind: str, key: int | str, *, tick: int) -> None:
        self.kind = kind
        self.key = key
        self.first = tick
        """Minute of the watch's own clock in which it was first met."""
        self.last = tick
        self.bin: Counts | None = None
        """Counts of the minute that runs, None where there are none."""
        self.hour: Counts = [0.0] * MARKS
        self.hour_at = -1
        self.how: dict[int, tuple[float, int]] = {}
        """By hour of the week: events an hour, and the week that they were last told in."""
        self.hod: dict[int, tuple[float, int]] = {}
        """The same by hour of the day."""
        self.entity = 0
        """Who answers for a number, as of its last call."""
        self.days = 0
        """Different days on which it called, up to 100."""
        self.shares: Counts = [0.0] * MARKS
        self.shares_at = 0
        self.scatter = 0.0
        self.scatter_hours = 0.0
        self.excess = 0.0
        """Evidence of its rate, in nats."""
        self.marks = 0.0
        """Evidence of what its calls are like, in nats."""
        self.since = 0
        """The wall clock's minute since which it departs, 0 while it does not."""
        self.seen: Counts = [0.0] * MARKS
        """Counts since then."""
        self.callings: set[int] = set()
        """Calling numbers of a block since then, at most `MOST_CALLINGS`."""
        self.examples: list[str] = []
        self.warned = 0
        """The minute of its warning, 0 without one that is open."""
        self.warned_score = 0.0
        self.departed = 0
        """The minute of the watch's clock in which it last called more than it should."""
        self.quiet_until = 0
        self.expected_in = -1
        """The hour that `expected_hourly` was reckoned for."""
        self.expected_hourly = 0.0

    # What is expected of it

    def expected(self, hour: int, tick: int) -> float:
        """Events in an hour (of the wall clock, since the epoch) by its own history."""
        rate = RATES[self.kind]
        age_hours = (tick - self.first) / 60
        if age_hours < 1:
            return rate.prior
        week, day = hour // HOURS, hour // 24
        weekly: float = 0.0
        for beside, weight in ((hour - 1, 0.25), (hour, 0.5), (hour + 1, 0.25)):
            weekly += weight * _kept(self.how.get(beside % HOURS), week, WEEK_KEEPS)
        daily: float = 0.0
        for beside, weight in ((hour - 1, 0.25), (hour, 0.5), (hour + 1, 0.25)):
            daily += weight * _kept(self.hod.get(beside % 24), day, DAY_KEEPS)
        weeks, days = age_hours / HOURS, age_hours / 24
        daily /= 1 - DAY_KEEPS ** max(days, 1.0)
        if weeks < 1:
            return float(max(rate.prior, daily))
        weekly /= 1 - WEEK_KEEPS**weeks
        return float(max(rate.prior, 0.6 * weekly + 0.4 * daily, min(weekly, daily)))

    def scattered(self) -> float:
        """Variance a mean of its hours: 1 would be Poisson's."""
        prior, hours = RATES[self.kind].scatter, 24.0
        return max(1.0, (prior * hours + self.scatter) / (hours + self.scatter_hours))

    def share(self, mark: int, of: int, prior: float, strength: float) -> float:
        """The share of its events with a mark by its own history, drawn to a prior."""
        value = (self.shares[mark] + strength * prior) / (self.shares[of] + strength)
        return min(0.995, max(0.002, value))

    # What it learns

    def learn(self, hour: int, tick: int, *, suspect: bool) -> None:
        """Take the hour that has gone by into its history; of a suspect no more than expected."""
        counts, at = self.hour, self.hour_at
        self.hour, self.hour_at = [0.0] * MARKS, hour
        if at < 0 or not (counts[CALLS] or counts[UNITS]):
            return
        expected = self.expected(at, tick)
        units = min(counts[UNITS], expected) if suspect else counts[UNITS]
        week, day = at // HOURS, at // 24
        before = self.hod.get(at % 24)
        _add(self.how, at % HOURS, units, week, WEEK_KEEPS)
        _add(self.hod, at % 24, units, day, DAY_KEEPS)
        if before is None or before[1] != day:
            self.days = min(100, self.days + 1)
        if suspect:
            return
        kept = SHARES_KEEP ** max(0, at - self.shares_at)
        self.shares = [old * kept + new for old, new in zip(self.shares, counts, strict=True)]
        self.scatter = self.scatter * kept + (units - expected) ** 2 / max(expected, 1.0)
        self.scatter_hours = self.scatter_hours * kept + 1
        self.shares_at = at

    # What speaks against it

    @property
    def score(self) -> float:
        """All the evidence, in nats."""
        return self.excess + self.marks

    def calm(self) -> None:
        """End what was counted since it departed."""
        self.since = 0
        self.seen = [0.0] * MARKS
        self.callings = set()
        self.examples = []

    def state(self) -> dict[str, Any]:
        """What `restored` makes it again from."""
        return {
            name: sorted(getattr(self, name)) if name == "callings" else getattr(self, name)
            for name in self.__slots__
            if name not in ("how", "hod")
        } | {name: [[k, *v] for k, v in getattr(self, name).items()] for name in ("how", "hod")}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Party":
        """The party of a state."""
        party = cls(state["kind"], state["key"], tick=state["first"])
        for name in cls.__slots__:
            setattr(party, name, state[name])
        party.callings = set(state["callings"])
        party.how = {hour: (value, week) for hour, value, week in state["how"]}
        party.hod = {hour: (value, day) for hour, value, day in state["hod"]}
        return party


class Table:
    """The parties of a kind: those met first, and those that called on several days."""

    def __init__(self, most: int) -> None:
        self.forgotten = 0
        self._most = most
        self._met: OrderedDict[int | str, Party] = OrderedDict()
        self._established: OrderedDict[int | str, Party] = OrderedDict()

    def __len__(self) -> int:
        return len(self._met) + len(self._established)

    def __iter__(self) -> Iterator[Party]:
        yield from self._met.values()
        yield from self._established.values()

    def get(self, key: int | str) -> Party | None:
        """The party of a key, which was met just now."""
        party = self._established.get(key)
        if party is not None:
            self._established.move_to_end(key)
            return party
        party = self._met.get(key)
        if party is None:
            return None
        if party.days < 2:
            self._met.move_to_end(key)
            return party
        del self._met[key]
        self._put(self._established, party)
        return party

    def peek(self, key: int | str) -> Party | None:
        """The party of a key."""
        return self._established.get(key) or self._met.get(key)

    def add(self, party: Party) -> None:
        """Take a party in."""
        self._put(self._established if party.days >= 2 else self._met, party)

    def _put(self, table: OrderedDict[int | str, Party], party: Party) -> None:
        if len(table) >= self._most:
            self.forgotten += 1
            table.popitem(last=False)
        table[party.key] = party


def _kept(entry: tuple[float, int] | None, now: int, keeps: float) -> float:
    if entry is None:
        return 0.0
    value, told = entry
    return float(value * math.pow(keeps, now - told - 1)) if now > told else value


def _add(
    table: dict[int, tuple[float, int]], at: int, units: float, now: int, keeps: float
) -> None:
    value, told = table.get(at, (0.0, now))
    table[at] = (value * math.pow(keeps, max(0, now - told)) + (1 - keeps) * units, now)
