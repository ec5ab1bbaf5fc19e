"""A state folder as a Chinese carrier would have it: ten million listed numbers, consents,
preferences, registered callers; and the people of the calls that are asked about it.

Everything is drawn from one seed, so the questions and what their answers must say can be
computed again without the folder. The prefixes are real, the numbers behind them random.
"""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import registry
from consent.event import Event, EventKind
from consent.listing import Form
from consent.loading import load_list, prepare_calling
from consent.projection import catch_up
from consent.record import ListKind, Record
from screening.settings import Settings
from screening.state import open_state

ACTOR: Final = "benchmark"
CODE: Final = 86 * 10**11
LISTED: Final = {"all": 0.56, "loans": 0.44}
"""The lists by their category, and their shares of the listed numbers: a subscriber refuses
every commercial call, or loans."""
TRADES: Final = ("loans", "loans", "insurance", "property", "education", "securities")
BATCH: Final = 5_000
EXPIRES: Final = 1_900_000_000

CLIENTS: Final = """[switch]
networks = ["127.0.0.1/32"]
asserts = ["trunk"]
vouches = true
"""
"""One switch on this machine, which vouches for the numbers that it sends."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything there is."""

    listed: int = 10_000_000
    entities: int = 600
    consents: int = 100_000
    preferences: int = 20_000
    personal: int = 5_000
    seed: int = 1


SMALL: Final = Size(listed=20_000, entities=60, consents=300, preferences=100, personal=50)
"""Enough for every kind of answer, made in a second or two."""


@dataclass(frozen=True, slots=True)
class Business:
    """A registered caller with one number, an integer of its digits."""

    number: int
    category: str


class Nation:
    """The numbers of a size, and the people of `benchmarks.traffic` among them."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.prefixes = registry.taken("cn", size.listed)
        self.businesses = [
            Business(864_000_000_000 + 7 * n, TRADES[n % len(TRADES)])
            for n in range(1, size.entities + 1)
        ]

    @cached_property
    def listed(self) -> dict[str, registry.Ints]:
        """The national numbers of each list, rising."""
        return {
            category: np.concatenate(
                list(
                    registry.draw(
                        self.prefixes, round(self.size.listed * share), seed=self.size.seed + at
                    )
                )
            )
            for at, (category, share) in enumerate(LISTED.items())
        }

    @cached_property
    def consents(self) -> list[tuple[int, int]]:
        """Who has consented to which business: E.164 digits, and the business by its place."""
        rng = np.random.default_rng(self.size.seed)
        called = self._subscribers(rng, self.size.consents)
        given = rng.integers(0, len(self.businesses), len(called)).tolist()
        return list(zip(called, given, strict=True))

    @cached_property
    def consented(self) -> frozenset[tuple[int, int]]:
        """The same, by the numbers: called and calling."""
        return frozenset((called, self.businesses[at].number) for called, at in self.consents)

    def _subscribers(self, rng: np.random.Generator, count: int) -> list[int]:
        heads = rng.choice(self.prefixes, count) * registry.BEHIND + CODE
        return sorted(set((heads + rng.integers(0, registry.BEHIND, count)).tolist()))

    def refuses(self, called: int, category: str) -> bool:
        """Whether a list of the category has the number, E.164 digits."""
        numbers, national = self.listed[category], called - CODE
        at = int(np.searchsorted(numbers, national))
        return at < len(numbers) and int(numbers[at]) == national

    # Who takes part in calls

    def _one(self, rng: random.Random) -> int:
        head = int(self.prefixes[rng.randrange(len(self.prefixes))])
        return CODE + head * registry.BEHIND + rng.randrange(registry.BEHIND)

    def pair(self, rng: random.Random) -> tuple[str, str]:
        return f"+{self._one(rng)}", f"+{self._one(rng)}"

    def business(self, rng: random.Random) -> tuple[str, str]:
        """Half of such calls go to who has consented."""
        if rng.random() < 0.5:
            called, at = self.consents[rng.randrange(len(self.consents))]
            return f"+{self.businesses[at].number}", f"+{called}"
        return f"+{rng.choice(self.businesses).number}", f"+{self._one(rng)}"

    def abroad(self, rng: random.Random) -> str:
        return f"+447700900{rng.randrange(1000):03d}"

    def service(self, rng: random.Random) -> tuple[str, str, str]:
        return "95588", "CN", f"+{self._one(rng)}"

    # The folder

    def events(self) -> Iterator[Event]:
        """What the subscribers said, without sequences; entity ids are places counted from 1."""
        now = time.time()
        for called, at in self.consents:
            categories = [self.businesses[at].category]
            body = {"entity": at + 1, "categories": categories, "expires": EXPIRES}
            yield Event(0, now, EventKind.CONSENT_GRANTED, called, body)
        rng = np.random.default_rng(self.size.seed + 1)
        for called in self._subscribers(rng, self.size.preferences):
            prefers: dict[str, Any] = {"refused": ["property"], "zone": "Asia/Shanghai"}
            yield Event(0, now, EventKind.PREFERENCES_SET, called, prefers)
        for called in self._subscribers(rng, self.size.personal):
            entry = {"calling": 0, "action": "block"}
            yield Event(0, now, EventKind.PERSONAL_SET, called, entry)

    def settle_in(self, folder: Path) -> float:
        """Make the folder the state of this nation unless it is; the seconds that took."""
        mark = folder / "nation.json"
        described = json.dumps(asdict(self.size))
        if mark.exists():
            assert mark.read_text() == described, f"{folder} holds another nation: remove it"
            return 0.0
        began = time.monotonic()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "clients.toml").write_text(CLIENTS)
        settings = Settings(state_dir=folder)
        with open_state(settings) as state:
            record = state.record()
            self._register(record)
            prepare_calling(record, folder)
            with state.index() as store:
                for category, numbers in self.listed.items():
                    file = folder / f"{category}.txt"
                    file.write_bytes(registry.text(numbers, form="numbers"))
                    load_list(
                        record, store, folder, name=f"cn-{category}", path=file,
                        kind=ListKind.DNC, form=Form("numbers", region="CN", called=True),
                        category=category, actor=ACTOR,
                    )  # fmt: skip
                    file.unlink()
                events = list(self.events())
                for first in range(0, len(events), BATCH):
                    record.ledger.append(events[first : first + BATCH], actor=ACTOR)
                catch_up(record, store)
        mark.write_text(described)
        return time.monotonic() - began

    def _register(self, record: Record) -> None:
        for n, business in enumerate(self.businesses, 1):
            made = record.entities.put(
                f"business-{n:04}",
                title=f"Business {n}",
                categories=[business.category],
                numbers=[business.number],
                actor=ACTOR,
            )
            assert made.id == n, "the folder had entities before"
