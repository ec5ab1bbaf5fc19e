"""List files to numbers: sorted and unique, with a count of all that was not loaded and why.

    with open_source(path) as source:
        listing = read_listing(source, Form("numbers", region="DE"))

Nothing is loaded that was not understood; nothing is lost without being counted.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np

from consent.listing.bulk import LENGTHS, Bulk
from consent.listing.entry import Reason, accept_called, accept_calling, read_entry
from consent.listing.form import (
    FORMATS,
    HOME,
    LINES,
    NEWLINE,
    PLUS,
    RETURN,
    Bytes,
    Form,
    Lines,
    Mask,
    Places,
    cells,
    find_column,
)
from consent.listing.gather import Gathered, Gathering, Values
from consent.listing.source import Bounds, ListingError, Source, open_source
from consent.number import Number

__all__ = [
    "FORMATS",
    "HOME",
    "Bounds",
    "Form",
    "Listing",
    "ListingError",
    "Readable",
    "Reason",
    "Rejected",
    "Source",
    "Values",
    "open_source",
    "read_listing",
    "whole_lines",
]

PART_BYTES: Final = 8 << 20
"""Read at once; the arrays that a part becomes take about ten times as much."""

LONGEST_LINE: Final = 1 << 20
ROWS: Final = 100_000
BOM: Final = b"\xef\xbb\xbf"
UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
DELIMITERS: Final = ",;\t|"


class Readable(Protocol):
    """A stream of bytes: b"" is its end."""

    def read(self, size: int, /) -> bytes: ...


class Rejected(NamedTuple):
    """A line that was not loaded; lines count from 1."""

    line: int
    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a file names.

    `gathered` are its numbers; `ranges` has a row of both ends for each range, and prefixes are
    ranges, one for each length. `lines` = `loaded` + `duplicates` + `rejected` + `skipped`,
    where skipped are blank lines, comments, a header and rows without a number. `column` is the
    position of a CSV column from 1, else 0.
    """

    gathered: Gathered
    ranges: Values
    lines: int
    loaded: int
    duplicates: int
    rejected: int
    skipped: int
    header: str = ""
    column: int = 0

    @property
    def numbers(self) -> Values:
        """All numbers in one array, rising strictly: 8 bytes each."""
        return self.gathered.whole()

    def checksum(self) -> str:
        """The SHA-256 of numbers and ranges, in hexadecimal."""
        digest = self.gathered.sha256.copy()
        digest.update(np.ascontiguousarray(self.ranges, "<u8").data)
        return digest.hexdigest()


