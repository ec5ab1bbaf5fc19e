"""Files of reassigned numbers: a number and the day on which its subscriber gave it up, a line.

What was decided of a number until the end of that day (UTC) was the former subscriber's, and ends
as an event of the ledger: the index then holds nothing of it, so that a call costs nothing more, a
rebuild knows it, and the chain proves when it was learnt. A list compared at every call could do
none of this. What has been decided since is the new subscriber's, and stays.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

from consent.event import Event, EventKind
from consent.facts import ConsentState
from consent.held import Held
from consent.listing import ListingError, open_source
from consent.listing.checksum import published, verify
from consent.number import NotE164, parse_e164
from consent.record import Record
from consent.record.ledger import Ledger
from consent.terms import DAY_SECONDS
from screening.registrar import Registrar

GUARD: Final = 0.01
"""Of the subscriptions known here, the share that files may end unconfirmed in a day."""

GUARD_FLOOR: Final = 10
"""Subscriptions that they may end in a day however few are known."""

MOST_DAYS: Final = 31
"""A file after a longer pause may end no more than one after this."""

AUDITED: Final = "reassigned-numbers"
"""The subject under which the audit has what files have ended."""

AT_ONCE: Final = 500
MOST_AUDITED: Final = 10_000
LINE_BYTES: Final = 1024
MOST_SHOWN: Final = 20
_LINE: Final = re.compile(r'"?([+0-9() .-]{3,32})"?\s*[,;\t]\s*"?(\d{4})-?(\d{2})-?(\d{2})"?')


@dataclass(slots=True)
class Ends:
    """What a file means here: `events` to append, of `known` numbers among its `lines`.

    `rejected` are the lines that are none, the first of them in `reasons`.
    """

    lines: int = 0
    known: int = 0
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def subscriptions(self) -> int:
        """How many numbers lose something."""
        return len({each.called for each in self.events})

    def report(self, *, in_force: bool) -> dict[str, Any]:
        """What came of the file, for whoever sent it."""
        return {
            "state": "in_force" if in_force else "pending",
            "lines": self.lines,
            "rejected": self.rejected,
            "known": self.known,
            "ended": self.subscriptions,
            "reasons": self.reasons,
        }

    def reject(self, line: int, reason: str) -> None:
        self.rejected += 1
        if len(self.reasons) < MOST_SHOWN:
            self.reasons.append(f"line {line} {reason}")


def read_ends(
    ledger: Ledger, path: Path, *, region: str, checksum: Path | None = None, now: float
) -> Ends:
    """What the file ends. Raises ListingError for what is no such file, or not as published."""
    said = published(path, checksum)
    if said is not None:
        verify(path, said)
    ends = Ends()
    pairs = _pairs(path, region, now, ends)
    while batch := dict(islice(pairs, AT_ONCE)):
        for called, events in ledger.events_of_each(batch).items():
            if events:
                ends.known += 1
                ends.events += _ended(called, events, batch[called], now)
    if ends.lines == ends.rejected:
        raise ListingError(
            f"of {ends.lines} lines none is a number and a date, such as +12125550101,2026-11-20"
        )
    return ends


def expect_few(ends: Ends, record: Record, *, now: float) -> None:
    """Raises ListingError where a file ends more than its guard of the subscriptions known.

    The guard is of each day since a file was last taken; what files have ended unconfirmed within
    the last 24 hours is part of it, so that many small files are held as one large one is.
    """
    subscriptions = record.ledger.subscriptions()
    taken = record.audit.of(AUDITED, MOST_AUDITED)
    days = 1.0
    if taken:
        days = min(max(days, (now - taken[0].at) / DAY_SECONDS), MOST_DAYS)
    ended = sum(
        each.detail["ended"]
        for each in taken
        if each.at > now - DAY_SECONDS and not each.detail["confirmed"]
    )
    allowed = max(GUARD_FLOOR, int(GUARD * days * subscriptions)) - ended
    if ends.subscriptions > allowed:
        raise ListingError(
            f"{ends.subscriptions} of {subscriptions} subscriptions would end, and {ended} have "
            f"within a day; expected {max(0, allowed)} more at most: held until --force confirms it"
        )


def carry_out(
    ends: Ends, record: Record, registrar: Registrar, *, actor: str, confirmed: bool = False
) -> bool:
    """Append what the file ends; whether it is in force. To be broken off and begun again."""
    in_force = True
    for first in range(0, max(1, len(ends.events)), AT_ONCE):
        some = ends.events[first : first + AT_ONCE]
        in_force = registrar.take(some, actor=actor).in_force
        ended = len({each.called for each in some})
        detail = {"ended": ended, "confirmed": confirmed}
        record.audit.append("reassigned.taken", subject=AUDITED, actor=actor, detail=detail)
    return in_force


def _ended(called: int, events: list[Event], day: datetime, now: float) -> Iterator[Event]:
    since, end = int(day.timestamp()), (day + timedelta(days=1)).timestamp()
    said = [each for each in events if each.kind is not EventKind.REASSIGNED]
    if not said or said[0].at >= end:
        return
    if said[-1].at < end:
        yield Event(0, now, EventKind.REASSIGNED, called, {"since": since})
        return
    # Both subscribers are under one id: the former one's consents end by themselves.
    at = {each.sequence: each.at for each in events}
    for entity, consent in Held.of(events).consents.items():
        if at[consent.sequence] < end and consent.state(now) is ConsentState.GRANTED:
            evidence = {"source": f"reassigned numbers: given up on {day:%Y-%m-%d}"}
            body = {"entity": entity, "evidence": evidence}
            yield Event(0, now, EventKind.CONSENT_EXPIRED, called, body)


def _pairs(path: Path, region: str, now: float, ends: Ends) -> Iterator[tuple[int, datetime]]:
    today = datetime.fromtimestamp(now, UTC) + timedelta(days=1)
    for text in _lines(path):
        if not text.strip() or (not ends.lines and not any(map(str.isdigit, text))):
            continue
        ends.lines += 1
        found = _LINE.fullmatch(text.strip())
        try:
            if found is None:
                raise ValueError
            number, *day = found.groups()
            at = datetime(*map(int, day), tzinfo=UTC)  # type: ignore[misc, arg-type]
            if at > today:
                ends.reject(ends.lines, "has a date to come")
                continue
            yield parse_e164(number, region=region), at
        except NotE164 as refused:
            ends.reject(ends.lines, f"has no number: {refused}")
        except ValueError:
            ends.reject(ends.lines, "is no number and date")


def _lines(path: Path) -> Iterator[str]:
    rest = b""
    with open_source(path) as source:
        while chunk := source.read(1 << 16):
            *whole, rest = (rest + chunk).split(b"\n")
            rest = rest[:LINE_BYTES]
            for line in whole:
                yield line.decode("utf-8", "replace")
    yield rest.decode("utf-8", "replace")
