"""The decision of a call without its sockets: question in bytes, facts at hand, answer in bytes.

What the regression guard counts instructions of and the table of stages takes apart. Everything
is seeded and the clock stands still, so two runs do the same work, step by step.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson

from benchmarks.traffic import questions
from consent.calling import CallingSide, Registry
from consent.category import BIT
from consent.entity import Entity
from consent.facts import Consent, Facts, Profile
from consent.index import Question as Lookup
from rules.loading import load_packs
from screening.access import Client
from screening.answer import Answers
from screening.screener import Decision, DncList, DncPlan, Question, Screener
from screening.wire import read_json

PACKS: Final = Path(__file__).parents[1] / "deploy" / "rules"
NOW: Final = 1_795_435_200.0
"""Epoch seconds: an afternoon in every zone that the packs know hours of."""
KEY: Final = bytes(range(32))
ENTITIES: Final = (
    Entity(1, "loans", "Loans", ("loans",), (12125550123,), ()),
    Entity(2, "insurance", "Insurance", ("insurance",), (12125550142,), ()),
    Entity(3, "education", "Education", ("education",), (441632960100,), ()),
)
LISTS: Final = (
    DncList(1, 1, "all", "", "all"),
    DncList(2, 1, "loans", "", "loans"),
    DncList(3, 1, "insurance", "", "insurance"),
)
PREFERENCES: Final = Profile(refused=1 << BIT["insurance"], bands=0x3FF00)


class FactsAtHand:
    """Reads as `consent.index.IndexReader` does, at once and from memory.

    Every ninth number is on the list for all, every seventh on that for loans, every fifth has
    consented, every third has preferences.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[bool, bool, bool, bool], Facts] = {}

    def read(
        self,
        question: Lookup,
        *,
        deadline: float,  # noqa: ARG002
        done: Callable[[Facts], None],
    ) -> None:
        """The facts; the deadline is never missed."""
        done(self._of(question))

    def _of(self, question: Lookup) -> Facts:
        called = question.called
        what = (
            called % 9 == 0,
            called % 7 == 0,
            called % 5 == 0 and question.entity != 0,
            called % 3 == 0,
        )
        facts = self._made.get(what)
        if facts is None:
            every, loans, consented, prefers = what
            facts = self._made[what] = Facts(
                listed=every << BIT["all"] | loans << BIT["loans"],
                profile=Profile(refused=1 << BIT["insurance"], bands=0x3FF00)
                if prefers
                else Profile(),
                consent=Consent(7, False, 0, 1) if consented else None,
            )
        return facts


def bodies(seed: int, count: int) -> list[bytes]:
    """The first questions of a seeded stream, as they come over the wire."""
    asked = questions(seed)
    return [orjson.dumps(next(asked)) for _ in range(count)]


class DecisionPath:
    """One worker's way from a body to an answer, in three steps."""

    def __init__(self) -> None:
        self._answers = Answers()
        self.client = Client("benchmark", vouches=True)
        self.screener = Screener(
            reader=FactsAtHand(),
            decision_key=KEY,
            facts_budget_ms=20.0,
            clock=lambda: 0.0,
        )
        self.screener.packs = load_packs(PACKS)
        self.screener.calling_side = CallingSide(None, Registry(ENTITIES))
        self.screener.dnc = DncPlan(LISTS)

    def read(self, body: bytes) -> Question:
        """What is asked."""
        return read_json(body, client=self.client, region="", now=NOW)

    def decide(self, question: Question) -> Decision:
        """What is decided."""
        decided: list[Decision] = []
        self.screener.screen(question, arrived=0.0, done=decided.append)
        return decided[0]

    def write(self, decision: Decision) -> bytes:
        """What is answered."""
        return self._answers.body(decision, 41)

    def answer(self, body: bytes) -> bytes:
        """The whole of it."""
        return self.write(self.decide(self.read(body)))
