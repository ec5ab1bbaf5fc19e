"""What a call asks the index, of the shipped packs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from consent import index
from consent.category import BIT
from consent.facts import Facts
from rules.loading import load_packs
from screening.access import Client
from screening.screener import Decision, DncList, DncPlan, Question, Screener
from screening.wire import read_fields

PACKS = load_packs(Path(__file__).parents[2] / "deploy" / "rules")
LISTS = (DncList(1, 7, "all", "CN", "all"), DncList(2, 3, "loans", "CN", "loans"))
MAY = frozenset({"explain"})
NOW = 1_795_435_200.0


class Asked:
    """A reader that knows of nobody, and keeps what it was asked."""

    def __init__(self) -> None:
        self.questions: list[index.Question] = []

    def read(
        self, question: index.Question, *, deadline: float, done: Callable[[Facts], None]
    ) -> None:
        """Answer at once."""
        self.questions.append(question)
        done(Facts())


class Kept:
    """Keeps the calls whose ids come before."""

    def __init__(self, below: str) -> None:
        self.below = below


def screen(
    *, vouched: bool = True, below: str = "", **fields: object
) -> tuple[index.Question, Decision]:
    """What a call to a Chinese number asks, and what it comes to."""
    reader, decided = Asked(), list[Decision]()
    screener = Screener(
        reader=reader, decision_key=b"k" * 32, facts_budget_ms=20.0, kept=Kept(below)
    )
    screener.packs, screener.dnc = PACKS, DncPlan(LISTS)
    client = Client("switch", vouches=vouched, may=MAY, asserts=frozenset({"purpose"}))
    asked = {"calling": "+8613062561033", "called": "+8613020891931", **fields}
    question: Question = read_fields(asked, client=client, region="CN", now=NOW)
    screener.screen(question, arrived=0.0, done=decided.append)
    (wanted,), (decision,) = reader.questions, decided
    return wanted, decision


def wants(question: index.Question) -> set[str]:
    """What of the index it asks for."""
    flags = ("consent", "personal", "profile", "frequency", "signals")
    return {name for name in flags if getattr(question, name)} | {
        f"list {list_id}" for list_id, _ in question.lists
    }


def test_a_call_asks_for_what_may_decide_it() -> None:
    """Of a call that is not commercial no list and no consent; signals of one not vouched for."""
    assert wants(screen()[0]) == {"personal", "profile"}
    assert wants(screen(vouched=False)[0]) == {"personal", "profile", "signals"}
    commercial = wants(screen(purpose="loans")[0])
    assert commercial >= {"personal", "profile", "consent", "list 1", "list 2"}
    assert "signals" not in commercial


@pytest.mark.parametrize("more", [{"explain": True}, {"below": "~"}])
def test_a_call_that_others_will_look_at_asks_for_all(more: dict[str, object]) -> None:
    """An explanation shows real values; a rule of tomorrow may look at what today's do not."""
    wanted, decision = screen(**more)  # type: ignore[arg-type]
    assert wants(wanted) == {"personal", "profile", "consent", "signals", "list 1"}
    assert wanted.categories == (BIT["all"],)
    assert decision.ruleset is not None
    assert decision.plan is decision.ruleset.plan
