"""Statements of many subscribers, a line each, and what became of each line.

A bad line stops no other. A line that says what is already so is not recorded again, so a bulk
that broke off is sent again whole: what it did is found done.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError

from consent.event import HELD_KINDS, Event, EventKind
from consent.held import Held, HeldConsent
from consent.record import RecordError, RecordUnavailable
from consent.record.body import check, completed
from consent.record.words import nearest
from screening.registrar import Registrar
from screening.state import State
from screening.statement import BulkLine, called_number, plain

BATCH_LINES: Final = 500
"""Lines that are committed together."""

LINE_LIMIT_BYTES: Final = 16_384

_LINE: Final[TypeAdapter[BulkLine]] = TypeAdapter(BulkLine)


@dataclass(slots=True)
class Outcome:
    """Of one line: in_force, pending, unchanged, refused, or undone where the record was gone."""

    line: int
    state: str = ""
    sequence: int = 0
    error: str = ""
    field: str = ""

    def text(self) -> bytes:
        """The line of the report."""
        said: dict[str, Any] = {"line": self.line, "state": self.state}
        said |= {"sequence": self.sequence} if self.sequence else {}
        said |= {"error": self.error, "field": self.field} if self.error else {}
        return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)

    def refuse(self, error: str, at: str = "") -> None:
        self.state, self.error, self.field = "refused", error, at


@dataclass(slots=True)
class Bulk:
    """One bulk, batch by batch; `counts` are its lines by state. Blocks."""

    state: State
    registrar: Registrar
    actor: str
    counts: Counter[str] = field(default_factory=Counter)
    _entities: dict[str, int] = field(default_factory=dict)

    def take(self, lines: Sequence[tuple[int, bytes]]) -> list[Outcome]:
        """Carry out numbered lines; those after a failure of the record are undone."""
        outcomes = [Outcome(number) for number, _ in lines]
        try:
            self._take(lines, outcomes)
        except RecordUnavailable as gone:
            for each in outcomes:
                if not each.state:
                    each.state, each.error = "undone", str(gone)
        self.counts.update(each.state for each in outcomes)
        return outcomes

    @property
    def broken(self) -> bool:
        """Whether the record was gone: the lines from then on are better not tried."""
        return self.counts["undone"] > 0

    def summary(self) -> dict[str, Any]:
        """The last line of the report."""
        return {
            "lines": self.counts.total(),
            **{
                name: self.counts[name]
                for name in ("in_force", "pending", "unchanged", "refused", "undone")
            },
            "complete": not self.broken,
        }

    def _take(self, lines: Sequence[tuple[int, bytes]], outcomes: list[Outcome]) -> None:
        if not self._entities:
            self._entities = self.state.record().entities.ids()
        stated = []
        for outcome, (_, line) in zip(outcomes, lines, strict=True):
            event = self._read(line, outcome)
            if event is not None:
                stated.append((outcome, event))
        ledger = self.state.record().ledger
        said = ledger.events_of_each({event.called for _, event in stated})
        held = {called: Held.of(events) for called, events in said.items()}
        fresh = []
        for outcome, event in stated:
            if _already(event, held[event.called]):
                outcome.state = "unchanged"
                outcome.sequence = held[event.called].consents[event.body["entity"]].sequence
            elif self._follow(event, held[event.called], outcome):
                fresh.append((outcome, event))
        self._append(fresh)

    def _read(self, line: bytes, outcome: Outcome) -> Event | None:
        """The event of a line, checked; None with its refusal in the outcome."""
        if len(line) > LINE_LIMIT_BYTES:
            outcome.refuse(f"the line is longer than {LINE_LIMIT_BYTES} bytes")
            return None
        try:
            stated = _LINE.validate_json(line)
            called = called_number(stated.called, region=self.state.settings.region)
            entity = self._entities.get(stated.entity)
            if entity is None:
                word = nearest(stated.entity, self._entities)
                outcome.refuse(f"entity is not registered, {word}", "entity")
                return None
            event = stated.event(called=called, entity=entity, now=time.time())
            event = replace(event, body=check(event, where="events[0]"))
        except ValidationError as wrong:
            first = wrong.errors(include_input=False, include_url=False)[0]
            # The first part names the kind of line that was understood.
            place = ".".join(map(str, first["loc"][1:]))
            outcome.refuse(first["msg"], "do" if "tag" in first["type"] else place)
        except RecordError as wrong:
            outcome.refuse(*plain(wrong))
        else:
            return event
        return None

    def _follow(self, event: Event, held: Held, outcome: Outcome) -> bool:
        """Whether the event can be appended after those before it; `held` then has it."""
        # What the ledger completes stays its own to say: these are only looked at.
        ahead = Event(event.sequence, event.at, event.kind, event.called, dict(event.body))
        try:
            completed(ahead, held, where="events[0]")
        except RecordError as wrong:
            outcome.refuse(*plain(wrong))
            return False
        held.follow(ahead)
        return True

    def _append(self, fresh: list[tuple[Outcome, Event]]) -> None:
        if not fresh:
            return
        try:
            taken = self.registrar.take([event for _, event in fresh], actor=self.actor)
        except RecordError as wrong:
            # Something changed since it was looked at: find the line that no longer holds.
            if len(fresh) == 1:
                fresh[0][0].refuse(*plain(wrong))
                return
            for each in fresh:
                self._append([each])
            return
        for (outcome, _), kept in zip(fresh, taken.events, strict=True):
            outcome.state = "in_force" if taken.in_force else "pending"
            outcome.sequence = kept.sequence


def _already(event: Event, held: Held) -> bool:
    """Whether what a statement says of a consent is so already, with the same evidence."""
    consent, body = held.consents.get(event.body["entity"]), event.body
    if consent is None:
        return False
    if event.kind is EventKind.CONSENT_REVOKED:
        return consent.evidence == body["evidence"] and _revoked_so(body, consent)
    if consent.revoked_at is not None or consent.evidence != body["evidence"]:
        return False
    if event.kind is EventKind.CONSENT_GRANTED:
        said = (tuple(body["categories"]), body["expires"], body.get("terms", {}))
        return said == (consent.categories, consent.expires, consent.terms)
    if event.kind is EventKind.CONSENT_NARROWED:
        left = not {*body["withdrawn"]} & {*consent.categories, "all"}
        terms = body.get("terms", {}).items() <= consent.terms.items()
        return left and terms and not (body["withdrawn"] and "all" in consent.categories)
    if event.kind is EventKind.CONSENT_RENEWED:
        return bool(body["expires"] == consent.expires)
    return event.kind in HELD_KINDS and 0 < consent.expires <= event.at


def _revoked_so(body: dict[str, Any], consent: HeldConsent) -> bool:
    said, before = consent.revocation, consent.revoked_at is not None
    if "scope" not in body and "effective" not in body:
        return before
    return bool(said) and all(said.get(name) == body.get(name) for name in ("scope", "effective"))


def batches(lines: Iterable[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    """Lines with their numbers from 1 on, empty ones passed over, as many as go together."""
    batch: list[tuple[int, bytes]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            batch.append((number, line))
        if len(batch) == BATCH_LINES:
            yield batch
            batch = []
    if batch:
        yield batch
