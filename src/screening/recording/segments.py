"""The decision log on disk: append-only segments of JSON lines, one chain through all of them.

    <first record>.jsonl       the segment that is written, and those not yet compressed
    <first record>.jsonl.zst   closed segments
    checkpoints.jsonl          signed heads of the chain (`consent.record.chain.Checkpoint`)

Every line is a record: `n` its place in the log, `kind`, and last `hash`, which covers the line
before it and the hash of the record before: the first 128 bits of SHA-256, in hexadecimal. A
segment begins with a record of kind `segment`: the log's name, the first record still kept when
it was opened, how many calls were lost since the one before, and why.

Invariants:
- one process writes (a lock sees to it), and what was written is never changed; a line that a
  crash left half written is cut at the next start, which begins a segment of its own;
- whole segments are removed, the oldest first, when they are too old or all take too much disk;
  the next segment says from where on the log is kept, so that a missing one is told from these;
- an append that the disk refuses leaves the log as it was, and the next record that is written
  says how many are missing.
"""

import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Self

import orjson
import zstandard

from consent.durable import sync_folder, written_whole
from consent.record.chain import Checkpoint, Flaw, first_broken
from consent.signing import SigningKey

FOLDER: Final = "decisions"
OPEN: Final = ".jsonl"
CLOSED: Final = ".jsonl.zst"
CHECKPOINTS: Final = "checkpoints.jsonl"
HASH_BYTES: Final = 16
_TAIL: Final = b',"hash":"'
_END: Final = b'"}\n'
_TAIL_BYTES: Final = len(_TAIL) + 2 * HASH_BYTES + len(_END)
_LEVEL: Final = 1
"""Of zstd: on these lines higher ones cost 2 to 8 times as much and save nothing (measured)."""
_LOCK: Final = ".lock"


class LogError(Exception):
    """The log cannot be written or read; the message says what is wrong with which file."""


def genesis(name: str) -> bytes:
    """The hash before the first record of the log with this name."""
    return hashlib.sha256(b"call-screening decisions 1\0" + name.encode()).digest()[:HASH_BYTES]


def link_hash(before: bytes, line: bytes) -> bytes:
    """The hash of a record that follows the one with the hash `before`: see the module."""
    return hashlib.sha256(before + line).digest()[:HASH_BYTES]


