"""The recall: a bounded sample of the calls decided lately, with their facts, for replays.

Invariants:
- at most 24 hours, `MOST_CALLS` calls and `MOST_BYTES` bytes are kept, in files of mode 0600;
- every call lies sealed with a data key of the key file; it is opened by `Recalled` and nowhere
  else; of a call that a safeguard passed only that is kept;
- `offer` costs a call a comparison of two strings, and nothing here slows or fails one: what
  cannot be kept is dropped and counted.

A call is chosen by its decision id, a keyed hash: asked again it is chosen again, calls that
come in turns are not chosen in turns, and of a ring those whose ids come first are a fair choice
of all calls.

A file begins with `_MAGIC` and a random name of 16 bytes. Frames follow: `_FRAME`, then what it
counts the bytes of, sealed to the name, the frame's place and its head: JSON, one call a line,
compressed.
"""

import contextlib
import heapq
import os
import secrets
import shutil
import struct
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import orjson

from consent.category import BIT, mask
from consent.conduct import NOTHING
from consent.facts import NO_PROFILE, Consent, Facts, Profile
from consent.keyring import SEAL_BYTES, Keyring, KeyringError
from consent.number import Number, NumberClass
from consent.terms import Terms
from rules.call import Call
from rules.replay import Sample
from rules.ruleset import ReadPlan
from rules.safeguard import RULESET as SAFEGUARD

if TYPE_CHECKING:  # the guard's process reads recalls and needs no service
    from screening.screener import Decision, Question

FOLDER: Final = "recall"
MOST_CALLS: Final = 100_000
MOST_SECONDS: Final = 86_400.0
MOST_BYTES: Final = 256 * 2**20
"""Only callers that send long texts in every call come to it: a call takes about 200 bytes."""

MOST_WAITING: Final = 2_048
MOST_PER_SECOND: Final = 1_000
"""Calls chosen; each costs some microseconds of the interpreter that also answers calls."""

_SEGMENTS: Final = 50
_SEGMENT_SECONDS: Final = MOST_SECONDS / 48
_FRAME_CALLS: Final = 64
_FRAME_PAUSE_SECONDS: Final = 0.001
_MAGIC: Final = b"recall1\n"
_NAME_BYTES: Final = 16
_HEAD_BYTES: Final = len(_MAGIC) + _NAME_BYTES
_FRAME: Final = struct.Struct(">IIdd")
"""Bytes sealed, calls in them, when they were written (epoch seconds), share of calls chosen."""

_LONGEST_TEXT: Final = 256
_AHEAD_SECONDS: Final = 60.0
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ID_LENGTH: Final = 26

_BLANK: Final = Call()
_FIELDS: Final = tuple(
    (name, blank)
    for name in dir(_BLANK)
    if name[0] != "_" and name not in ("call_id", "conduct", "decision_id")
    if not callable(blank := getattr(_BLANK, name))
)
"""What is kept of a call, with the value that is not written. No rule looks at `call_id`."""

_NUMBERS: Final = frozenset(name for name, blank in _FIELDS if isinstance(blank, Number))

_Waiting = tuple[Call, Facts | None, ReadPlan, bool]


class _Frame(NamedTuple):
    at: int
    """Where its head begins in the file."""
    size: int
    calls: int
    written: float
    share: float

    @property
    def stands_for(self) -> float:
        """How many calls were decided for those chosen."""
        return self.calls / self.share if self.share > 0 else 0.0


@dataclass(slots=True)
class _Segment:
    path: Path
    first: float
    calls: int = 0
    stands_for: float = 0.0
    size: int = 0


