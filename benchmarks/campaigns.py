"""Generated weeks of calls: people, businesses and lawful bulk callers, and campaigns among them.

Everything follows from a seed. Numbers are integers that stand for nobody; a block is a thousand
of them. Who is ordinary is made to be hard: couriers call strangers all day, schools call
hundreds within minutes, pollsters and call centres are answered as seldom as campaigns are.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from screening.watching.events import Call, Complaint, End, Event

WEEK: Final = 7 * 86_400
START: Final = 2_923 * WEEK - 3 * 86_400
"""Monday, 00:00 UTC."""

KNOWN_ENDS: Final = 0.9
SECONDS_RUNG: Final = 14.0
PEOPLE: Final = 16_000
TRUNKS: Final = ("ic-1", "ic-2", "ic-3", "ic-4", "pbx-1", "pbx-2")

_DAY: Final = np.array([1, 1, 1, 1, 1, 2, 6, 18, 40, 62, 70, 68, 60, 55, 60, 64, 68, 74, 80, 70, 50,
                        28, 10, 3], float)  # fmt: skip
_OFFICE: Final = np.array([0] * 8 + [25, 70, 90, 85, 45, 60, 85, 80, 65, 25] + [0] * 6, float)
_PEOPLES_WEEK: Final = np.concatenate([_DAY * f for f in (1, 1, 1, 1, 1.1, 0.8, 0.6)])
_OFFICE_WEEK: Final = np.concatenate([_OFFICE * f for f in (1, 1, 1, 1, 0.9, 0.15, 0.02)])
_ROUNDS_WEEK: Final = np.concatenate([_OFFICE * f for f in (1, 1, 1, 1, 1.1, 0.8, 0.02)])


@dataclass(frozen=True)
class Profile:
    """What the calls of a caller are like: shares."""

    answered: float
    short: float
    vouched: float = 0.0
    consented: float = 0.0
    refused: float = 0.01
    complaints: float = 0.0
    entity: int = 0
    neighbour: bool = False


@dataclass
class Campaign:
    """One that was planted: what it is, how strong, from when to when (epoch seconds), by whom."""

    kind: str
    intensity: str
    since: float
    until: float
    numbers: set[int] = field(default_factory=set)
    block: int = 0
    entity: int = 0
    trunk: str = ""
    calls: int = 0


@dataclass
class Weeks:
    """Everything that was generated: events in order, and the campaigns among them."""

    events: list[Event]
    campaigns: list[Campaign]
    weeks: int
    columns: dict[str, Any]
    """Of the calls: at, calling, block, called, entity, trunk, as arrays, in order."""


class Maker:
    """Gathers calls of one seed."""

    def __init__(self, seed: int, weeks: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.weeks = weeks
        self.end = START + weeks * WEEK
        self.campaigns: list[Campaign] = []
        self._parts: list[tuple[Any, ...]] = []
        self._next = 50_000_000
        self._entity = 0

    # Who there is

    def number(self) -> int:
        """A number in a thousand of its own."""
        self._next += 1_000
        return self._next + int(self.rng.integers(1_000))

    def block(self, count: int) -> list[int]:
        """Numbers of one block."""
        self._next += 1_000
        return [self._next + int(n) for n in self.rng.choice(1_000, count, replace=False)]

    def entity(self) -> int:
        self._entity += 1
        return self._entity

    def strangers(self, count: int) -> Any:
        """Called numbers, hardly one twice."""
        return self.rng.integers(200_000_000, 209_000_000, count)

    # When they call

    def times(self, shape: Any, per_week: float, *, since: float = START, until: float = 0) -> Any:
        """Instants by an hour-of-week shape, as many as come by chance."""
        until = until or self.end
        hours = np.arange(since // 3600, until // 3600 + 1, dtype=np.int64)
        how = (hours - START // 3600) % 168
        # Days differ more than chance does.
        days = self.rng.gamma(12.0, 1 / 12.0, self.weeks * 7 + 8)
        day = ((hours * 3600 - START) // 86_400).clip(0, len(days) - 1)
        means = per_week * shape[how] / shape.sum() * days[day]
        counts = self.rng.poisson(means)
        at = np.repeat(hours * 3600.0, counts) + self.rng.random(counts.sum()) * 3600
        return at[(at >= since) & (at < until)]

    def spread(self, count: int, since: float, until: float) -> Any:
        return np.sort(self.rng.random(count) * (until - since) + since)

    # Calls

    def add(
        self, at: Any, calling: Any, called: Any, profile: Profile, *, trunk: int | str = -1
    ) -> None:
        """Calls of one kind; a trunk of people is one by the calling number."""
        count = len(at)
        calling = np.broadcast_to(np.asarray(calling, np.int64), (count,))
        known = isinstance(trunk, str)
        trunks = np.full(count, TRUNKS.index(str(trunk))) if known else (calling // 7) % 4
        rng = self.rng
        self._parts.append(
            (
                at,
                calling,
                np.asarray(called, np.int64),
                np.full(count, profile.entity),
                trunks,
                rng.random(count) < profile.vouched,
                rng.random(count) < profile.consented,
                rng.random(count) < profile.refused,
                np.full(count, profile.neighbour),
                rng.random(count) < profile.answered,
                rng.random(count) < profile.short,
                rng.random(count) < profile.complaints,
                np.full(count, len(self.campaigns) if profile.complaints else 0),
            )
        )

    def finish(self) -> Weeks:
        """All of it in order."""
        rng = self.rng
        columns = [np.concatenate(column) for column in zip(*self._parts, strict=True)]
        order = np.argsort(columns[0], kind="stable")
        (at, calling, called, entity, trunk, vouched, consented, refused, neighbour, answered,
         short, complains, _) = (column[order] for column in columns)  # fmt: skip
        count = len(at)
        neighbour = neighbour | (rng.random(count) < 0.004)
        block = calling // 1_000
        names = np.array(TRUNKS, object)[trunk]
        calls = list(map(
            Call, at.tolist(), [f"{n:026d}" for n in range(count)], calling.tolist(),
            block.tolist(), called.tolist(), entity.tolist(), names.tolist(), vouched.tolist(),
            consented.tolist(), refused.tolist(), neighbour.tolist(),
        ))  # fmt: skip
        talked = np.where(short, rng.random(count) * 5.9, 6 + rng.exponential(90, count))
        rings = rng.random(count) * 2 * SECONDS_RUNG
        ended_at = at + rings + np.where(answered, talked, 0)
        told = (rng.random(count) < KNOWN_ENDS) & ~refused
        keys = (calling.tolist(), block.tolist(), entity.tolist(), names.tolist())
        ends = [
            End(*each) for each, known in zip(
                zip(ended_at.tolist(), *keys, answered.tolist(), (answered & short).tolist(),
                    strict=True), told.tolist(), strict=True) if known
        ]  # fmt: skip
        later = at + rng.exponential(8 * 3600, count)
        said = complains & answered
        complaints = [
            Complaint(*each) for each, has in zip(
                zip(later.tolist(), *keys, strict=True), said.tolist(), strict=True) if has
        ]  # fmt: skip
        events: list[Event] = [*calls, *ends, *complaints]
        events.sort(key=lambda event: event.at)
        last = at[-1]
        return Weeks(
            [event for event in events if event.at <= last],
            self.campaigns,
            self.weeks,
            {
                "at": at, "calling": calling, "block": block, "called": called, "entity": entity,
                "trunk": trunk, "answered": answered, "neighbour": neighbour,
            },
        )  # fmt: skip


def ordinary(maker: Maker) -> dict[str, list[tuple[int, list[int], Profile]]]:
    """Everybody who may call: people, businesses, and bulk callers within the law.

    Gives those whose numbers a campaign may take over.
    """
    rng = maker.rng
    people = rng.integers(100_000_000, 104_000_000, PEOPLE)
    weight = rng.pareto(1.6, PEOPLE) + 0.3
    at = maker.times(_PEOPLES_WEEK, PEOPLE * 3.2)
    who = rng.choice(PEOPLE, len(at), p=weight / weight.sum())
    friends = rng.integers(0, PEOPLE, (PEOPLE, 6))
    whom = np.where(
        rng.random(len(at)) < 0.8,
        people[friends[who, rng.integers(0, 6, len(at))]],
        maker.strangers(len(at)),
    )
    signed = rng.random(PEOPLE) < 0.6
    for mine, vouched in ((signed[who], 1.0), (~signed[who], 0.0)):
        maker.add(at[mine], people[who[mine]], whom[mine], Profile(0.7, 0.12, vouched))

    taken: dict[str, list[tuple[int, list[int], Profile]]] = {"entity": []}
    for _ in range(120):  # plumbers, surgeries, garages
        per_week = float(rng.uniform(40, 160))
        at = maker.times(_OFFICE_WEEK, per_week)
        regulars = maker.strangers(60)
        whom = np.where(
            rng.random(len(at)) < 0.6, rng.choice(regulars, len(at)), maker.strangers(len(at))
        )
        maker.add(at, maker.number(), whom, Profile(0.68, 0.15, float(rng.random() < 0.5)))
    for n in range(16):  # couriers: strangers all day, some on a day thrice as many
        since = START if n < 11 else START + float(rng.uniform(2, maker.weeks - 0.3)) * WEEK
        number, per_week = maker.number(), float(rng.uniform(250, 800))
        profile = Profile(float(rng.uniform(0.66, 0.85)), float(rng.uniform(0.12, 0.3)))
        at = maker.times(_ROUNDS_WEEK, per_week, since=since)
        maker.add(at, number, maker.strangers(len(at)), profile)
        if n % 3 == 0:
            day = START + int(rng.integers(15, maker.weeks * 7)) * 86_400 + 9 * 3600
            rush = maker.spread(int(per_week / 3), day, day + 10 * 3600)
            maker.add(rush, number, maker.strangers(len(rush)), profile)
    for n in range(10):  # schools: the same parents, within minutes, on some days
        entity = maker.entity() if n % 2 else 0
        profile = Profile(
            float(rng.uniform(0.5, 0.7)), float(rng.uniform(0.2, 0.4)), float(n % 2),
            entity=entity,
        )  # fmt: skip
        number, parents = maker.number(), maker.strangers(int(rng.integers(300, 900)))
        at = maker.times(_OFFICE_WEEK, 60)
        maker.add(at, number, rng.choice(parents, len(at)), profile)
        for _ in range(int(rng.integers(2, 5))):
            day = START + int(rng.integers(0, maker.weeks * 7)) * 86_400
            begin = day + float(rng.choice([6.5, 7, 12, 15.5, 18])) * 3600
            alert = maker.spread(len(parents), begin, begin + 480)
            maker.add(alert, number, rng.permutation(parents), profile)
    for _ in range(3):  # hospitals: reminders, and a switchboard with extensions
        entity = maker.entity()
        profile = Profile(0.7, 0.15, 1.0, entity=entity)
        numbers = maker.block(40)
        at = maker.times(_OFFICE_WEEK, 1_200)
        maker.add(at, rng.choice(numbers, len(at)), maker.strangers(len(at)), profile,
                  trunk="pbx-1")  # fmt: skip
        taken["entity"].append((entity, numbers, profile))
    for _ in range(3):  # banks: service calls, and once a wave of fraud alerts
        entity = maker.entity()
        profile = Profile(0.55, 0.22, 1.0, entity=entity)
        numbers = maker.block(6)
        at = maker.times(_OFFICE_WEEK, 1_500)
        maker.add(at, rng.choice(numbers, len(at)), maker.strangers(len(at)), profile)
        begin = START + int(rng.integers(14, maker.weeks * 7)) * 86_400 + 14 * 3600
        wave = maker.spread(250, begin, begin + 3600)
        maker.add(wave, numbers[0], maker.strangers(250), Profile(0.6, 0.2, 1.0, entity=entity))
        taken["entity"].append((entity, numbers, profile))
    for n in range(4):  # call centres with consent; one more number, and twice the calls, later
        entity = maker.entity()
        profile = Profile(float(rng.uniform(0.33, 0.5)), float(rng.uniform(0.25, 0.4)), 1.0, 0.93,
                          0.03, entity=entity)  # fmt: skip
        numbers = maker.block(6)
        at = maker.times(_OFFICE_WEEK, 2_000)
        maker.add(at, rng.choice(numbers[:5], len(at)), maker.strangers(len(at)), profile)
        since = START + float(rng.uniform(2, maker.weeks - 0.5)) * WEEK
        at = maker.times(_OFFICE_WEEK, 1_500, since=since)
        maker.add(at, numbers[5 if n % 2 else 0], maker.strangers(len(at)), profile)
        taken["entity"].append((entity, numbers, profile))
    for _ in range(2):  # pollsters: projects begin at once, and few answer
        entity = maker.entity()
        profile = Profile(float(rng.uniform(0.3, 0.42)), float(rng.uniform(0.3, 0.45)), 1.0,
                          entity=entity)  # fmt: skip
        numbers = maker.block(4)
        for number in numbers:
            since = START + float(rng.uniform(0, maker.weeks - 0.5)) * WEEK
            until = min(since + 6 * 86_400, maker.end)
            at = maker.times(_OFFICE_WEEK, 900, since=since, until=until)
            maker.add(at, number, maker.strangers(len(at)), profile)
    for _ in range(3):  # taxis: they ring once and are gone
        at = maker.times(_PEOPLES_WEEK, 700)
        maker.add(at, maker.number(), maker.strangers(len(at)), Profile(0.7, 0.5))
    for _ in range(6):  # offices whose extensions show their own numbers
        numbers = maker.block(60)
        at = maker.times(_OFFICE_WEEK, 1_000)
        whom = np.where(rng.random(len(at)) < 0.5, rng.choice(maker.strangers(200), len(at)),
                        maker.strangers(len(at)))  # fmt: skip
        maker.add(at, rng.choice(numbers, len(at)), whom, Profile(0.68, 0.14, 0.7), trunk="pbx-2")
    return taken


INTENSITIES: Final = ("low", "middle", "high")
Plant = Callable[["Maker", int, float, dict[str, Any]], Campaign]


def _marks(maker: Maker, *, entity: int = 0, vouched: float = 0.1, neighbour: bool = False
           ) -> Profile:  # fmt: skip
    rng = maker.rng
    return Profile(
        float(rng.uniform(0.22, 0.42)), float(rng.uniform(0.38, 0.65)), vouched, 0.0,
        float(rng.uniform(0.02, 0.1)), float(rng.uniform(0.003, 0.02)), entity, neighbour,
    )  # fmt: skip


def _hours(maker: Maker, begin: float, hours: float, an_hour: float) -> Any:
    """Instants, within calling hours (09:00 to 20:00) where it goes on for days."""
    if hours <= 12:
        return maker.spread(int(hours * an_hour), begin, begin + hours * 3600)
    days = int(hours // 24)
    first = (begin // 86_400) * 86_400
    return np.concatenate([
        maker.spread(int(11 * an_hour), first + day * 86_400 + 9 * 3600,
                     first + day * 86_400 + 20 * 3600) for day in range(days)
    ])  # fmt: skip


def blast(maker: Maker, level: int, begin: float, _: dict[str, Any]) -> Campaign:
    """One number calls as fast as it can."""
    an_hour, hours = ((60, 6), (200, 4), (900, 2))[level]
    at, number = _hours(maker, begin, hours, an_hour), maker.number()
    maker.add(at, number, maker.strangers(len(at)), _marks(maker))
    return Campaign("blast", INTENSITIES[level], at[0], at[-1], {number}, calls=len(at))


def drip(maker: Maker, level: int, begin: float, _: dict[str, Any]) -> Campaign:
    """One number calls slowly, for days."""
    an_hour = (10, 18, 30)[level]
    at, number = _hours(maker, begin, 96, an_hour), maker.number()
    maker.add(at, number, maker.strangers(len(at)), _marks(maker))
    return Campaign("drip", INTENSITIES[level], at[0], at[-1], {number}, calls=len(at))


def rotation(maker: Maker, level: int, begin: float, _: dict[str, Any]) -> Campaign:
    """Many numbers of one block, each a few times."""
    an_hour, count = ((40, 60), (120, 200), (400, 500))[level]
    numbers = maker.block(count)
    at = _hours(maker, begin, 10, an_hour)
    maker.add(at, maker.rng.choice(numbers, len(at)), maker.strangers(len(at)), _marks(maker))
    return Campaign("rotation", INTENSITIES[level], at[0], at[-1], set(numbers),
                    block=numbers[0] // 1_000, calls=len(at))  # fmt: skip


def hijack(maker: Maker, level: int, begin: float, taken: dict[str, Any]) -> Campaign:
    """The numbers of an entity in other hands; what is signed stays signed."""
    entities = taken["entity"]
    entity, numbers, _ = entities.pop(int(maker.rng.integers(len(entities))))
    an_hour = (40, 100, 300)[level]
    at = _hours(maker, begin, 8, an_hour)
    some = numbers[: int(maker.rng.integers(1, 6))]
    profile = _marks(maker, entity=entity, vouched=1.0)
    maker.add(at, maker.rng.choice(some, len(at)), maker.strangers(len(at)), profile)
    return Campaign("hijack", INTENSITIES[level], at[0], at[-1], set(some), numbers[0] // 1_000,
                    entity, calls=len(at))  # fmt: skip


def flood(maker: Maker, level: int, begin: float, _: dict[str, Any]) -> Campaign:
    """A trunk brings calls of numbers made up for each."""
    an_hour = (150, 350, 900)[level]
    at, trunk = _hours(maker, begin, 5, an_hour), TRUNKS[int(maker.rng.integers(4))]
    numbers = maker.rng.integers(300_000_000, 390_000_000, len(at))
    maker.add(at, numbers, maker.strangers(len(at)), _marks(maker, vouched=0.0), trunk=trunk)
    return Campaign("flood", INTENSITIES[level], at[0], at[-1], trunk=trunk, calls=len(at))


def neighbours(maker: Maker, level: int, begin: float, _: dict[str, Any]) -> Campaign:
    """Each called party sees a number like its own."""
    an_hour = (30, 80, 250)[level]
    at, trunk = _hours(maker, begin, 8, an_hour), TRUNKS[int(maker.rng.integers(4))]
    called = maker.strangers(len(at))
    numbers = called // 10_000 * 10_000 + maker.rng.integers(0, 10_000, len(at))
    profile = _marks(maker, vouched=0.0, neighbour=True)
    maker.add(at, numbers, called, profile, trunk=trunk)
    return Campaign("neighbours", INTENSITIES[level], at[0], at[-1], trunk=trunk, calls=len(at))


PLANTS: Final[tuple[Plant, ...]] = (blast, drip, rotation, hijack, flood, neighbours)


def generate(seed: int, *, weeks: int = 4, planted: bool = True) -> Weeks:
    """Some weeks of a seed; the first two are without campaigns, since no history is there yet."""
    maker = Maker(seed, weeks)
    taken = ordinary(maker)
    for level in range(3) if planted else ():
        for plant in PLANTS:
            day = int(maker.rng.integers(14, weeks * 7 - 4))
            hour = float(maker.rng.uniform(9, 14))
            maker.campaigns.append(plant(maker, level, START + day * 86_400 + hour * 3600, taken))
    return maker.finish()
