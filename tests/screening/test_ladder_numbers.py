"""Numbers for which no entity answers: they climb the ladder themselves, and nobody else's."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import server_program
from tests.running import ROOT
from tests.servers import IndexServer

from consent.calling import CallingSide, load_numbers, save_numbers
from consent.complaint import Complaint
from consent.conduct import NAMES, pack
from consent.entity import Party
from consent.event import Event, EventKind
from consent.index import ConductStore
from consent.keyring import Keyring
from consent.number import parse_number
from consent.record import Found, RecordError
from rules.bind import bind
from rules.call import Call
from rules.document import Document
from rules.ladder import DAY, read_ladder
from screening.appeals import Appellate
from screening.commands.rotation import rotate
from screening.conduct import Conduct
from screening.registrar import Registrar
from screening.settings import Settings
from screening.state import State, open_files

CALLER = 12125550190
NUMBER = Party(number=CALLER)
AREAS = (202, 206, 303, 312, 404, 415)


class Told:
    """India's ladder for a country of reserved numbers, a number of nobody, a clock to move."""

    def __init__(self, state: State, *, signals: str = "") -> None:
        text = (ROOT / "deploy" / "ladder" / "in.toml").read_text()
        if signals:
            text = text.replace("[stage.notice]", f"[stage.signals]\n{signals}\n[stage.notice]", 1)
        text = text.replace('jurisdiction = "IN"', 'jurisdiction = "US"')
        self.now = float(int(time.time())) - 100 * DAY
        ladders = {"US": read_ladder(Document("us.toml", text))}
        self.state = state
        self.conduct = Conduct(state, ladders, clock=lambda: self.now)
        self.record = state.record()
        self.appellate = Appellate(self.conduct, Registrar(state))
        self._heard = 0

    def complain(self, *, authenticated: bool = True, entity: int = 0) -> None:
        """Six subscribers complain of calls of this minute."""
        self.now += 60
        self._heard += 1
        for area in AREAS:
            called = area * 10**7 + 10**10 + 5550100 + self._heard
            found = Found(self.now, "0" * 26, "allow", "default", "", entity, "", authenticated)
            said = Complaint(CALLER, called, self.now, source="test")
            self.record.complaints.add(said, jurisdiction="US", entity=entity, found=found)

    def climb(self) -> None:
        """To the suspension."""
        for _ in range(2):
            self.complain()
            self.conduct.look()

    def in_force(self) -> str:
        """The stage that workers go by for a call of that number."""
        registry = self.record.entities.all()
        found = [each for each in registry if CALLER in each.numbers]
        stage = found[0].stage_in("US")[0] if found else ""
        return stage or self.record.steps.numbers().get(CALLER, {}).get("US", ("", 0))[0]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    with open_files(Settings(state_dir=tmp_path / "state")) as state:
        yield Told(state)


def test_a_number_climbs_by_itself(told: Told) -> None:
    """Authenticated calls of a number of nobody bring it up; each step is an event of its own
    subscription, names it nowhere in clear, and is undone as one of an entity is."""
    told.complain(authenticated=False)
    assert told.conduct.look() == []
    assert told.in_force() == ""
    told.climb()
    steps = told.record.steps.of(NUMBER)
    assert [(each.step, each.stage) for each in steps] == [
        ("raised", "notice"),
        ("raised", "suspended"),
    ]
    assert told.in_force() == "suspended"
    assert f"+{CALLER}" in steps[0].notice["en"]
    assert told.record.ledger.first_flaw([]) is None
    subjects = {each.subject for each in told.record.audit.latest(10)}
    assert subjects == {told.state.keyring.token(CALLER)}

    first = steps[0].sequence
    told.conduct.reverse(first, reason="A test", actor="test")
    assert told.in_force() == ""
    assert told.conduct.look() == []