def read_listing(
    source: Readable,
    form: Form,
    *,
    spill: Path | None = None,
    reject: Callable[[Rejected], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Listing:
    """Reads a list to its end.

    `spill` is a folder on a disk for what memory should not hold: 8 bytes a number beyond the
    first `gather.HELD`, gone with the listing or the process. None: there is memory for all.

    `reject` is told each line that is not loaded, in no particular order within a part of the
    file; `progress` is told the bytes read so far, after each part. Raises ListingError for a
    file that is no list of this form, OSError where the disk is full, and whatever the stream
    raises.
    """
    reader = _Reader(form, reject or (lambda _: None), spill)
    parts = whole_lines(source, progress)
    if form.format == "csv":
        reader.read_rows(parts)
    else:
        for part in parts:
            reader.read_lines(part, LINES[form.format])
    return reader.listing()


def whole_lines(source: Readable, progress: Callable[[int], None] | None = None) -> Iterator[bytes]:
    """A file in parts of whole lines, each of which ends with a newline.

    Raises ListingError for UTF-16 and for lines that no list has, and what the stream raises.
    """
    held, read = b"", 0
    while chunk := source.read(PART_BYTES):
        first, read = not read, read + len(chunk)
        if first:
            if chunk.startswith(UTF_16):
                raise ListingError("the file is UTF-16 text, expected UTF-8 or plain digits")
            chunk = chunk.removeprefix(BOM)
        whole, newline, rest = chunk.rpartition(b"\n")
        if newline:
            yield held + whole + newline
            held = rest
        else:
            held += rest
        if len(held) > LONGEST_LINE:
            raise ListingError(f"the file has a line of more than {LONGEST_LINE} bytes: no list")
        if progress:
            progress(read)
    if held:
        yield held + b"\n"


class _Texts:
    """The parts of a file below its header, whole or as an iterator of lines of text."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._lines: Iterator[str] = iter(())
        self._left = 0
        self.line = 2
        """The number of the line that comes next."""

    @property
    def ended(self) -> bool:
        """Whether no line is left of the part that was begun."""
        return not self._left

    def part(self) -> bytes:
        """The next part, b"" at the end; its lines come next."""
        self.line += self._left
        self._left = 0
        part = next(filter(None, self._parts), b"")
        self._left = part.count(b"\n")
        self._lines = (
            line + "\n" for line in part.decode("utf-8", "replace").removesuffix("\n").split("\n")
        )
        return part

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._left and not self.part():
            raise StopIteration
        self._left -= 1
        self.line += 1
        return next(self._lines)


class _Reader:
    """Gathers what the lines of one file name."""

    def __init__(self, form: Form, reject: Callable[[Rejected], None], spill: Path | None) -> None:
        self._form = form
        self._reject = reject
        self._bulk = Bulk(form.region, accept=self._accept)
        self._gathering = Gathering(spill)
        self._spans: set[tuple[tuple[int, int], ...]] = set()
        self._accepted = self._rejected = self._skipped = self._lines = 0
        self._header, self._column = "", 0
        self._started = False

    def _accept(self, number: Number) -> int | Reason:
        if self._form.called:
            return accept_called(number)
        return accept_calling(number, region=self._form.region)

    def listing(self) -> Listing:
        gathered = self._gathering.finish()
        spans = sorted({span for entry in self._spans for span in entry})
        loaded = gathered.count + len(self._spans)
        return Listing(
            gathered=gathered,
            ranges=np.array(spans, np.uint64).reshape(-1, 2),
            lines=self._lines,
            loaded=loaded,
            duplicates=self._accepted - loaded,
            rejected=self._rejected,
            skipped=self._skipped,
            header=self._header,
            column=self._column,
        )

    def read_lines(self, part: bytes, lines: Lines) -> None:
        """Takes in a part of whole lines."""
        content = np.frombuffer(part, np.uint8).copy()
        newlines = np.flatnonzero(content == NEWLINE)
        starts = np.concatenate(([0], newlines[:-1] + 1))
        ends = newlines - ((newlines > starts) & (content[newlines - 1] == RETURN))
        numbered = self._lines + 1
        self._lines += len(starts)
        begins, stops, regular = lines.bounds(content, starts, ends)
        settled = self._take(content, begins, stops, regular)
        singly: list[int] = []
        first = int(settled.argmax()) if settled.any() else len(settled)
        for at in np.flatnonzero(~settled).tolist():
            text = part[starts[at] : ends[at]].decode("utf-8", "replace").strip()
            if not text or text[0] == "#":
                self._skipped += 1
                continue
            if not self._started and at < first and not any(map(str.isdigit, text)):
                self._started, self._header = True, text.strip("\"'")
                self._skipped += 1
                continue
            self._started = True
            self._one(numbered + at, lines.field(text), text=text, singly=singly)
        self._started = self._started or bool(settled.any())
        self._gather(singly)

    def read_rows(self, parts: Iterator[bytes]) -> None:
        """Takes in comma-separated rows below a header."""
        first, _, rest = next(parts, b"").partition(b"\n")
        names = first.decode("utf-8", "replace")
        delimiter = max(DELIMITERS, key=names.count)
        header = next(csv.reader([names], delimiter=delimiter), [])
        self._header = names.strip()
        column = find_column(header, column=self._form.column, called=self._form.called)
        self._lines, self._skipped, self._column = 1, 1, column + 1
        texts = _Texts(chain([rest], parts))
        while part := texts.part():
            if not self._take_plain_rows(part, texts.line, delimiter=delimiter, column=column):
                self._take_odd_rows(texts, delimiter=delimiter, column=column)

    def _take_plain_rows(self, part: bytes, line: int, *, delimiter: str, column: int) -> bool:
        """Takes in rows of a line each, the first on `line`; False where some are not."""
        content = np.frombuffer(part, np.uint8)
        newlines = np.flatnonzero(content == NEWLINE)
        starts = np.concatenate(([0], newlines[:-1] + 1))
        ends = newlines - ((newlines > starts) & (content[newlines - 1] == RETURN))
        found = cells(content, starts, ends, delimiter=delimiter, column=column)
        if found is None:
            return False
        begins, stops, has = found
        settled = self._take(content, begins, stops, has)
        empty = (has & (begins == stops)) | (starts == ends)
        self._skipped += int(empty.sum())
        self._lines += int((settled | empty).sum())
        rest = np.flatnonzero(~(settled | empty)).tolist()
        texts = (part[starts[at] : ends[at]].decode("utf-8", "replace") for at in rest)
        rows = csv.reader(texts, delimiter=delimiter)
        for first in range(0, len(rest), ROWS):
            some = rest[first : first + ROWS]
            self._take_rows([(next(rows), line + at) for at in some], column)
        return True

    def _take_odd_rows(self, texts: "_Texts", *, delimiter: str, column: int) -> None:
        """Takes in rows of any form to the end of a part, or of a later one if a row reaches it."""
        before, ended = texts.line, False
        rows = csv.reader(texts, delimiter=delimiter)
        try:
            while not ended:
                batch = []
                for row in rows:
                    batch.append((row, before + rows.line_num - 1))
                    ended = texts.ended
                    if ended or len(batch) == ROWS:
                        break
                else:
                    ended = True
                self._take_rows(batch, column)
        except csv.Error as error:
            raise ListingError(f"line {before + rows.line_num - 1}: {error}") from error

    def _take_rows(self, batch: list[tuple[list[str], int]], column: int) -> None:
        self._lines += len(batch)
        singly: list[int] = []
        fields, places = [], []
        for row, line in batch:
            if len(row) > column:
                field = row[column].strip().strip("\"'").strip()
                if field:
                    fields.append(field.replace("\n", " "))
                    places.append(line)
                else:
                    self._skipped += 1
            elif any(row):
                self._one(line, Reason.COLUMN, text=str(row), singly=singly)
            else:
                self._skipped += 1
        content = np.frombuffer("\n".join([*fields, ""]).encode("utf-8", "replace"), np.uint8)
        stops = np.flatnonzero(content == NEWLINE)
        begins = np.concatenate(([0], stops[:-1] + 1)) if len(stops) else stops
        settled = self._take(content, begins, stops, np.ones(len(begins), np.bool_))
        for at in np.flatnonzero(~settled).tolist():
            self._one(places[at], fields[at], text=fields[at], singly=singly)
        self._gather(singly)

    def _one(self, line: int, field: str | Reason, *, text: str, singly: list[int]) -> None:
        """Takes in one entry the long way."""
        entry: int | tuple[tuple[int, int], ...] | Reason
        if isinstance(field, Reason):
            entry = field
        else:
            entry = read_entry(field, region=self._form.region, called=self._form.called)
        if isinstance(entry, Reason):
            self._rejected += 1
            self._reject(Rejected(line, entry, text))
            return
        self._accepted += 1
        if isinstance(entry, int):
            singly.append(entry)
        else:
            self._spans.add(entry)

    def _take(self, content: Bytes, begins: Places, stops: Places, regular: Mask) -> Mask:
        """Takes in the fields that are plain digits, and tells which those were."""
        settled = np.zeros(len(begins), np.bool_)
        plus = np.zeros(len(begins), np.bool_)
        filled = np.flatnonzero(regular & (stops > begins))
        plus[filled] = content[begins[filled]] == PLUS
        lengths = np.where(regular, stops - begins - plus, 0)
        for length in LENGTHS:
            of_length = lengths == length
            for signed in (False, True):
                which = np.flatnonzero(of_length & (plus == signed))
                if not len(which):
                    continue
                at = begins[which] + signed
                digits = np.zeros(len(which), np.uint64)
                plain = np.ones(len(which), np.bool_)
                for place in range(length):
                    digit = content[at + place] - np.uint8(ord("0"))
                    plain &= digit <= 9
                    digits = digits * np.uint64(10) + digit
                which, digits = which[plain], digits[plain]
                values, known = self._bulk.values(digits, length=length, plus=signed)
                settled[which[known]] = True
                self._accepted += int(known.sum())
                self._gathering.add(values[known])
        return settled

    def _gather(self, values: list[int]) -> None:
        if values:
            self._gathering.add(np.array(values, np.uint64))
