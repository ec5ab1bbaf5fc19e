"""Steps of the ladder whose writers are killed: SIGKILL at each statement, around each commit.

    python -m tests.ladder_crashes

with the settings of a record. Each kind of step is taken by a process of its own, which dies at one
place of one of its transactions; then ledger, stages and audit are compared, the step is taken
anew by whoever looks next, and all is compared again: none was lost, none was taken twice.
"""

import itertools
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool
from tests.crashes import Forked, die

from consent.complaint import Complaint
from consent.entity import Party
from consent.record import Found, Record, Stepped
from consent.record.appeals import REJECTED, UPHELD
from rules.ladder import load_ladders
from screening.appeals import Appellate
from screening.conduct import Conduct, alive
from screening.registrar import Registrar
from screening.settings import Settings
from screening.state import State, open_files

DRIVERS: Final = (psycopg,)
"""Loaded here, once, and not in each writer."""

FIRST: Final = 12125550100
AREAS: Final = (202, 206, 303)
COUNTRY: Final = "US"


def at_statement(*begins: str) -> Callable[[int], None]:
    """Dies once a statement of these has been run in the transaction of a step."""

    def arm(_: int) -> None:
        def executed(*given: Any) -> None:
            if given[2].lstrip().startswith(begins):
                die()

        sa.event.listen(Engine, "after_cursor_execute", executed)

    return arm


def _nth(wanted: int) -> Callable[..., None]:
    count = itertools.count(1)
    return lambda *_: die() if next(count) == wanted else None


def before_commit(nth: int) -> None:
    """All of the nth writing transaction is there, and none of it is in force."""
    sa.event.listen(Engine, "commit", _nth(nth))


def after_return(nth: int) -> None:
    """A transaction has ended, and what was to come after it does not."""
    sa.event.listen(Pool, "checkin", _nth(nth))


PLACES: Final[dict[str, tuple[Callable[[int], None], int]]] = {
    "the event": (at_statement("INSERT INTO event"), 0),
    "the stage": (at_statement("UPDATE entity", "INSERT INTO number_stage", "UPDATE number_stage"),
                  0),
    "the audit": (at_statement("INSERT INTO audit"), 0),
    **{f"before end {nth}": (before_commit, nth) for nth in range(1, 13, 3)},
    **{f"after end {nth}": (after_return, nth) for nth in range(2, 13, 3)},
}  # fmt: skip
"""Where a writer dies. Reads are transactions, too: each step has some ten, of each kind."""

KINDS: Final = ("entity", "number", "reversed", "claimed", "appealed", "upheld", "rejected")
OUTCOME: Final = {"upheld": UPHELD, "rejected": REJECTED}


def complain(record: Record, number: int, entity: int) -> None:
    """Three subscribers complain of signed calls: a notice is due."""
    now = time.time()
    for area in AREAS:
        called = area * 10**7 + 10**10 + 5550100 + number % 100
        found = Found(now - 1, "0" * 26, "allow", "default", "", entity, "", authenticated=True)
        said = Complaint(number, called, now - 1, source="crashes")
        record.complaints.add(said, jurisdiction=COUNTRY, entity=entity, found=found)


class Case:
    """One step and the place at which its writer dies."""

    def __init__(self, at: int, kind: str, place: str) -> None:
        self.kind, self.place = kind, place
        self.number = FIRST + at
        self.name = f"crash-{at}"

    def conduct(self, state: State) -> Conduct:
        return Conduct(state, load_ladders(state.settings.ladder_dir))

    def party(self, record: Record) -> Party:
        """Who takes the step."""
        known = record.entities.ids()
        by_number = self.kind == "number" or self.name not in known
        return Party(number=self.number) if by_number else Party(known[self.name])

    def prepare(self, state: State) -> None:
        """Everything up to the step."""
        record = state.record()
        entity = 0
        if self.kind not in ("number", "claimed"):
            entity = self._register(record)
        complain(record, self.number, entity)
        if self.kind not in ("entity", "number"):
            step = self.conduct(state).evaluate(self.party(record), COUNTRY)
            assert step is not None
            if self.kind in OUTCOME:
                self._appeal(state, step.sequence)
        if self.kind == "claimed":
            self._register(record)

    def _appeal(self, state: State, step: int) -> None:
        self._appellate(state).open(decision_id="", step=step, text="", actor="crashes")

    def _appellate(self, state: State) -> Appellate:
        return Appellate(self.conduct(state), Registrar(state))

    def _register(self, record: Record) -> int:
        return record.entities.put(
            self.name, title=self.name, categories=[], numbers=[self.number], actor="crashes"
        ).id

    def take(self, state: State) -> None:
        """The step; to be taken again by whoever finds it not taken."""
        conduct, record = self.conduct(state), state.record()
        if self.kind == "reversed":
            steps = record.steps.of(self.party(record))
            if raised := [each for each in alive(steps) if each.step == "raised"]:
                conduct.reverse(raised[0].sequence, reason="crashes", actor="crashes")
        elif self.kind in ("appealed", *OUTCOME):
            steps = record.steps.of(self.party(record))
            about = steps[0].sequence
            known = [each for each in record.appeals.latest(1000) if each.against.step == about]
            if self.kind == "appealed" and not known:
                self._appeal(state, about)
            elif self.kind in OUTCOME and not known[0].outcome:
                self._appellate(state).decide(
                    known[0].id, outcome=OUTCOME[self.kind], reason="crashes", actor="crashes"
                )
            # What an appeal says, and the ladder does not do yet, is done by whoever looks.
            self._appellate(state).look(actor="crashes")
        else:
            conduct.look()

    def expected(self) -> list[list[str]]:
        """The steps of the entity and of the number, once all is done."""
        raised = [["raised", "notice"]]
        match self.kind:
            case "entity":
                return [raised, []]
            case "number":
                return [[], raised]
            case "reversed":
                return [[*raised, ["reversed", "notice"]], []]
            case "appealed":
                return [[*raised, ["paused", "notice"]], []]
            case "upheld":
                return [[*raised, ["paused", "notice"], ["reversed", "notice"]], []]
            case "rejected":
                return [[*raised, ["paused", "notice"], ["resumed", "notice"]], []]
        return [raised, [*raised, ["claimed", "notice"]]]

    def steps(self, record: Record) -> list[list[Stepped]]:
        entity = record.entities.ids().get(self.name, 0)
        of_entity = record.steps.of(Party(entity)) if entity else []
        return [of_entity, record.steps.of(Party(number=self.number))]