def test_a_stage_that_asks_for_its_conduct(tmp_path: Path) -> None:
    """The signals of the number, of all nodes together; while they are not known it is not
    reached."""
    server = IndexServer(server_program("valkey"), tmp_path)
    server.start()
    settings = Settings(state_dir=tmp_path / "state", redis_url=server.url)
    few = [40 if name == "attempts_24h" else 0 for name in NAMES]
    try:
        with open_files(settings) as state:
            told = Told(state, signals="attempts_24h = 60")
            told.complain()
            assert told.conduct.look() == []
            for node, reached in (("first", False), ("second", True)):
                store = ConductStore(server.url, node=node)
                store.write_signals({CALLER: (pack(few), True)})
                store.close()
                assert bool(told.conduct.look()) is reached
            assert told.in_force() == "notice"
            server.kill()
            told.complain()
            assert [each.stage for each in told.conduct.look()] == ["suspended"]
    finally:
        server.kill()


def test_workers_go_by_it(told: Told, tmp_path: Path) -> None:
    """A worker has the stage of the number with its event, also from its copy on the disk, and
    only for calls to that country."""
    told.climb()
    event = told.record.steps.of(NUMBER)[-1].sequence
    save_numbers(tmp_path, told.record.steps.numbers())
    side = CallingSide(numbers=load_numbers(tmp_path))
    for called, expected in (("+12125550101", ("suspended", event)), ("+447700900001", ("", 0))):
        call = Call()
        call.calling = parse_number(f"+{CALLER}", region="")
        call.called = parse_number(called, region="")
        bind(call, side)
        assert (call.entity_stage, call.entity_stage_event) == expected
        assert call.entity_id == 0


def test_an_appeal_against_its_step(told: Told) -> None:
    """It pauses the number's ladder; upheld, the step is undone and its complaints with it."""
    told.climb()
    step = told.record.steps.of(NUMBER)[-1]
    appeal = told.appellate.open(decision_id="", step=step.sequence, text="", actor="test")
    assert told.in_force() == ""
    told.appellate.decide(appeal.id, outcome="upheld", reason="No", actor="test")
    assert told.in_force() == "notice"


def test_an_entity_claims_it(told: Told) -> None:
    """The stage goes with the number, and what was complained of it; done again nothing changes."""
    told.climb()
    since = told.record.steps.of(NUMBER)[-1].since
    homes = told.record.entities.put(
        "homes", title="Homes", categories=[], numbers=[CALLER], actor="test"
    )
    assert told.in_force() == "suspended"
    (taken,) = told.conduct.look()
    assert (taken.party, taken.step, taken.stage) == (Party(homes.id), "raised", "suspended")
    assert taken.since == since
    assert "Homes" in taken.notice["en"]
    assert told.record.steps.of(NUMBER)[-1].step == "claimed"
    assert told.record.steps.numbers() == {}
    assert told.in_force() == "suspended"
    assert told.conduct.look() == []
    kept = told.record.complaints.of_party(taken.party, "US", since=0)
    assert len(kept) == 2 * len(AREAS)
    # An appeal is against the entity's step now.
    old = told.record.steps.of(NUMBER)[1].sequence
    with pytest.raises(RecordError, match="no step up the ladder that stands"):
        told.conduct.reverse(old, reason="A test", actor="test")
    told.conduct.reverse(taken.sequence, reason="A test", actor="test")
    assert told.in_force() == ""
    assert told.conduct.look() == []


def test_an_entity_that_stands_higher(told: Told) -> None:
    """It takes over the complaints, and stays where it is."""
    told.complain()
    told.conduct.look()
    homes = told.record.entities.put("homes", title="Homes", categories=[], actor="test")
    for _ in range(2):
        told.complain(entity=homes.id)
        told.conduct.look()
    assert told.record.entities.named("homes").stage_in("US")[0] == "suspended"
    steps = len(told.record.steps.of(Party(homes.id)))
    told.record.entities.put("homes", title="Homes", categories=[], numbers=[CALLER], actor="test")
    told.conduct.look()
    assert len(told.record.steps.of(Party(homes.id))) == steps
    assert told.record.steps.of(NUMBER)[-1].step == "claimed"


@pytest.mark.parametrize("kind", [EventKind.REASSIGNED, EventKind.ERASED])
def test_who_has_the_number_next(told: Told, kind: EventKind) -> None:
    """Begins on the ground, whatever was complained of the one before; nothing names that one
    once it is erased."""
    told.climb()
    revision = told.record.revision()
    told.record.ledger.append([Event(0, told.now, kind, CALLER, {})], actor="test")
    assert told.record.revision() == revision + 1
    assert told.record.steps.numbers() == {}
    assert told.record.steps.of(NUMBER) == []
    assert told.conduct.look() == []
    told.record.ledger.finish_erasures(told.record.ledger.last_sequence())
    assert told.record.steps.all() == []
    assert told.record.ledger.first_flaw([]) is None
    told.climb()
    assert told.in_force() == "suspended"