class Line(NamedTuple):
    """A record as it stands on disk, without its hash; `sequence` is 0 where it is no record."""

    sequence: int
    body: bytes
    hash: bytes

    def after(self, before: bytes, sequence: int) -> bytes:
        """See `consent.record.chain.Link`: the place is part of the body."""
        return link_hash(before, self.body) if sequence == self.sequence else b""

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """The record of a line with its end; what is none has sequence 0."""
        body, tail = line[:-_TAIL_BYTES], line[-_TAIL_BYTES:]
        with suppress(ValueError):
            if tail.startswith(_TAIL) and tail.endswith(_END) and body.startswith(b'{"n":'):
                stored = bytes.fromhex(tail[len(_TAIL) : -len(_END)].decode("ascii"))
                return cls(int(body[5 : body.index(b",")]), body, stored)
        return cls(0, line, b"")

    def document(self) -> dict[str, Any]:
        """The record. Raises LogError for a line that is none."""
        try:
            return dict(orjson.loads(self.body + b"}"))
        except ValueError:
            raise LogError(f"after record {self.sequence} stands what is no record") from None


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment by its file; `first` is the number of its first record."""

    first: int
    path: Path
    size: int
    modified: float

    @property
    def closed(self) -> bool:
        return self.path.name.endswith(CLOSED)

    def lines(self, *, tail: int | None = None) -> Iterator[bytes]:
        """Its lines; of an open one, with `tail`, those of the last so many bytes."""
        with self.path.open("rb") as file:
            if tail is not None and not self.closed and self.size > tail:
                file.seek(self.size - tail)
                file.readline()
            if not self.closed:
                yield from file
                return
            with zstandard.ZstdDecompressor().stream_reader(file) as plain:
                yield from _cut(plain)


def _cut(plain: Any) -> Iterator[bytes]:
    rest = b""
    while block := plain.read(1 << 20):
        whole, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            yield from (whole + newline).splitlines(keepends=True)
    if rest:
        yield rest


def segments(folder: Path) -> list[Segment]:
    """The segments of a log, oldest first; one that is there in both forms counts once."""
    found: dict[int, Segment] = {}
    for path in folder.glob("*.jsonl*") if folder.is_dir() else ():
        digits = path.name.partition(".")[0]
        if not digits.isdecimal() or not path.name.endswith((OPEN, CLOSED)):
            continue
        with suppress(FileNotFoundError):
            about = path.stat()
            each = Segment(int(digits), path, about.st_size, about.st_mtime)
            if each.first not in found or each.closed:
                found[each.first] = each
    return [found[first] for first in sorted(found)]


def checkpoints(folder: Path) -> list[Checkpoint]:
    """The heads that were signed. Raises LogError for a line that is none."""
    try:
        text = (folder / CHECKPOINTS).read_bytes()
        return [Checkpoint.parse(line) for line in text.splitlines()]
    except FileNotFoundError:
        return []
    except ValueError as broken:
        raise LogError(f"{folder / CHECKPOINTS}: {broken}") from None


@dataclass(frozen=True, slots=True)
class Limits:
    """How the log is cut into segments, and how much of it is kept."""

    segment_bytes: int = 64 << 20
    segment_seconds: float = 3600.0
    most_bytes: int = 10 << 30
    most_seconds: float = 180 * 86_400.0


class Log:
    """The log of a folder, to be written. Raises LogError where another process writes it."""

    def __init__(
        self,
        folder: Path,
        *,
        limits: Limits = Limits(),
        key: SigningKey | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.lost: dict[str, int] = {}
        """Calls that are not in the log and not yet named in it, by reason."""
        self.last = 0
        self.head = b""
        self._folder = folder
        self._limits = limits
        self._key = key
        self._clock = clock
        self._file: IO[bytes] | None = None
        self._size = 0
        self._opened = 0.0
        self._unsynced = False
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise LogError(f"{folder} is written by another process") from None
        self.name, self._cut = self._resume()

    def _resume(self) -> tuple[str, int]:
        """Where the log ends, its name, and how many bytes of a record half written were cut."""
        there = segments(self._folder)
        if not there:
            name = secrets.token_hex(HASH_BYTES)
            self.head = genesis(name)
            return name, 0
        name, cut = "", 0
        for segment in reversed(there):
            cut += _cut_torn(segment)
            first, last = _ends(segment)
            if last is not None and first is not None:
                self.last, self.head = last.sequence, last.hash
                name = str(first.document().get("log", ""))
                break
            segment.path.unlink()  # nothing of it was ever whole
        if not name:
            raise LogError(f"{self._folder} holds no segment that begins as one")
        return name, cut

    def segments(self) -> list[Segment]:
        """What it is made of, oldest first."""
        return segments(self._folder)

    def append(self, records: Sequence[bytes]) -> None:
        """Write records: JSON objects without `n` and `hash`. Raises OSError, with none written.

        Of a part that was written the rest is as well: a batch is whole or absent.
        """
        file = self._file
        if file is None or self._due():
            file = self._begin()
        number, head = self.last, self.head
        lines = []
        for record in (*self._gap(), *records):
            number += 1
            line = b'{"n":%d,%b' % (number, record[1:-1])
            head = link_hash(head, line)
            lines.append(b"%b%b%b%b" % (line, _TAIL, head.hex().encode(), _END))
        self._write(file, b"".join(lines))
        self.last, self.head = number, head
        self.lost.clear()

    def _gap(self) -> list[bytes]:
        if not self.lost:
            return []
        at, lost = round(self._clock(), 3), dict(sorted(self.lost.items()))
        return [orjson.dumps({"kind": "gap", "instant": at, "lost": lost})]

    def sync(self) -> None:
        """Bring what was written to disk."""
        if self._file is not None and self._unsynced:
            os.fsync(self._file.fileno())
            self._unsynced = False

    def close(self) -> None:
        """End the segment and let others write."""
        self._end()
        os.close(self._lock)

    # Segments

    def _due(self) -> bool:
        age = self._clock() - self._opened
        # A clock that went back must not keep a segment open for ever.
        return self._size >= self._limits.segment_bytes or not (
            0 <= age < self._limits.segment_seconds
        )

    def _begin(self) -> IO[bytes]:
        """End the segment, remove what is too old or too much, begin the next one."""
        self._end()
        self.retain()
        now = self._clock()
        there = segments(self._folder)
        path = self._folder / f"{self.last + 1:014d}{OPEN}"
        head = {
            "kind": "segment",
            "instant": round(now, 3),
            "log": self.name,
            "format": 1,
            "before": self.head.hex(),
            "kept_from": there[0].first if there else self.last + 1,
            "cut_bytes": self._cut,
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        file = open(os.open(path, flags, 0o600), "wb", buffering=0)  # noqa: SIM115, PTH123
        self._size, self._opened, self._cut = 0, now, 0
        line = b'{"n":%d,%b' % (self.last + 1, orjson.dumps(head)[1:-1])
        hashed = link_hash(self.head, line)
        try:
            self._write(file, b"%b%b%b%b" % (line, _TAIL, hashed.hex().encode(), _END))
        except OSError:
            file.close()
            path.unlink(missing_ok=True)
            raise
        self._file = file
        self.last, self.head = self.last + 1, hashed
        sync_folder(self._folder)
        return file

    def _end(self) -> None:
        if self._file is None:
            return
        self.sync()
        self._file.close()
        self._file = None
        self.checkpoint()

    def checkpoint(self) -> None:
        """Sign the head of the chain, where there is a key to sign with."""
        if self._key is None or not self.last:
            return
        mark = Checkpoint.sign(self.name, self.last, self.head, self._clock(), self._key)
        with (self._folder / CHECKPOINTS).open("a") as file:
            file.write(mark.line() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _write(self, file: IO[bytes], content: bytes) -> None:
        """All of it or nothing. Raises OSError."""
        fd, written = file.fileno(), 0
        try:
            while written < len(content):
                written += os.write(fd, memoryview(content)[written:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, self._size)
            raise
        self._size += written
        self._unsynced = True

    def retain(self) -> int:
        """Remove the oldest closed segments that are too old or too much, and count them."""
        there, removed = segments(self._folder), 0
        size = sum(segment.size for segment in there) + self._limits.segment_bytes
        now = self._clock()
        for segment in there:
            old = now - segment.modified > self._limits.most_seconds
            if not old and size <= self._limits.most_bytes:
                break
            segment.path.unlink(missing_ok=True)
            segment.path.with_name(segment.path.name.partition(".")[0] + OPEN).unlink(
                missing_ok=True
            )
            size -= segment.size
            removed += 1
        return removed

    def uncompressed(self, there: Iterable[Segment]) -> list[Segment]:
        """Those of its segments that are ended and wait to be compressed."""
        still_open = [each for each in there if not each.closed]
        return still_open[:-1] if self._file is not None else still_open


def compress(segment: Segment) -> None:
    """Write the closed form of a segment and remove the open one. Raises OSError."""
    closed = segment.path.with_name(segment.path.name.removesuffix(OPEN) + CLOSED)
    packer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with segment.path.open("rb") as plain, written_whole(closed) as file:
        packer.copy_stream(plain, file, size=segment.size)
    os.utime(closed, (segment.modified, segment.modified))
    segment.path.unlink()


def _cut_torn(segment: Segment) -> int:
    """Cut what a crash left of records at the end, half written or never; how many bytes."""
    if segment.closed:
        return 0
    good = 0
    with segment.path.open("r+b") as file:
        at = 0
        for line in file:
            at += len(line)
            if Line.parse(line).sequence:
                good = at
        if good < segment.size:
            file.truncate(good)
            file.flush()
            os.fsync(file.fileno())
    return segment.size - good


def _ends(segment: Segment) -> tuple[Line | None, Line | None]:
    """The first and the last record of a segment, None where it has none."""
    first = last = None
    for line in segment.lines():
        first = first or line
        last = line
    parsed = [Line.parse(line) if line else None for line in (first, last)]
    if parsed[0] is None or not parsed[0].sequence:
        return None, None
    return parsed[0], parsed[1]


# What is read


def lines_of(there: Iterable[Segment]) -> Iterator[Line]:
    """Every record of some segments, in order; one that is removed meanwhile is left out."""
    for segment in there:
        with suppress(FileNotFoundError):
            yield from map(Line.parse, segment.lines())


def first_flaw(
    folder: Path,
    marks: Iterable[Checkpoint],
    *,
    progress: Callable[[Line], None] | None = None,
) -> Flaw | None:
    """The first record that was altered, taken out or moved, None where every link holds.

    `marks` are the checkpoints to hold it against, of signatures that hold. Raises LogError for a
    log that does not begin as one, OSError for one that cannot be read.
    """
    there = segments(folder)
    if not there:
        seen = list(marks)
        return Flaw(1, "missing: no segment is there") if seen else None
    opening = next(iter(there[0].lines()), b"")
    head = Line.parse(opening)
    if not head.sequence:
        raise LogError(f"{there[0].path} does not begin with a record")
    about = head.document()
    kept = _Kept(progress)
    flaw = first_broken(
        str(about.get("log")),
        kept.follow(lines_of(there)),
        marks,
        before=bytes.fromhex(str(about.get("before"))),
        last=head.sequence - 1,
    )
    if flaw is None and head.sequence == 1 and about.get("before") != genesis(about["log"]).hex():
        return Flaw(1, "altered: it does not begin the log")
    if flaw is None and head.sequence > kept.since:
        return Flaw(kept.since, f"missing, the first one there is {head.sequence}")
    return flaw


class _Kept:
    """Looks for what the segments say of where the log begins, while its lines go by."""

    def __init__(self, progress: Callable[[Line], None] | None) -> None:
        self.since = 1
        self._progress = progress

    def follow(self, lines: Iterable[Line]) -> Iterator[Line]:
        for line in lines:
            if b',"kind":"segment",' in line.body[:64]:
                self.since = int(line.document()["kept_from"])
            if self._progress is not None:
                self._progress(line)
            yield line
