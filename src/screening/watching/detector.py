"""Finds campaigns as they start: events in, findings out. No I/O and no clock of its own.

Evidence is counted in nats, as log-likelihood ratios of "a campaign has begun" to "as ever", in
two sums that never fall below zero (Page's CUSUM, Biometrika 41, 1954): how much more a party calls
than its own history at this hour of the week leads to expect, and what its calls are like. Each is
capped, so that volume alone convicts nobody: an alert of a school stays what it is. A sum of this
kind that is compared with h gives a false alarm at most every e^h minutes of one party on average,
as long as what is expected is right (Lorden, Ann. Math. Stat. 42, 1971); how often it is not is
measured by `make bench-watch`.

Invariants:
- memory is bounded whatever comes: tables have limits, who is met first takes the place of others
  that were, and what was called is remembered by filters of fixed size;
- a step of the clock moves nobody's rate: the watch's own clock goes on by the minute, a gap in
  which nobody called is no silence of anybody, and going back begins the minute anew;
- calls of a number that was warned of count against no block, entity or trunk.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from datasketches import frequent_items_error_type, frequent_items_sketch

from screening.watching.events import Call, Complaint, End, Event
from screening.watching.party import (
    ANSWERED,
    BLOCK,
    CALLS,
    COMPLAINTS,
    CONSENTED,
    ENDED,
    ENTITY,
    FRESH,
    MARKS,
    NEIGHBOURS,
    NUMBER,
    RATES,
    REFUSED,
    SHORT,
    TRUNK,
    UNITS,
    VOUCHED,
    Counts,
    Party,
    Table,
)
from screening.watching.seen import Seen

STEP_MINUTES: Final = 15
"""A clock that is further back than this was put right: the minute begins anew."""

GAP_MINUTES: Final = 60
"""Nobody called for longer: the node, or its clock, was away."""

MOST_CALLINGS: Final = 512
EXAMPLES: Final = 5
DAY_MINUTES: Final = 1440


@dataclass(frozen=True, slots=True)
class Weights:
    """How evidence weighs; the defaults were chosen by `benchmarks.watch --tune`."""

    threshold: float = 15.0
    """Nats from which a warning is given."""
    least_excess: float = 3.0
    """Nats of rate without which it is not."""
    most_excess: float = 7.0
    most_marks: float = 14.0
    events_a_minute: float = 8.0
    """More in a minute weigh as these: calls of one minute are not independent."""
    marks_half_life_minutes: float = 300.0
    fresh: float = 0.97
    consented: float = 0.01
    vouched: float = 0.4
    refused: float = 0.08
    answered: float = 0.35
    short: float = 0.5
    complaints: float = 0.01
    """Shares in a campaign's calls."""
    history: float = 12.0
    """Calls from which a party's own history weighs as much as what is usual."""
    sure_at: float = 11.25
    sure_slope: float = 0.6
    """How sure a warning is, by its score: fitted to the warnings of the tuning seeds."""

    def sure(self, score: float) -> float:
        """The share of warnings with this score that are right, as far as generated weeks tell."""
        return 1 / (1 + math.exp(-self.sure_slope * (score - self.sure_at)))


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is remembered."""

    parties: dict[str, int] = field(
        default_factory=lambda: {
            NUMBER: 15_000, BLOCK: 5_000, ENTITY: 3_000, TRUNK: 500, NEIGHBOURS: 500,
        }
    )  # fmt: skip
    """Of each kind, and as many again that called on two days or more."""
    seen_bits: int = 1 << 27
    """Of each of two filters for who called whom: 16 MiB and 13 million pairs a half."""
    hourly: int = 500_000
    """Different calling numbers told apart within an hour."""
    strangers: int = 100_000
    heavy_log2: int = 17
    """Of the counters that tell who calls often: 98,000, for six hours and six more."""
    admitted_from: dict[str, int] = field(default_factory=lambda: {NUMBER: 4, BLOCK: 3})
    """Calls within six to twelve hours from which a party is remembered."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A campaign that was found. Instants are epoch seconds.

    `evidence` has the counts since it began and what was expected; `expected_hourly` and
    `hourly` are of calls, of a block of different calling numbers.
    """

    kind: str
    key: int | str
    since: float
    at: float
    score: float
    sure: float
    hourly: float
    expected_hourly: float
    evidence: dict[str, float]
    examples: tuple[str, ...]
    grown: bool = False
    """Whether it was told before, and only its evidence has grown."""


_APART: Final = 10
"""Minutes after which one more call is no evidence of anybody's rate."""

