"""Appeals: against a decision or a step of the ladder, judged by a person, with their effect.

An appeal against a step, or against a decision that rests on one, pauses the ladder of the entity;
`settle` brings the ladder to what the appeal says, and finds nothing to do where it has been done,
so that a crash between the two is mended by the next look.
"""

import time
from itertools import chain
from typing import Final

from consent.calling import CallingLists
from consent.entity import Party
from consent.event import Event, EventKind
from consent.record import Appeal, Appealed, ListKind, RecordConflict, RecordError, Stepped
from rules.ladder import DAY, StepKind
from rules.verdict import Cause
from screening.conduct import Conduct, alive
from screening.recording.reader import Decision
from screening.registrar import Registrar

APPEAL_SECONDS: Final = 15 * DAY
"""The time to decide an appeal in a country without a ladder."""

LOOKED_AT: Final = 1000
"""The newest appeals, which a look settles."""

NONE: Final = "none"
REVERSED: Final = "step reversed"
ALLOWED: Final = "personal allow"
EXCEPTED: Final = "excepted from"
"""With the names of the network lists."""

NOTED: Final = "list entry to be corrected"
"""What an appeal that was upheld brought about."""

BLOCKING: Final = (ListKind.BLOCK, ListKind.DNO)

_OF_A_RANGE: Final = 1000
"""Most numbers of an entity's range that are held against the token of a call."""