def test_who_is_erased_leaves_its_complaints(told: Told) -> None:
    """Without its number, its token and its words; they count as they did."""
    complainant = 12025550199
    said = Complaint(CALLER, complainant, told.now, text="They called at night", source="test")
    found = Found(told.now, "0" * 26, "allow", "default", "", 0, "", authenticated=True)
    kept = told.record.complaints.add(said, jurisdiction="US", entity=0, found=found)
    assert kept is not None
    told.complain()
    assert told.record.complaints.naming(complainant) == 1
    erased = Event(0, told.now, EventKind.ERASED, complainant, {})
    told.record.ledger.append([erased], actor="test")
    assert told.record.complaints.naming(complainant) == 0
    assert told.record.complaints.text(kept.id) == ""
    (step,) = told.conduct.look()
    assert (step.party, step.complainants) == (NUMBER, 7)
    # Whom they were about is erased as well: nobody is left to climb.
    told.record.ledger.append([Event(0, told.now, EventKind.ERASED, CALLER, {})], actor="test")
    assert told.record.complaints.naming(CALLER) == 0
    assert told.conduct.look() == []


def test_the_keys_rotate(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage stays in force, and complaints from before and after count together."""
    told.complain()
    told.conduct.look()
    monkeypatch.setenv("SCREENING_STATE_DIR", str(told.state.folder))
    rotate("token")
    rotate("data")
    with open_files(Settings(state_dir=told.state.folder)) as state:
        again = Told(state)
        again.now, again._heard = told.now, told._heard
        assert state.keyring.version("token") == 2
        assert again.in_force() == "notice"
        again.complain()
        again.conduct.look()
        assert again.in_force() == "suspended"


@pytest.mark.parametrize("named_first", [True, False])
def test_a_complainant_counts_once_across_a_rotation(told: Told, named_first: bool) -> None:
    """Whether a complaint names the number, or a record of the log that has its newest token: of
    one complainant one counts a day, and both kinds count toward the same number."""
    path = told.state.secrets_path
    named = Complaint(CALLER, 12025550101, told.now, source="test")
    if named_first:
        found = Found(told.now, "0" * 26, "allow", "", "", 0, "", authenticated=True)
        assert told.record.complaints.add(named, jurisdiction="US", entity=0, found=found)
    Keyring.rotate(path, "token")
    with open_files(Settings(state_dir=told.state.folder)) as state:
        state.record().ledger.rotate()
        newest = state.keyring.token(CALLER)
    assert told.state.keyring.version("token") == 1
    by_id = Found(told.now, "1" * 26, "allow", "", "", 0, newest, authenticated=True)

    def by_decision(called: int) -> object:
        said = Complaint(0, called, told.now, decision_id="1" * 26, source="test")
        return told.record.complaints.add(said, jurisdiction="US", entity=0, found=by_id)

    if named_first:
        assert by_decision(12025550101) is None
    else:
        assert by_decision(12025550101)
        assert told.record.complaints.add(named, jurisdiction="US", entity=0, found=None) is None
    # This process has taken in the key that another has made.
    assert told.state.keyring.version("token") == 2
    other = Complaint(CALLER, 12065550101, told.now, source="test")
    assert told.record.complaints.add(other, jurisdiction="US", entity=0, found=by_id)
    assert by_decision(13035550101)
    told.now += 60
    (step,) = told.conduct.look()
    assert (step.party, step.complainants) == (NUMBER, 3)


def test_a_step_is_of_one_party(told: Told) -> None:
    """Of an entity or a number, never of both or of none."""
    for called, body in ((CALLER, {"entity": 1}), (0, {})):
        step = Event(0, told.now, EventKind.LADDER_STEPPED, called, body)
        with pytest.raises(RecordError, match="an entity or a number"):
            told.record.ledger.append([step], actor="test")