USUAL: Final = {
    FRESH: (0.9, CALLS), CONSENTED: (0.03, CALLS), VOUCHED: (0.5, CALLS), REFUSED: (0.02, CALLS),
    ANSWERED: (0.65, ENDED), SHORT: (0.15, ANSWERED), COMPLAINTS: (0.001, CALLS),
}  # fmt: skip
"""The shares of numbers without a history, and of what they are shares."""

_OWN_ONLY: Final = frozenset({FRESH, VOUCHED})
"""What speaks by a party's own history alone: everybody's calls are to strangers at first."""

_USUAL_STRENGTH: Final = 3_000.0
_USUAL_KEEPS: Final = 0.9999
_FEW: Final = 20
_NAMES: Final = (
    "calls", "units", "fresh", "consented", "vouched", "refused", "ended", "answered", "short",
    "complaints",
)  # fmt: skip


class Detector:
    """What all parties do, and who departs from it."""

    def __init__(self, weights: Weights = Weights(), limits: Limits = Limits()) -> None:
        self.weights = weights
        self.limits = limits
        self.tables = {kind: Table(most) for kind, most in limits.parties.items()}
        self.tick = 1
        """Minutes of the watch's own clock."""
        self.minute = -1
        """The wall clock's minute, since the epoch."""
        self.calls = 0
        self.steps = 0
        """How often the clock went back, or away for an hour."""
        self._open: dict[tuple[str, int | str], Party] = {}
        self._bins: dict[Party, None] = {}
        self._hours: dict[Party, None] = {}
        self._pairs = Seen(limits.seen_bits)
        self._numbers = Seen(limits.seen_bits // 4)
        self._hourly: set[int] = set()
        self._strangers: OrderedDict[int, str] = OrderedDict()
        """Numbers met for the first time of late, and as whose calls they counted."""
        self._heavy = [frequent_items_sketch(limits.heavy_log2) for _ in range(2)]
        self._usual: Counts = [0.0] * MARKS
        for mark, (share, of) in USUAL.items():
            self._usual[of] = self._usual[of] or _USUAL_STRENGTH
            self._usual[mark] = share * self._usual[of]

    # Events

    def take(self, events: Iterable[Event]) -> list[Finding]:
        """Count events, in the order of the record; the findings that the minutes between gave."""
        findings: list[Finding] = []
        for event in events:
            minute = int(event.at // 60)
            if minute != self.minute:
                self._turn(minute, findings)
            if type(event) is Call:
                self._call(event)
            elif type(event) is End:
                self._end(event)
            elif type(event) is Complaint:
                self._complaint(event)
        return findings

    def look(self, at: float) -> list[Finding]:
        """The findings of the minute that runs, if it is over at an instant.

        No further: only the next call tells silence from a node that was away.
        """
        findings: list[Finding] = []
        if self._bins and at // 60 > self.minute:
            self._turn(self.minute + 1, findings)
        return findings

    def _call(self, call: Call) -> None:
        self.calls += 1
        calling, block = call.calling, call.block
        fresh = bool(calling) and self._pairs.meet(hash((calling, call.called)))
        new = bool(calling) and self._numbers.meet(hash(calling))
        explained = False
        first = False
        if calling:
            party = self._party(NUMBER, calling)
            first = calling not in self._hourly
            if first and len(self._hourly) < self.limits.hourly:
                self._hourly.add(calling)
            if party is not None:
                explained = bool(party.warned)
                self._count(party, call, fresh=fresh, unit=True)
                party.entity = call.entity
            around = self._party(BLOCK, block) if block else None
            if around is not None and not explained:
                explained = bool(around.warned)
                self._count(around, call, fresh=fresh, unit=first)
                if len(around.callings) < MOST_CALLINGS:
                    around.callings.add(calling)
        if explained:
            return
        if call.entity:
            entity = self._party(ENTITY, call.entity)
            if entity is not None:
                strange = self._pairs.meet(hash((-call.entity, call.called)))
                self._count(entity, call, fresh=strange, unit=True)
        if not call.trunk:
            return
        if new and not call.vouched:
            kind = NEIGHBOURS if call.neighbour else TRUNK
            self._strangers[calling] = kind
            if len(self._strangers) > self.limits.strangers:
                self._strangers.popitem(last=False)
            trunk = self._party(kind, call.trunk)
            if trunk is not None:
                self._count(trunk, call, fresh=fresh, unit=True)

    def _count(self, party: Party, call: Call, *, fresh: bool, unit: bool) -> None:
        counts = self._bin(party)
        counts[CALLS] += 1
        counts[UNITS] += unit
        counts[FRESH] += fresh
        counts[CONSENTED] += call.consented
        counts[VOUCHED] += call.vouched
        counts[REFUSED] += call.refused
        if len(party.examples) < EXAMPLES:
            party.examples.append(call.id)

    def _end(self, end: End) -> None:
        for party in self._of(end):
            counts = self._bin(party)
            counts[ENDED] += 1
            counts[ANSWERED] += end.answered
            counts[SHORT] += end.short

    def _complaint(self, complaint: Complaint) -> None:
        for party in self._of(complaint):
            self._bin(party)[COMPLAINTS] += 1

    def _of(self, event: End | Complaint) -> list[Party]:
        """The parties that a call counted for, as far as they are remembered."""
        found: list[Party | None] = []
        explained = False
        if event.calling:
            number = self.tables[NUMBER].peek(event.calling)
            explained = number is not None and bool(number.warned)
            found.append(number)
            if not explained:
                block = self.tables[BLOCK].peek(event.block)
                explained = block is not None and bool(block.warned)
                found.append(block)
        if not explained:
            if event.entity:
                found.append(self.tables[ENTITY].peek(event.entity))
            kind = self._strangers.get(event.calling) if event.trunk else None
            if kind is not None:
                found.append(self.tables[kind].peek(event.trunk))
        return [party for party in found if party is not None]

    def _bin(self, party: Party) -> Counts:
        if party.bin is None:
            party.bin = [0.0] * MARKS
            self._bins[party] = None
        return party.bin

    def _party(self, kind: str, key: int | str) -> Party | None:
        """The party, None while it is not one that is remembered."""
        table = self.tables[kind]
        party = table.get(key)
        if party is not None:
            return party
        admitted = self.limits.admitted_from.get(kind)
        if admitted is not None:
            thing = key if kind == NUMBER else -int(key) - 1
            self._heavy[0].update(thing)
            if sum(each.get_lower_bound(thing) for each in self._heavy) < admitted:
                return None
        party = Party(kind, key, tick=self.tick)
        table.add(party)
        return party

    # Minutes

    def _turn(self, minute: int, findings: list[Finding]) -> None:
        """Close the minute that runs, and those until this one."""
        ahead = minute - self.minute
        if self.minute >= 0 and -STEP_MINUTES < ahead < 0:
            return  # a record that was written late
        before, hour = self.minute, minute // 60
        self._close(findings)
        self.minute = minute
        if before < 0:
            return
        if 0 < ahead <= GAP_MINUTES:
            self.tick += ahead
        else:
            self.steps += 1
            self.tick += 1
        if hour != before // 60:
            self._hour(hour)

    def _close(self, findings: list[Finding]) -> None:
        bins, self._bins = self._bins, {}
        for party in bins:
            counts, party.bin = party.bin, None
            if counts is not None:
                self._weigh(party, counts)
                self._tell(party, findings)

    def _hour(self, hour: int) -> None:
        """Take the hour that has gone by into histories; once a day forget who called little."""
        self._hourly = set()
        hours, self._hours = self._hours, {}
        weights = self.weights
        for party in hours:
            suspect = bool(party.warned) or (
                party.marks > 4 and party.score > weights.threshold / 2
            )
            # Few calls each: what is usual is not to be what one busy number does.
            if party.kind == NUMBER and not suspect and party.hour[CALLS] <= _FEW:
                self._usual = [
                    old * _USUAL_KEEPS + new
                    for old, new in zip(self._usual, party.hour, strict=True)
                ]
            party.learn(hour, self.tick, suspect=suspect)
        for key, party in tuple(self._open.items()):
            if self.tick - party.departed > DAY_MINUTES:
                self._shut(party)
                del self._open[key]
        if hour % 6 == 0:
            self._heavy = [frequent_items_sketch(self.limits.heavy_log2), self._heavy[0]]

    def _shut(self, party: Party) -> None:
        party.warned, party.warned_score = 0, 0.0
        party.excess = party.marks = 0.0
        party.calm()

    def _weigh(self, party: Party, counts: Counts) -> None:
        """Add a minute of a party to its evidence."""
        weights, rate = self.weights, RATES[party.kind]
        hour, gap = self.minute // 60, max(1, self.tick - party.last)
        units = counts[UNITS]
        if units or party.excess:
            party.last = self.tick
        if party.hour_at != hour:
            party.learn(hour, self.tick, suspect=bool(party.warned))
        self._hours[party] = None
        party.hour = [a + b for a, b in zip(party.hour, counts, strict=True)]
        if not party.excess and (not units or (units <= 1 and gap >= _APART)):
            if party.examples and not party.warned:
                party.calm()
            return  # as good as all parties in nearly all minutes
        # Neighbours that were never there before are no new customers.
        known_since = 1 if party.kind == NEIGHBOURS else party.first
        if self.tick - known_since >= rate.least_hours * 60:
            if party.expected_in != hour:
                party.expected_in = hour
                party.expected_hourly = party.expected(hour, self.tick)
            expected = party.expected_hourly
            campaign = rate.factor * expected + rate.more
            gain = units * math.log(campaign / expected) - (campaign - expected) / 60 * gap
            party.excess = min(
                weights.most_excess, max(0.0, party.excess + gain / party.scattered())
            )
        if not party.excess:
            party.marks = 0.0
            if party.warned:
                party.seen = [a + b for a, b in zip(party.seen, counts, strict=True)]
            else:
                party.calm()
            return
        party.departed = self.tick
        if not party.since:
            party.since = self.minute
        party.seen = [a + b for a, b in zip(party.seen, counts, strict=True)]
        kept = party.marks * 0.5 ** (gap / weights.marks_half_life_minutes)
        party.marks = min(weights.most_marks, max(0.0, kept + self._marks(party, counts)))

    def _marks(self, party: Party, counts: Counts) -> float:
        """What a minute's calls and ends speak for: a campaign above 0, the usual below."""
        weights = self.weights
        known = party.shares[CALLS] >= weights.history
        gain = 0.0
        calls, ended, answered = counts[CALLS], counts[ENDED], counts[ANSWERED]
        if calls:
            part = 0.0
            if party.kind not in (TRUNK, NEIGHBOURS):
                part += self._one(party, FRESH, counts, weights.fresh)
                part += self._one(party, CONSENTED, counts, weights.consented)
                if not known:
                    part += self._one(party, VOUCHED, counts, weights.vouched)
            part += self._one(party, REFUSED, counts, weights.refused)
            gain += part * min(1.0, weights.events_a_minute / calls)
        if counts[COMPLAINTS]:
            gain += 2.5 * min(counts[COMPLAINTS], 2.0)
        if ended:
            part = self._one(party, ANSWERED, counts, weights.answered)
            if answered:
                part += self._one(party, SHORT, counts, weights.short)
            gain += part * min(1.0, weights.events_a_minute / ended)
        return gain

    def _one(self, party: Party, mark: int, counts: Counts, campaign: float) -> float:
        of = USUAL[mark][1]
        have, all_ = counts[mark], counts[of]
        usual = USUAL[mark][0] if mark in _OWN_ONLY else self._usual[mark] / self._usual[of]
        if party.kind == NUMBER and party.entity:
            # What is usual for who answers for it, once that is known.
            entity = self.tables[ENTITY].peek(party.entity)
            if entity is not None and entity.shares[of] >= 10 * self.weights.history:
                usual = entity.share(mark, of, usual, self.weights.history)
        own = party.share(mark, of, usual, self.weights.history)
        if mark in (ANSWERED, CONSENTED):
            campaign = min(campaign, own)  # who is never answered departs from nothing
        elif mark != VOUCHED:
            campaign = max(campaign, own)
        if mark == VOUCHED:
            campaign = min(campaign, own)
        return have * math.log(campaign / own) + (all_ - have) * math.log(
            (1 - campaign) / (1 - own)
        )

    # Findings

    def _tell(self, party: Party, findings: list[Finding]) -> None:
        weights = self.weights
        score = party.score
        if party.warned:
            if score >= party.warned_score + 4:
                party.warned_score = score
                findings.append(replace(self._finding(party), grown=True))
            return
        if (
            score < weights.threshold
            or party.excess < weights.least_excess
            or party.seen[UNITS] < 8
            or self.tick < party.quiet_until
            or (party.kind == BLOCK and len(party.callings) < 8)
        ):
            return
        party.warned, party.warned_score = self.minute, score
        self._open[party.kind, party.key] = party
        findings.append(self._finding(party))

    def _finding(self, party: Party) -> Finding:
        minutes = max(1, self.minute - party.since + 1)
        seen = dict(zip(_NAMES, party.seen, strict=True))
        if party.kind == BLOCK:
            seen["callings"] = float(len(party.callings))
        return Finding(
            kind=party.kind,
            key=party.key,
            since=party.since * 60.0,
            at=(self.minute + 1) * 60.0,
            score=round(party.score, 2),
            sure=round(self.weights.sure(party.score), 6),
            hourly=round(seen.pop("units") * 60 / max(10, minutes), 1),
            expected_hourly=round(party.expected(self.minute // 60, self.tick), 1),
            evidence={
                **seen,
                "rate_nats": round(party.excess, 2),
                "conduct_nats": round(party.marks, 2),
            },
            examples=tuple(party.examples),
        )

    def dismiss(self, kind: str, key: int | str, *, minutes: int) -> None:
        """Take a party's conduct for its own, and be quiet of it for so long."""
        party = self.tables[kind].peek(key)
        if party is not None:
            self._open.pop((kind, key), None)
            self._shut(party)
            party.quiet_until = self.tick + minutes

    def state(self) -> dict[str, Any]:
        """What `restore` takes in; it has numbers beyond 64 bits, and bytes.

        Who called most of late is not in it, and is counted anew.
        """
        return {
            "tick": self.tick, "minute": self.minute, "calls": self.calls, "steps": self.steps,
            "usual": self._usual,
            "parties": {kind: [p.state() for p in table] for kind, table in self.tables.items()},
            "bins": [[p.kind, p.key] for p in self._bins],
            "hours": [[p.kind, p.key] for p in self._hours],
            "hourly": sorted(self._hourly),
            "strangers": list(self._strangers.items()),
            "pairs": self._pairs.state(), "numbers": self._numbers.state(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take in what was known before a restart. Raises ValueError and KeyError."""
        self._pairs.restore(state["pairs"])
        self._numbers.restore(state["numbers"])
        self.tick, self.minute = state["tick"], state["minute"]
        self.calls, self.steps = state["calls"], state["steps"]
        self._usual = list(state["usual"])
        for kind, parties in state["parties"].items():
            for each in parties:
                party = Party.restored(each)
                self.tables[kind].add(party)
                if party.warned:
                    self._open[kind, party.key] = party
        for name, into in (("bins", self._bins), ("hours", self._hours)):
            for kind, key in state[name]:
                known = self.tables[kind].peek(key)
                if known is not None:
                    into[known] = None
        self._hourly = set(state["hourly"])
        self._strangers = OrderedDict((number, kind) for number, kind in state["strangers"])

    def heavy(self, count: int = 20) -> list[tuple[int, int, int]]:
        """The numbers that called most in the last hours, six at most: least and most calls."""
        found = self._heavy[0].get_frequent_items(frequent_items_error_type.NO_FALSE_NEGATIVES)
        return [(each[0], each[2], each[3]) for each in found if each[0] > 0][:count]