class Appellate:
    """Where appeals are opened and decided. It blocks."""

    def __init__(self, conduct: Conduct, registrar: Registrar) -> None:
        self._conduct = conduct
        self._registrar = registrar

    def open(self, *, decision_id: str, step: int, text: str, actor: str) -> Appeal:
        """Takes down an appeal and pauses the ladder that it is about.

        Raises RecordError where there is no such decision or step, RecordConflict where there
        was an appeal against it before.
        """
        against = self._against(decision_id, step)
        ladder = self._conduct.ladders.get(against.jurisdiction)
        within = ladder.appeal if ladder else APPEAL_SECONDS
        opened = self._conduct.record.appeals.open(against, text=text, within=within, actor=actor)
        self.settle(opened, actor=actor)
        return opened

    def _against(self, decision_id: str, sequence: int) -> Appealed:
        if not decision_id:
            step, steps, _ = self._conduct.step(sequence)
            if step.step != StepKind.RAISED or step not in alive(steps):
                raise RecordError(
                    f"event {sequence} is no step up the ladder that stands", field="step"
                )
            return Appealed(
                step.jurisdiction, step=sequence, entity=step.party.entity, cause=Cause.ESCALATION
            )
        call = self.decision(decision_id)
        step_of_call = self._step_of(call) if call["cause"] == Cause.ESCALATION else None
        return Appealed(
            jurisdiction=call["called_country"],
            decision_id=decision_id,
            step=step_of_call.sequence if step_of_call else 0,
            entity=call["entity"],
            rule=call["rule"],
            category=call["category"],
            cause=call["cause"],
        )

    def decision(self, decision_id: str) -> Decision:
        """The newest attempt of a decision, whose tokens this process has the key of.

        Raises RecordError where the log has none.
        """
        self._conduct.record.ledger.follow_keys()
        found = self._conduct.log.find(decision_id)
        if not found:
            raise RecordError("no decision with this id is kept", field="decision_id")
        return found[-1]

    def _step_of(self, call: Decision) -> Stepped | None:
        """The step that was in force when a call was decided by it."""
        country = call["called_country"]
        party = Party(call["entity"]) if call["entity"] else self._standing(call, country)
        steps = self._conduct.record.steps.of(party, country) if party else []
        raised = [each for each in alive(steps) if each.step == StepKind.RAISED]
        before = [each for each in raised if each.at <= call["instant"]]
        return next(iter(reversed(before or raised)), None)

    def _standing(self, call: Decision, country: str) -> Party | None:
        """The number on the ladder that a call came from, for which no entity answered."""
        tokens = self._conduct.state.keyring.tokens
        for each in self._conduct.record.steps.all():
            number = each.party.number
            if number and each.jurisdiction == country and call["calling"] in tokens(number):
                return each.party
        return None

    def decide(
        self,
        appeal_id: int,
        *,
        outcome: str,
        reason: str,
        actor: str,
        calling: int = 0,
        called: int = 0,
    ) -> Appeal:
        """Closes an appeal and brings about what follows.

        Upheld, a step is undone with all that it caused. Of another decision the parties'
        numbers, where they are given and are those of the call, put the caller on the called
        party's own allow list; the caller's alone, which may be found among those of its entity,
        excepts it from the network lists that block it; without it its list entry is noted as one
        to be corrected. Raises RecordError, and RecordConflict where it was decided before.
        """
        appeals = self._conduct.record.appeals
        appeal = appeals.get(appeal_id)
        effect = NONE
        if outcome == "upheld":
            effect = REVERSED if appeal.against.step else ALLOWED if called else NOTED
        if effect == ALLOWED:
            self._expect_parties(self.decision(appeal.against.decision_id), calling, called)
        elif effect == NOTED and not appeal.outcome:
            # Before it is closed: broken off between the two, it is decided again.
            effect = self._except(appeal, calling, reason=reason, actor=actor)
        decided = appeals.decide(
            appeal_id, outcome=outcome, effect=effect, reason=reason, actor=actor
        )
        if effect == ALLOWED:
            self._allow(calling, called, actor=actor)
        self.settle(decided, actor=actor)
        return decided

    def _except(self, appeal: Appeal, calling: int, *, reason: str, actor: str) -> str:
        """Excepts the caller of an appeal from the network lists that block it; the effect.

        Raises RecordError where it is given and no such list names it.
        """
        if appeal.against.cause not in (Cause.NETWORK_LIST, Cause.DNO):
            if calling:
                raise RecordError("no network list blocked this call", field="calling")
            return NOTED
        call = self.decision(appeal.against.decision_id)
        number = calling or self._number_of(call)
        if not number:
            return NOTED
        self._expect_calling(call, number)
        conduct = self._conduct
        lists = CallingLists.load(conduct.state.folder)
        blocking = {each.name for each in conduct.record.catalogue.lists() if each.kind in BLOCKING}
        names = [name for name in lists.naming(number) if name in blocking]
        if not names and calling:
            raise RecordError("no network list names this number any more", field="calling")
        said = f"appeal {appeal.id}: {reason}"[:500]
        for name in names:
            conduct.record.exceptions.grant(name, number, reason=said, actor=actor)
        return f"{EXCEPTED} {', '.join(names)}" if names else NOTED

    def settle(self, appeal: Appeal, *, actor: str) -> Stepped | None:
        """Brings the ladder to what an appeal says; None where it is there."""
        sequence = appeal.against.step
        if not sequence:
            return None
        step, steps, _ = self._conduct.step(sequence)
        standing = step in alive(steps)
        reason = f"appeal {appeal.id}"
        if not appeal.outcome:
            return self._conduct.pause(sequence, reason=reason, actor=actor)
        if appeal.outcome == "upheld":
            if not standing:
                return None
            reason = f"{reason}: {appeal.reason}"[:500]
            return self._conduct.reverse(sequence, reason=reason, actor=actor)
        resumed = any(each.step == "resumed" and each.reason == reason for each in steps)
        return None if resumed else self._conduct.resume(sequence, reason=reason, actor=actor)

    def look(self, *, actor: str) -> None:
        """Settles what a crash has left between an appeal and the ladder."""
        for appeal in reversed(self._conduct.record.appeals.latest(LOOKED_AT)):
            if appeal.against.step:
                try:
                    self.settle(appeal, actor=actor)
                except RecordConflict:
                    continue  # a step was taken meanwhile: the next look sees it

    # The called party's own word

    def wanted(self, decision_id: str, *, called: int, calling: int, actor: str) -> Appeal | None:
        """A called party wanted a call: its caller is on its allow list from now on, and a false
        positive is counted; None where it said so before.

        `calling` 0 is looked for among the numbers of the call's entity. Raises RecordError.
        """
        call = self.decision(decision_id)
        number = calling or self._number_of(call)
        self._expect_parties(call, number, called)
        self._allow(number, called, actor=actor)
        against = Appealed(
            jurisdiction=call["called_country"],
            decision_id=decision_id,
            entity=call["entity"],
            rule=call["rule"],
            category=call["category"],
            cause=call["cause"],
        )
        return self._conduct.record.appeals.wanted(against, effect=ALLOWED, actor=actor)

    def _allow(self, calling: int, called: int, *, actor: str) -> None:
        body = {"calling": calling, "action": "allow"}
        self._registrar.take(
            [Event(0, time.time(), EventKind.PERSONAL_SET, called, body)], actor=actor
        )

    def _expect_parties(self, call: Decision, calling: int, called: int) -> None:
        """Raises RecordError where these are not the parties of a call."""
        tokens = self._conduct.state.keyring.tokens
        if call["called"] not in tokens(called):
            raise RecordError("the decision is about a call to another number", field="called")
        self._expect_calling(call, calling)

    def _expect_calling(self, call: Decision, calling: int) -> None:
        """Raises RecordError where this is not the number that called."""
        tokens = self._conduct.state.keyring.tokens
        if call["calling"] not in (tokens(calling) if calling else [""]):
            raise RecordError(
                "expected the number that called: the log has none in clear", field="calling"
            )

    def _number_of(self, call: Decision) -> int:
        """The number of a call's entity that its token stands for, 0 where none is found."""
        token = self._conduct.state.keyring.tokens
        for each in self._conduct.record.entities.all(status=None):
            if call["entity"] not in (each.id, each.acts_for):
                continue
            ranges = (range(lo, hi + 1)[:_OF_A_RANGE] for lo, hi in each.ranges)
            for number in (*each.numbers, *chain.from_iterable(ranges)):
                if call["calling"] in token(number):
                    return number
        return 0