def differences(state: State, cases: list[Case], *, done: bool) -> list[str]:
    """Where ledger, stages in force, notices and audit say different things; with `done` also what
    is missing or twice."""
    record, wrong = state.record(), []
    flaw = record.ledger.first_flaw([])
    if flaw is not None:
        wrong.append(f"the chain: {flaw}")
    stages = {each.name: each.stage_in(COUNTRY) for each in record.entities.all()}
    numbers = record.steps.numbers()
    audited = Counter(
        each.detail["event"]
        for each in record.audit.latest(10_000)
        if each.action.startswith("ladder.")
    )
    for case in cases:
        steps = case.steps(record)
        in_force = [stages.get(case.name, ("", 0)), numbers.get(case.number, {}).get(COUNTRY)]
        for taken, stands in zip(steps, in_force, strict=True):
            said = (taken[-1].in_force, taken[-1].sequence) if taken else ("", 0)
            found = stands or ("", 0)
            if found[0] != said[0] or (said[0] and found[1] != said[1]):
                wrong.append(f"{case.kind}, {case.place}: in force {found}, the ledger has {said}")
            wrong += [
                f"{case.kind}, {case.place}: event {each.sequence} has {lines} lines of audit"
                for each in taken
                if (lines := audited[each.sequence]) != 1
            ]
            due = {each.sequence for each in taken if each.notice}
            told = {each.step.sequence for each in record.notices.of([*due])}
            if due != told:
                wrong.append(f"{case.kind}, {case.place}: notices of {told}, steps have {due}")
        names = [[[each.step, each.stage] for each in taken] for taken in steps]
        if done and names != case.expected():
            wrong.append(f"{case.kind}, {case.place}: steps {names}")
    return wrong


def run(settings: Settings, what: Callable[[State], list[str]]) -> tuple[int, list[str]]:
    """What a process of its own says of the record, and how it ended."""

    def opened(pipe: int) -> None:
        with open_files(settings) as state:
            for line in what(state):
                os.write(pipe, json.dumps(line).encode() + b"\n")

    return Forked(opened).end()


def look_after(state: State, last: Case, following: Case | None) -> list[str]:
    """What is wrong after a kill; then the step is taken, and the next one prepared."""
    wrong = differences(state, [last], done=False)
    last.take(state)
    if following is not None:
        following.prepare(state)
    return wrong


def main() -> None:
    settings = Settings()
    pairs = itertools.product(KINDS, PLACES)
    cases = [Case(at, kind, place) for at, (kind, place) in enumerate(pairs)]
    killed: Counter[str] = Counter()
    ended = run(settings, lambda state: cases[0].prepare(state) or [])
    assert ended == (0, []), f"the first could not be prepared: {ended}"
    for case, following in itertools.zip_longest(cases, cases[1:]):
        arm, nth = PLACES[case.place]

        def take(state: State, case: Case = case, arm: Any = arm, nth: int = nth) -> list[str]:
            state.record()
            arm(nth)
            case.take(state)
            return []

        status, _ = run(settings, take)
        assert status in (0, -signal.SIGKILL), f"{case.kind}, {case.place}: ended with {status}"
        killed[case.kind] += status == -signal.SIGKILL
        ended = run(settings, lambda state, a=case, b=following: look_after(state, a, b))  # type: ignore[misc]
        assert ended == (0, []), f"after the kill: {ended}"
    wrong = run(settings, lambda state: differences(state, cases, done=True))
    assert wrong == (0, []), f"at the end: {wrong}"
    print(f"{killed.total()} writers killed of {len(cases)}: {json.dumps(killed)}")


if __name__ == "__main__":
    main()
