"""Steps of the ladder by the clock: terms, pauses, a clock put back, two who decide at once."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.running import ROOT

from consent.complaint import Complaint
from consent.entity import Party
from consent.record import Found, RecordError
from rules.document import Document
from rules.ladder import DAY, read_ladder
from screening.appeals import Appellate
from screening.conduct import Conduct
from screening.registrar import Registrar
from screening.settings import Settings
from screening.state import State, open_files

CALLER = 12125550190
AREAS = (202, 206, 303, 312, 404, 415)


class Told:
    """India's ladder for a country of reserved numbers, and a clock that the test moves."""

    def __init__(self, state: State) -> None:
        text = (ROOT / "deploy" / "ladder" / "in.toml").read_text()
        text = text.replace('jurisdiction = "IN"', 'jurisdiction = "US"')
        # Whole seconds: the record keeps microseconds, which may lie after an instant in between.
        self.now = float(int(time.time())) - 100 * DAY
        ladders = {"US": read_ladder(Document("us.toml", text))}
        self.conduct = Conduct(state, ladders, clock=lambda: self.now)
        self.record = state.record()
        self.appellate = Appellate(self.conduct, Registrar(state))
        self.entity = self.record.entities.put(
            "homes", title="Homes", categories=[], numbers=[CALLER], actor="test"
        ).id
        self._heard = 0

    def complain(self, *, authenticated: bool = True) -> None:
        """Six subscribers complain of calls of this minute."""
        self.now += 60
        self._heard += 1
        for area in AREAS:
            called = area * 10**7 + 10**10 + 5550100 + self._heard
            found = Found(
                self.now, "0" * 26, "allow", "default", "", self.entity, "", authenticated
            )
            said = Complaint(CALLER, called, self.now, source="test")
            self.record.complaints.add(said, jurisdiction="US", entity=self.entity, found=found)

    def steps(self) -> list[tuple[str, str, str]]:
        """Step, stage and what is in force, newest last."""
        taken = self.record.steps.of(Party(self.entity))
        return [(each.step, each.stage, each.in_force) for each in taken]

    def in_force(self) -> str:
        """The stage that workers go by."""
        return self.record.entities.named("homes").stage_in("US")[0]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    with open_files(Settings(state_dir=tmp_path / "state")) as state:
        yield Told(state)


def test_by_the_clock(told: Told) -> None:
    """A term is served in full, an appeal apart; a clock put back takes no step."""
    told.complain(authenticated=False)
    assert told.conduct.look() == []
    told.complain()
    told.conduct.look()
    told.complain()
    told.conduct.look()
    assert told.steps() == [("raised", "notice", "notice"), ("raised", "suspended", "suspended")]
    suspended = told.now

    told.now += 5 * DAY
    step = told.record.steps.of(Party(told.entity))[-1]
    appeal = told.appellate.open(decision_id="", step=step.sequence, text="", actor="test")
    assert told.in_force() == ""
    told.complain()
    assert told.conduct.look() == []
    told.now += 2 * DAY - 60
    told.appellate.decide(appeal.id, outcome="rejected", reason="No", actor="test")
    told.appellate.look(actor="test")
    assert told.steps()[-1] == ("resumed", "suspended", "suspended")
    assert told.in_force() == "suspended"
    # Those who complained meanwhile are out of the window by then.
    told.now = suspended + 17 * DAY - 1
    assert told.conduct.look() == []
    told.now = suspended - 30 * DAY
    assert told.conduct.look() == []
    told.now = suspended + 17 * DAY + 1
    assert [each.step for each in told.conduct.look()] == ["ended"]
    assert told.in_force() == ""
    with pytest.raises(RecordError):
        told.appellate.decide(appeal.id, outcome="upheld", reason="No", actor="test")


def test_a_clock_that_is_put_forth_and_back(told: Told) -> None:
    """What it brought about while it was ahead is taken once and can be undone; put right, nothing
    is taken again, and the ladder goes on with what is complained of from then on."""
    told.complain()
    told.conduct.look()
    told.complain()
    told.conduct.look()
    right = told.now
    told.now += 16 * DAY
    assert [each.step for each in told.conduct.look()] == ["ended"]
    assert told.conduct.look() == []
    told.now = right
    assert told.conduct.look() == []
    assert told.steps()[-1] == ("ended", "suspended", "")
    told.complain()
    assert [each.stage for each in told.conduct.look()] == ["disconnected"]
    assert told.conduct.look() == []

    # Complained of while it is ahead: it stands from an instant that is still to come.
    told.now += 5 * DAY
    ahead = told.record.steps.of(Party(told.entity))[-1]
    told.conduct.reverse(ahead.sequence, reason="A test", actor="test")
    told.complain()
    (again,) = told.conduct.look()
    told.now -= 5 * DAY
    assert told.conduct.look() == []
    told.conduct.reverse(again.sequence, reason="The clock was wrong", actor="test")
    assert told.conduct.look() == []
    assert told.in_force() == ""


def test_one_step_of_many_who_decide(told: Told) -> None:
    """Whoever is slower finds the step taken; undone, its complaints bring it about no more."""
    told.complain()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: told.conduct.evaluate(Party(told.entity), "US"), range(8)))
    assert told.steps() == [("raised", "notice", "notice")]
    first = told.record.steps.of(Party(told.entity))[0]
    told.conduct.reverse(first.sequence, reason="A test", actor="test")
    assert told.steps()[-1] == ("reversed", "notice", "")
    assert told.conduct.look() == []
    with pytest.raises(RecordError, match="no step up the ladder that stands"):
        told.conduct.reverse(first.sequence, reason="A test", actor="test")
    assert told.record.ledger.first_flaw([]) is None
