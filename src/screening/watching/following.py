"""Reads the decision record as it grows, from a record on, and gives what the watch hears."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson
import zstandard

from rules.safeguard import RULESET as SAFEGUARD
from screening.recording.segments import Line, Segment, segments
from screening.signals.counting import SHORT_SECONDS
from screening.watching.events import Call, Complaint, End, Event, number_of

log = logging.getLogger(__name__)

_BLOCK_BYTES: Final = 1 << 20


class Follower:
    """The records of a log's folder after number `after`; those of before `since` are passed over
    by whole segments."""

    def __init__(self, folder: Path, *, after: int = 0, since: float = 0.0) -> None:
        self.position = after
        """The record that was read last."""
        self.missed = 0
        """Records that were not there any more."""
        self.more = False
        """Whether the last read had anything to read."""
        self._folder = folder
        self._since = since
        self._segment: Segment | None = None
        self._file: BinaryIO | Any = None
        self._rest = b""

    def read(self) -> list[Event]:
        """The events of what can be read next, at most about a MiB; none where there is none.

        `more` says whether anything was read. Raises OSError.
        """
        events: list[Event] = []
        self.more = False
        for line in self._lines():
            each = Line.parse(line)
            if not each.sequence or each.sequence <= self.position:
                continue
            if self.position and each.sequence > self.position + 1:
                self.missed += each.sequence - self.position - 1
            self.position = each.sequence
            try:
                event = event_of(orjson.loads(each.body + b"}"))
            except (ValueError, KeyError, TypeError):
                log.warning("record %d is none that the watch can read", each.sequence)
                continue
            if event is not None:
                events.append(event)
        return events

    def close(self) -> None:
        """Let go of the segment."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lines(self) -> Iterator[bytes]:
        """Whole lines of the next block; goes on to the next segment where one ends."""
        if self._file is None and not self._open_next():
            return
        block = self._file.read(_BLOCK_BYTES)
        if not block:
            # What was written between the read and the look belongs to this segment still.
            if any(each.first > self._first for each in segments(self._folder)):
                block = self._file.read(_BLOCK_BYTES)
                if not block:
                    self.close()
                    if self._open_next():
                        yield from self._lines()
                    return
            else:
                return
        self.more = True
        whole, newline, self._rest = (self._rest + block).rpartition(b"\n")
        if newline:
            yield from (whole + newline).splitlines(keepends=True)

    @property
    def _first(self) -> int:
        return self._segment.first if self._segment else 0

    def _open_next(self) -> bool:
        there = segments(self._folder)
        if self._segment is None:
            there = [each for each in there if each.modified >= self._since] or there[-1:]
            begun = [each for each in there if each.first <= self.position + 1]
            there = there[len(begun) - 1 :] if begun else there
        else:
            there = [each for each in there if each.first > self._first]
        if not there:
            return False
        segment = there[0]
        try:
            file = segment.path.open("rb")
        except FileNotFoundError:  # compressed or removed just now: the next look finds it
            return False
        self._segment, self._rest = segment, b""
        self._file = zstandard.ZstdDecompressor().stream_reader(file) if segment.closed else file
        return True


def event_of(record: Mapping[str, Any]) -> Event | None:
    """What a record tells the watch, None for what counts for nobody.

    A call counts on its first attempt; emergency calls, what a safeguard passed and replays do not.
    """
    kind, get = record["kind"], record.get
    if kind == "call":
        if get("attempt", 1) > 1 or get("emergency") or get("replay"):
            return None
        if get("ruleset", "") == SAFEGUARD or "calling" not in record:
            return None
        blocked = get("action") == "block"
        return Call(
            at=record["instant"],
            id=record["id"],
            calling=number_of(record["calling"]),
            block=number_of(get("calling_block", "0")),
            called=number_of(get("called", "0")),
            entity=get("entity", 0),
            trunk=get("trunk", ""),
            vouched=bool(get("vouched")) or (get("attestation"), get("verstat")) == ("A", "passed"),
            consented=bool(get("consent")) and not blocked,
            refused=blocked and get("cause") == "subscriber_refusal",
            neighbour=bool(get("neighbour")),
        )
    if kind not in ("end", "complaint") or "calling" not in record:
        return None
    at, calling = record["instant"], number_of(record["calling"])
    block, entity, trunk = number_of(record["calling_block"]), get("entity", 0), get("trunk", "")
    if kind == "complaint":
        return Complaint(at, calling, block, entity, trunk)
    answered = bool(get("answered"))
    short = answered and get("seconds", 0) < SHORT_SECONDS
    return End(at, calling, block, entity, trunk, answered, short)
