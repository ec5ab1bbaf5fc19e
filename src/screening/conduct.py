"""Conduct: from a complaint to the step of the ladder that is due, and back.

Invariants:
- a complaint counts toward a step only where its call was authenticated, by attestation or by a
  trunk that vouches: whoever owns a number that others spoof stays on the ground;
- a step rests on the newest one of its party in that country: of two who decide at once, one
  does, and the other looks again;
- a number for which no entity answers stands for itself; once one does, it stands where the number
  stood, and the number on the ground.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

from consent.calling import Registry
from consent.complaint import Complaint
from consent.conduct import COUNTS, NAMES, SCALE, Values, combined, unpack
from consent.entity import Party
from consent.index import ConductStore, IndexUnavailable
from consent.number import format_e164, parse_number
from consent.record import Found, Kept, Record, RecordConflict, RecordError, Stepped
from rules.ladder import DAY, Complained, Ladder, Stage, StageKind, Standing, Step, StepKind, due
from screening.recording.reader import Decision, DecisionLog
from screening.signals.tally import ENTITY
from screening.signals.view import ConductView
from screening.state import State

AROUND_SECONDS: Final = DAY
"""How far the instant that a complainant names may be from that of the call."""

AUTOMATIC: Final = "ladder"
"""The actor of steps that nobody commanded."""

MATCH_SECONDS: Final = 3 * DAY
"""How far back a complaint finds its call in a country without a ladder."""

NOBODY: Final = Party()
_AGAIN: Final = 3


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of a complaint: `kept` None where this complainant had complained of this
    caller that day; the step that it brought about."""

    kept: Kept | None
    step: Stepped | None = None