class Recall:
    """The ring of one process: offered every call, written by `keep`."""

    def __init__(
        self,
        folder: Path,
        keyring: Keyring,
        *,
        capacity: int = MOST_CALLS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.failure = ""
        """Why the last write failed, "" when it did not."""
        self.taken = 0
        """Calls chosen to be kept."""
        self.dropped: Counter[str] = Counter()
        """Calls chosen and not kept, by reason: "behind", "unwritable", "disk"."""
        self.share = 1.0
        """The share of calls that is chosen now."""
        self._folder = folder
        self._keyring = keyring
        self._capacity = min(capacity, MOST_CALLS)
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self.below = _threshold(self.share) if capacity else ""
        """Calls whose ids come first are taken; who offers may look for itself."""
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._writing: _Writing | None = None
        self._looked_at = float("-inf")
        self._kept_at = clock()
        self._taken_before = 0

    def offer(self, question: "Question", decision: "Decision") -> None:
        """Hand over a call that was answered. Called for every one, in the loop that answers."""
        if decision.decision_id >= self.below:
            return
        ruleset = decision.ruleset
        if ruleset is None or decision.internal_error:
            return
        self.taken += 1
        if len(self._waiting) >= MOST_WAITING:
            self.dropped["behind"] += 1
            return
        self._waiting.append(
            (
                question.call,
                decision.facts,
                decision.plan or ruleset.plan,
                decision.verdict.ruleset == SAFEGUARD,
            )
        )

    @property
    def calls(self) -> int:
        """Calls kept."""
        return sum(segment.calls for segment in self._segments)

    @property
    def size(self) -> int:
        """Bytes that the ring takes on disk."""
        return sum(segment.size for segment in self._segments)

    def keep(self) -> None:
        """Write what waits, remove what is too old or too much. Blocks; never raises OSError."""
        if not self._capacity:
            return
        with self._lock:
            try:
                self._keep()
                self.failure = ""
            except OSError as error:
                # Dropped, not kept for later: the next calls are as good a sample.
                self.dropped["disk"] += len(self._waiting)
                self._waiting.clear()
                self._close()
                self.failure = f"recent calls are not kept for replays: {error.strerror or error}"

    def close(self) -> None:
        """Write what waits and close the file."""
        self.keep()
        with self._lock:
            self._close()

    def _keep(self) -> None:
        now = self._clock()
        if not 0 <= now - self._looked_at < _SEGMENT_SECONDS:
            self._looked_at = now
            self._close()
            self._segments = [*_segments(self._folder)]
        self._prune(now)
        while self._waiting:
            lines = self._lines()
            if lines:
                try:
                    self._write(lines, now)
                except OSError:
                    self.dropped["disk"] += len(lines)
                    raise
            # The interpreter goes back to the calls between two frames.
            time.sleep(_FRAME_PAUSE_SECONDS)
        self._choose(now)

    def _lines(self) -> list[bytes]:
        lines = []
        for _ in range(min(_FRAME_CALLS, self._segment_calls(), len(self._waiting))):
            try:
                lines.append(encode(*self._waiting.popleft()))
            except (TypeError, ValueError, KeyError, AttributeError):
                self.dropped["unwritable"] += 1
        return lines

    def _segment_calls(self) -> int:
        return max(1, self._capacity // _SEGMENTS)

    def _write(self, lines: list[bytes], now: float) -> None:
        writing = self._writing
        if writing is not None and writing.segment.calls + len(lines) > self._segment_calls():
            self._close()
        while self._segments and self.calls + len(lines) > self._capacity:
            self._remove(self._segments[0])
        if self._writing is None:
            self._writing = _Writing(self._folder, now)
            self._segments.append(self._writing.segment)
        self._writing.append(lines, keyring=self._keyring, now=now, share=self.share)

    def _prune(self, now: float) -> None:
        for segment in tuple(self._segments):
            # A clock that went back leaves files of a time to come: no age can be told of them.
            if not -_AHEAD_SECONDS <= now - segment.first < MOST_SECONDS:
                self._remove(segment)
        while self._segments and (self.calls > self._capacity or self.size > MOST_BYTES):
            self._remove(self._segments[0])

    def _remove(self, segment: _Segment) -> None:
        if self._writing is not None and segment is self._writing.segment:
            self._close()
        segment.path.unlink(missing_ok=True)
        self._segments.remove(segment)

    def _close(self) -> None:
        if self._writing is not None:
            self._writing.close()
            self._writing = None

    def _choose(self, now: float) -> None:
        """Set the share of calls chosen from now on, so that the ring comes to span 24 hours.

        A young ring takes much, that a replay soon has something to say: it is made to last
        twice as long as it has lasted so far.
        """
        chosen, seconds = self.taken - self._taken_before, now - self._kept_at
        self._taken_before, self._kept_at = self.taken, now
        share = 1.0
        stands_for = sum(segment.stands_for for segment in self._segments)
        if stands_for:
            span = now - self._segments[0].first
            share = self._capacity / stands_for * max(0.5, span / MOST_SECONDS)
        if chosen and seconds > 0:
            share = min(share, MOST_PER_SECOND * self.share * seconds / chosen)
        self.share = max(1e-9, min(1.0, share))
        self.below = _threshold(self.share)


class _Writing:
    """The file that is being written."""

    def __init__(self, folder: Path, now: float) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._name = secrets.token_bytes(_NAME_BYTES)
        self._frames = 0
        path = folder / f"{int(now * 1000):013d}-{self._name.hex()[:8]}.calls"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self.segment = _Segment(path, now)
        self._put(_MAGIC + self._name)

    def append(self, lines: list[bytes], *, keyring: Keyring, now: float, share: float) -> None:
        """One frame, or nothing of it."""
        plain = zlib.compress(b"\n".join(lines), 6)
        head = _FRAME.pack(SEAL_BYTES + len(plain), len(lines), now, share)
        self._put(head + keyring.encrypt(plain, _place(self._name, self._frames, head)))
        self._frames += 1
        self.segment.calls += len(lines)
        self.segment.stands_for += len(lines) / share

    def close(self) -> None:
        os.close(self._fd)

    def _put(self, content: bytes) -> None:
        written = 0
        try:
            while written < len(content):
                written += os.write(self._fd, content[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.segment.size)
            raise
        self.segment.size += written


class Recalled:
    """What a ring, or one file of one, holds: the way from sealed bytes to samples.

    `calls` is how many it says it holds; `damaged` counts files and frames that could not be
    read, and is whole once the samples have been read.
    """

    def __init__(
        self, place: Path, keyring: Keyring, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.damaged = 0
        self._keyring = keyring
        self._frames: list[tuple[Path, bytes, int, _Frame]] = []
        now = clock()
        for path in sorted(place.rglob("*.calls")) if place.is_dir() else [place]:
            # Of a folder, a file may go while the ring goes on; a ring that kept no call has none.
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                self._take_in(path, file, now)
        self.calls = sum(frame.calls for *_, frame in self._frames)
        self.since = min((frame.written for *_, frame in self._frames), default=now)

    def _take_in(self, path: Path, file: BinaryIO, now: float) -> None:
        name = _name_of(file)
        if name is None:
            self.damaged += 1
            return
        end = _HEAD_BYTES
        for place, frame in enumerate(_frames(file)):
            end = frame.at + _FRAME.size + frame.size
            if now - frame.written < MOST_SECONDS:
                self._frames.append((path, name, place, frame))
        self.damaged += end != file.seek(0, os.SEEK_END)

    def samples(self, *, most: int | None = None) -> Iterator[Sample]:
        """The calls, oldest first; with `most`, a fair choice of that many."""
        lines = self._lines()
        for line in lines if most is None else heapq.nsmallest(most, lines):
            try:
                yield decode(line)
            except (ValueError, KeyError, TypeError, IndexError):
                self.damaged += 1

    def _lines(self) -> Iterator[bytes]:
        for path, name, place, frame in self._frames:
            try:
                with path.open("rb") as file:
                    file.seek(frame.at)
                    head = file.read(_FRAME.size)
                    sealed = file.read(frame.size)
                plain = self._keyring.decrypt(sealed, _place(name, place, head))
                yield from zlib.decompress(plain).split(b"\n")
            except FileNotFoundError:
                continue  # the ring went on meanwhile
            except (OSError, KeyringError, zlib.error):
                self.damaged += 1


def ring_folder(state: Path, slot: int) -> Path:
    """The ring of one worker: each writes its own, and all are read as one."""
    return state / FOLDER / str(slot) if slot else state / FOLDER


def remove_rings(state: Path, *, beyond: int) -> None:
    """Remove the rings of workers that there are no more: nobody would forget their calls."""
    for ring in (state / FOLDER).glob("[0-9]*"):
        if ring.is_dir() and ring.name.isdigit() and int(ring.name) >= beyond:
            shutil.rmtree(ring, ignore_errors=True)


def _segments(folder: Path) -> Iterator[_Segment]:
    """The files in a folder, oldest first, by their heads alone."""
    for path in sorted(folder.glob("*.calls")):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            about = os.fstat(file.fileno())
            segment = _Segment(path, about.st_mtime, size=about.st_size)
            frames = list(_frames(file)) if _name_of(file) is not None else []
            if frames:
                segment.first = frames[0].written
            segment.calls = sum(frame.calls for frame in frames)
            segment.stands_for = sum(frame.stands_for for frame in frames)
            yield segment


def _name_of(file: BinaryIO) -> bytes | None:
    head = file.read(_HEAD_BYTES)
    good = len(head) == _HEAD_BYTES and head.startswith(_MAGIC)
    return head[len(_MAGIC) :] if good else None


def _frames(file: BinaryIO) -> Iterator[_Frame]:
    """The whole frames from where the file stands, as their heads say."""
    at = file.tell()
    end = os.fstat(file.fileno()).st_size
    while at + _FRAME.size <= end:
        file.seek(at)
        size, calls, written, share = _FRAME.unpack(file.read(_FRAME.size))
        if calls > _FRAME_CALLS or at + _FRAME.size + size > end:
            return
        yield _Frame(at, size, calls, written, share)
        at += _FRAME.size + size


def _place(name: bytes, place: int, head: bytes) -> bytes:
    return b"recall:%b:%d:%b" % (name, place, head)


def _threshold(share: float) -> str:
    """What a share of all decision ids comes before."""
    if share >= 1:
        return "~"
    drawn = int(share * 2**40)
    return "".join(_ALPHABET[drawn >> shift & 31] for shift in range(35, -1, -5))


def encode(call: Call, facts: Facts | None, plan: ReadPlan, safeguarded: bool) -> bytes:
    """One line: the decision id, which lines are chosen by, then the rest as JSON."""
    row: dict[str, Any] = {}
    if safeguarded:
        row["safeguarded"] = True
    else:
        row["call"] = {
            name: value[:_LONGEST_TEXT] if type(value) is str else value
            for name, blank in _FIELDS
            if (value := getattr(call, name)) != blank
        }
        if facts is not None:
            row["facts"] = _facts_row(facts)
            row["read"] = _plan_row(plan)
    return call.decision_id.encode("ascii") + orjson.dumps(row, default=list)


def decode(line: bytes) -> Sample:
    """The sample of a line. Raises ValueError, KeyError, TypeError or IndexError."""
    row = orjson.loads(line[_ID_LENGTH:])
    call = Call()
    call.decision_id = line[:_ID_LENGTH].decode("ascii")
    if row.get("safeguarded"):
        return Sample(call, safeguarded=True)
    kept = row["call"]
    for name, _ in _FIELDS:
        if name in kept:
            value = kept[name]
            setattr(call, name, _number(value) if name in _NUMBERS else value)
    if "read" not in row:
        return Sample(call)
    return Sample(call, _facts(row["facts"]), _plan(tuple(row["read"])))


def _number(row: list[Any]) -> Number:
    value, text, kind, country, series, plausible = row
    return Number(value, text, NumberClass(kind), country, series, plausible)


def _facts_row(facts: Facts) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if facts.listed:
        row["listed"] = facts.listed
    if facts.profile is not NO_PROFILE:
        own = facts.profile
        row["profile"] = [
            own.refused, own.accepted, own.bands, own.days, own.modes, own.zone, own.prefixes,
        ]  # fmt: skip
    if facts.consent is not None:
        held = facts.consent
        row["consent"] = [held.sequence, held.revoked, held.expires, held.categories]
        if held.terms is not None:
            row["terms"] = astuple(held.terms)
    if facts.personal:
        row["personal"] = facts.personal
    if facts.signals != NOTHING:
        row["signals"] = facts.signals
    if facts.entity_calls:
        row["entity_calls"] = facts.entity_calls
    if facts.unknown:
        row["unknown"] = sorted(facts.unknown)
    return row


def _facts(row: dict[str, Any]) -> Facts:
    profile = NO_PROFILE
    if "profile" in row:
        refused, accepted, bands, days, modes, zone, prefixes = row["profile"]
        entries = tuple((digits, action) for digits, action in prefixes)
        profile = Profile(refused, accepted, bands, days, modes, zone, entries)
    return Facts(
        listed=row.get("listed", 0),
        profile=profile,
        consent=_consent(row) if "consent" in row else None,
        personal=row.get("personal", ""),
        signals=tuple(row.get("signals", NOTHING)),
        entity_calls=tuple(row.get("entity_calls", ())),
        unknown=frozenset(row.get("unknown", ())),
    )


def _consent(row: dict[str, Any]) -> Consent:
    sequence, revoked, expires, categories = row["consent"]
    terms = Terms(*row["terms"]) if "terms" in row else None
    return Consent(sequence, revoked, expires, categories, terms)


@lru_cache(maxsize=256)
def _plan_row(plan: ReadPlan) -> list[int]:
    own, consent, personal, profile = plan.own_category, plan.consent, plan.personal, plan.profile
    flags = own | consent << 1 | personal << 2 | profile << 3
    flags |= plan.signals << 4 | plan.frequency << 5
    return [mask(plan.categories), flags]


@lru_cache(maxsize=256)
def _plan(row: tuple[int, int]) -> ReadPlan:
    categories, flags = row
    return ReadPlan(
        categories=frozenset(name for name, bit in BIT.items() if categories >> bit & 1),
        own_category=bool(flags & 1),
        consent=bool(flags & 2),
        personal=bool(flags & 4),
        profile=bool(flags & 8),
        signals=bool(flags & 16),
        frequency=bool(flags & 32),
    )