class Conduct:
    """Complaints and the ladder, over the record and this node's decision log. It blocks."""

    def __init__(
        self,
        state: State,
        ladders: Mapping[str, Ladder],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ladders: Final = ladders
        self.state: Final = state
        self.log: Final = DecisionLog(state.folder, clock=clock)
        self._clock = clock

    @property
    def record(self) -> Record:
        """The record. Raises RecordUnavailable."""
        return self.state.record()

    # Complaints

    def complain(self, complaints: Sequence[Complaint]) -> list[Heard]:
        """Takes complaints down, each with its call where there is one, and steps that are due."""
        self.record.ledger.follow_keys()
        registry = Registry(self.record.entities.all())
        heard: list[Kept | None] = []
        for each, call in zip(complaints, self._calls(complaints), strict=True):
            found = None if call is None else found_in(call)
            entity = found.entity if found else 0
            if not entity and each.calling:
                known = registry.entity_of(each.calling)
                entity = known.id if known else 0
            country = country_of(each.called or each.calling)
            heard.append(
                self.record.complaints.add(each, jurisdiction=country, entity=entity, found=found)
            )
        accused = [
            (Party(kept.entity, 0 if kept.entity else each.calling), kept.jurisdiction)
            if kept is not None and (kept.entity or kept.authenticated)
            else None
            for each, kept in zip(complaints, heard, strict=True)
        ]
        somebody = {each for each in accused if each is not None and each[0] != NOBODY}
        taken = {each: self.evaluate(*each) for each in sorted(somebody)}
        return [
            Heard(kept, taken.get(each) if each else None)
            for kept, each in zip(heard, accused, strict=True)
        ]

    def _calls(self, complaints: Sequence[Complaint]) -> list[Decision | None]:
        """The call of each complaint, from one reading of the log."""
        tokens = self.state.keyring.tokens
        called = {each.called: tokens(each.called) for each in complaints if each.called}
        if not called:
            return [None] * len(complaints)
        days = max([each.match_window for each in self.ladders.values()] or [MATCH_SECONDS]) / DAY
        by_token: dict[str, list[Decision]] = defaultdict(list)
        everyone = list(chain.from_iterable(called.values()))
        for call in self.log.of_tokens(everyone, sides=("called",), days=days):
            if not call["replay"]:
                by_token[call["called"]].append(call)
        return [
            self._call(each, [call for token in called[each.called] for call in by_token[token]])
            if each.called
            else None
            for each in complaints
        ]

    def _call(self, complaint: Complaint, calls: Iterable[Decision]) -> Decision | None:
        """Of the calls to the complainant that which is meant: by its id, or caller and time."""
        ladder = self.ladders.get(country_of(complaint.called))
        since = self._clock() - (ladder.match_window if ladder else MATCH_SECONDS)
        meant = [call for call in calls if call["instant"] >= since]
        if complaint.decision_id:
            meant = [call for call in meant if call["id"] == complaint.decision_id]
        else:
            callers = self.state.keyring.tokens(complaint.calling)
            meant = [
                call
                for call in meant
                if call["calling"] in callers
                and abs(call["instant"] - complaint.at) <= AROUND_SECONDS
            ]
        return min(meant, key=lambda call: abs(call["instant"] - complaint.at), default=None)

    def screened(self, called: int, days: float) -> list[dict[str, Any]]:
        """What was warned of or blocked for a called party, newest first; callers by token."""
        self.record.ledger.follow_keys()
        titles = {each.id: each.title for each in self.record.entities.all(status=None)}
        names = ("action", "cause", "rule", "category", "label", "degraded")
        calls = self.log.of_number(called, self.state.keyring, sides=("called",), days=days)
        return [
            {
                "decision_id": call["id"],
                "at": datetime.fromtimestamp(call["instant"], UTC).isoformat(),
                "caller": call["calling"],
                "entity": titles.get(call["entity"], ""),
                **{name: call[name] for name in names},
            }
            for call in reversed([call for call in calls if call["action"] != "allow"])
            if not call["replay"]
        ]

    # The ladder

    def look(self) -> list[Stepped]:
        """Takes the steps that are due anywhere: terms that end, who is back on the ground."""
        longest = max((_reach(each) for each in self.ladders.values()), default=0.0)
        first = [each.stages[0].complainants for each in self.ladders.values()]
        since, least = self._clock() - longest, math.ceil(min(first, default=1))
        accused = set(self.record.complaints.accused(since=since, least=least))
        accused |= {(each.party, each.jurisdiction) for each in self.record.steps.all()}
        registry = Registry(self.record.entities.all() if accused else ())
        taken = []
        for party, jurisdiction in sorted(accused):
            entity = registry.entity_of(party.number) if party.number else None
            if entity is not None:
                taken.append(self._claim(party.number, entity.id, jurisdiction))
            else:
                taken.append(self.evaluate(party, jurisdiction))
        return [each for each in taken if each is not None]

    def evaluate(self, party: Party, jurisdiction: str) -> Stepped | None:
        """Takes the step of a party that is due, and gives it; None where none is."""
        ladder = self.ladders.get(jurisdiction)
        for _ in range(_AGAIN if ladder else 0):
            try:
                return self._evaluate(ladder, party) if ladder else None
            except RecordConflict:
                continue  # another one was quicker: look at what it left
        return None

    def _claim(self, number: int, entity: int, jurisdiction: str) -> Stepped | None:
        """An entity has come to answer for a number: it stands where the number stood, unless it
        stands higher, and what was complained of the number is complained of it.

        To be begun again where it broke off: what was done is found done. While an appeal is open
        it waits. The answer is the step of the entity, None where none was due.
        """
        ladder = self.ladders.get(jurisdiction)
        if ladder is None:
            return None
        party, heir = Party(number=number), Party(entity)
        steps = self.record.steps.of(party, jurisdiction)
        standing = standing_of(steps)
        theirs = self.record.steps.of(heir, jurisdiction)
        if standing.paused or standing_of(theirs).paused:
            return None
        self.record.complaints.hand_over(number, entity)
        taken = None
        try:
            if standing.level > standing_of(theirs).level:
                raised = [each for each in alive(steps) if each.step == StepKind.RAISED]
                newest = raised[-1]
                taken = self._take(
                    ladder,
                    heir,
                    theirs,
                    standing,
                    step=str(StepKind.RAISED),
                    stage=newest.stage,
                    weight=round(newest.weight * 100),
                    complainants=newest.complainants,
                    complaints=sorted(chain.from_iterable(each.complaints for each in raised)),
                    reason=f"it answers for the number of step {newest.sequence}",
                    notice=self._told(
                        ladder.stages[standing.level - 1],
                        heir,
                        since=standing.since,
                        complainants=newest.complainants,
                    ),
                )
            if standing.level:
                ground = Standing()
                self._take(ladder, party, steps, ground, step="claimed", stage=steps[-1].stage)
        except RecordConflict:
            return taken  # the next look sees what is left
        return taken

    def _evaluate(self, ladder: Ladder, party: Party) -> Stepped | None:
        now = self._clock()
        steps = self.record.steps.of(party, ladder.jurisdiction)
        standing = standing_of(steps)
        kept = self.record.complaints.of_party(
            party, ladder.jurisdiction, since=now - _reach(ladder)
        )
        counted = [
            each for each in kept if each.complainant and (each.authenticated or not each.action)
        ]
        step = due(
            ladder,
            standing,
            complaints=[
                Complained(each.at, each.complainant, each.block, matched=bool(each.decision_id))
                for each in counted
            ],
            signals=self._signals(party) if _asks(ladder, standing) else {},
            at=now,
        )
        if step is None:
            return None
        since = max(now - step.stage.window, standing.since if standing.level else 0.0)
        raised = step.kind is StepKind.RAISED
        evidence = [each for each in counted if raised and since < each.at <= now]
        return self._take(
            ladder,
            party,
            steps,
            standing.after(step),
            step=str(step.kind),
            stage=step.stage.id,
            weight=round(step.weight * 100),
            complainants=step.complainants,
            complaints=[each.id for each in evidence],
            reason=step.stage.why if raised else "",
            notice=self._notice(step, party, evidence) if raised else {},
        )

    def _signals(self, party: Party) -> dict[str, float]:
        """How a party conducts itself: an entity as this node knows it, a number as the index has
        it of all nodes; nothing where that is not known."""
        values = self._of_number(party.number) if party.number else self._of_entity(party.entity)
        return {
            name: value if name.rpartition("_")[0] in COUNTS else value / SCALE
            for name, value in zip(NAMES, values or (), strict=bool(values))
        }

    def _of_entity(self, entity: int) -> Values | None:
        view = ConductView(self.state.folder, wall=self._clock)
        return view.find(ENTITY, entity) if view.known else None

    def _of_number(self, number: int) -> Values | None:
        if not self.state.redis_url:
            return None
        try:
            store = ConductStore(self.state.redis_url, node="")
        except IndexUnavailable:
            return None
        try:
            found = [unpack(each) for each in store.read_signals(number)]
        except IndexUnavailable:
            return None
        finally:
            store.close()
        return combined(found) if found else None

    def _notice(self, step: Step, party: Party, evidence: Sequence[Kept]) -> dict[str, str]:
        since = step.at
        if step.stage.kind is StageKind.NOTICE:
            since = min((each.at for each in evidence), default=step.at)
        return self._told(step.stage, party, since=since, complainants=step.complainants)

    def _told(
        self, stage: Stage, party: Party, *, since: float, complainants: int
    ) -> dict[str, str]:
        titles = {each.id: each.title for each in self.record.entities.all(status=None)}
        return {
            language: text.format(
                caller=format_e164(party.number) if party.number else titles[party.entity],
                since=datetime.fromtimestamp(since, UTC).date().isoformat(),
                complainants=complainants,
                appeal="{appeal}",
            )
            for language, text in stage.notice.items()
        }

    def _take(
        self,
        ladder: Ladder,
        party: Party,
        steps: Sequence[Stepped],
        after: Standing,
        *,
        actor: str = AUTOMATIC,
        voided: Iterable[int] = (),
        **said: Any,
    ) -> Stepped:
        body = {
            "jurisdiction": ladder.jurisdiction,
            "in_force": str(after.kind(ladder) or ""),
            "level": after.level,
            "since_us": round(after.since * 1e6),
            "over": after.over,
            "paused": after.paused,
            "ladder": f"{ladder.jurisdiction}@{ladder.revision}",
            **said,
        }
        return self.record.steps.take(
            party,
            body,
            at=self._clock(),
            actor=actor,
            rests_on=steps[-1].sequence if steps else 0,
            voided=list(voided),
        )

    def pause(self, sequence: int, *, reason: str, actor: str) -> Stepped | None:
        """Holds the ladder of the party of a step while an appeal is open; None if it is held."""
        step, steps, ladder = self.step(sequence)
        standing = standing_of(steps)
        if standing.paused or step not in alive(steps):
            return None
        held = replace(standing, paused=True)
        return self._take(
            ladder, step.party, steps, held, step="paused", stage=step.stage, reason=reason,
            actor=actor,
        )  # fmt: skip

    def resume(self, sequence: int, *, reason: str, actor: str) -> Stepped | None:
        """Lets it go on; a term is served in full, without the pause."""
        step, steps, ladder = self.step(sequence)
        standing = standing_of(steps)
        if not standing.paused:
            return None
        held = self._clock() - next(each.at for each in reversed(steps) if each.step == "paused")
        on = replace(standing, paused=False, since=standing.since + max(0.0, held))
        return self._take(
            ladder, step.party, steps, on, step="resumed", stage=step.stage, reason=reason,
            actor=actor,
        )  # fmt: skip

    def reverse(self, sequence: int, *, reason: str, actor: str) -> Stepped:
        """Undoes a step with every one after it; the complaints that they rest on count no more.

        Raises RecordError where there is no such step, or it has been undone.
        """
        step, steps, ladder = self.step(sequence)
        standing_steps = alive(steps)
        if step.step != StepKind.RAISED or step not in standing_steps:
            raise RecordError(
                f"event {sequence} is no step up the ladder that stands", field="sequence"
            )
        before = [each for each in standing_steps if each.sequence < sequence]
        undone = [each for each in standing_steps if each.sequence >= sequence]
        return self._take(
            ladder, step.party, steps, standing_of(before), step="reversed", stage=step.stage,
            reverses=sequence, reason=reason, actor=actor,
            voided=chain.from_iterable(each.complaints for each in undone),
        )  # fmt: skip

    def step(self, sequence: int) -> tuple[Stepped, list[Stepped], Ladder]:
        """A step, all those of its party in its country, and the ladder of that country.

        Raises RecordError where there is none.
        """
        step = next((each for each in self.record.steps.all() if each.sequence == sequence), None)
        if step is None:
            raise RecordError(f"event {sequence} is no step of the ladder", field="step")
        ladder = self.ladders.get(step.jurisdiction)
        if ladder is None:
            raise RecordError(f"there is no ladder for {step.jurisdiction}", field="jurisdiction")
        return step, self.record.steps.of(step.party, step.jurisdiction), ladder


def standing_of(steps: Sequence[Stepped]) -> Standing:
    """Where the newest of a party's steps in one country leaves it."""
    if not steps:
        return Standing()
    newest = steps[-1]
    return Standing(newest.level, newest.since, newest.over, newest.paused)


def alive(steps: Sequence[Stepped]) -> list[Stepped]:
    """The steps that were not undone, and are no undoing themselves.

    Of a number that an entity has claimed none stands: those of the entity do.
    """
    undone = [
        (each.party, range(each.reverses, each.sequence + 1))
        for each in steps
        if each.step in ("reversed", "claimed")
    ]
    return [
        each
        for each in steps
        if not any(each.party == party and each.sequence in span for party, span in undone)
    ]


def country_of(number: int) -> str:
    """The country of a number (ISO 3166-1), "" for 0 and what is none."""
    return parse_number(f"+{number}", region="").country if number else ""


def found_in(call: Decision) -> Found:
    """A record of the log as the call of a complaint."""
    return Found(
        at=call["instant"],
        decision_id=call["id"],
        action=call["action"],
        rule=call["rule"],
        category=call["category"],
        entity=call["entity"],
        calling=call["calling"],
        # Somebody stood for the number: the originator's A, verified, or a trunk.
        authenticated=call["vouched"]
        or (call["attestation"] == "A" and call["verstat"].startswith("TN-Validation-Passed")),
    )


def _asks(ladder: Ladder, standing: Standing) -> bool:
    """Whether the next stage asks for conduct beside complaints."""
    return standing.level < len(ladder.stages) and bool(ladder.stages[standing.level].signals)


def _reach(ladder: Ladder) -> float:
    """How far back complaints matter."""
    return max([ladder.decay, *(stage.window for stage in ladder.stages)])
