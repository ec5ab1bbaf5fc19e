"""The forms that list files come in: where on a line, or in a row, the number stands.

Each form reads a line both ways: `field` takes one as text, `bounds` all lines of a part at once
as arrays of where their fields begin and end. The second may give up on a line, never differ.
"""

import csv
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from consent.listing.entry import Reason
from consent.listing.source import ListingError

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

QUOTE, PLUS, COMMA, NEWLINE, RETURN = (ord(mark) for mark in '"+,\n\r')

CALLED_NAMES: Final = ("called", "callednumber")
CALLING_NAMES: Final = ("calling", "callingnumber", "companyphonenumber", "cli", "callerid")
NAMES: Final = (
    *("number", "phone", "phonenumber", "telephone", "telephonenumber", "tel"),
    *("msisdn", "e164", "phoneno", "mobile"),
)
"""Column names in lower case and without separators; `Company_Phone_Number` is the FTC's."""


@dataclass(frozen=True, slots=True)
class Form:
    """How to read a list: its format, whose numbers it names, and of which country they are.

    `region` (ISO 3166-1 alpha-2, or "") is where national digits count; `called` is true for
    do-not-call lists; `column` is the name or the position from 1 of a CSV column, or "" to
    find it.
    """

    format: str
    region: str = ""
    called: bool = False
    column: str = ""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ListingError(f"format {self.format!r}: expected one of {', '.join(FORMATS)}")
        home = HOME.get(self.format, self.region)
        if self.region not in {home, ""}:
            raise ListingError(f"format {self.format} is of region {home}, not {self.region!r}")
        object.__setattr__(self, "region", home)
        if self.column and self.format != "csv":
            raise ListingError(f"format {self.format} has no columns, given {self.column!r}")


class NumberLines:
    """A number a line, quoted or not; text after " #" is a comment."""

    _COMMENT: Final = re.compile(r"\s#")

    def field(self, line: str) -> str | Reason:
        return self._COMMENT.split(line, maxsplit=1)[0].strip().strip("\"'").strip()

    def bounds(self, part: Bytes, starts: Places, ends: Places) -> tuple[Places, Places, Mask]:
        quoted = (ends - starts >= 2) & (part[starts] == QUOTE) & (part[ends - 1] == QUOTE)
        return starts + quoted, ends - quoted, np.ones(len(starts), np.bool_)


class FtcLines:
    """`AAA,NNNNNNN` or ten digits a line: the full list of the FTC's registry."""

    _LINE: Final = re.compile(r"([0-9]{3}),?([0-9]{7})", re.ASCII)
    _CHANGE: Final = re.compile(r"[0-9]{3},?[0-9]{7},.*", re.ASCII)

    def field(self, line: str) -> str | Reason:
        found = self._LINE.fullmatch(line)
        if found:
            return found[1] + found[2]
        if self._CHANGE.fullmatch(line):
            raise ListingError(
                "the file is a change list (additions and deletions with dates), expected a full "
                "list: a line of a full list has an area code and a number only; `screening "
                "lists delta` takes change lists"
            )
        return Reason.FORM

    def bounds(self, part: Bytes, starts: Places, ends: Places) -> tuple[Places, Places, Mask]:
        lengths = ends - starts
        comma = np.flatnonzero(lengths == 11)
        comma = comma[part[starts[comma] + 3] == COMMA]
        # The area code moves over the comma, so that ten digits stand together.
        moved = starts.copy()
        for place in (3, 2, 1):
            part[starts[comma] + place] = part[starts[comma] + place - 1]
        moved[comma] += 1
        return moved, ends, ends - moved == 10


class OfcaLines:
    """`number` or `number,date` a line: the registers of Hong Kong."""

    _LINE: Final = re.compile(r"([^,]*)(?:,[0-9 /:.-]*)?", re.ASCII)
    _DATE: Final = np.isin(np.arange(256), np.frombuffer(b"0123456789 /:.-", np.uint8))

    def field(self, line: str) -> str | Reason:
        found = self._LINE.fullmatch(line)
        return found[1].strip() if found else Reason.FORM

    def bounds(self, part: Bytes, starts: Places, ends: Places) -> tuple[Places, Places, Mask]:
        commas = np.append(np.flatnonzero(part == COMMA), len(part))
        comma = np.minimum(commas[np.searchsorted(commas, starts)], ends)
        strange = np.concatenate(([0], np.cumsum(~self._DATE[part])))
        dated = strange[ends] == strange[np.minimum(comma + 1, ends)]
        return starts, comma, dated


Lines = NumberLines | FtcLines | OfcaLines

LINES: Final[dict[str, Lines]] = {
    "numbers": NumberLines(),
    "ftc": FtcLines(),
    "ofca": OfcaLines(),
}
FORMATS: Final = (*LINES, "csv")
HOME: Final = {"ftc": "US", "ofca": "HK"}
"""Formats whose digits are of one country."""


def find_column(header: list[str], *, column: str, called: bool) -> int:
    """The index of the column that holds the number. Raises ListingError."""
    names = [re.sub(r"[\W_]", "", name).lower() for name in header]
    wanted = re.sub(r"[\W_]", "", column).lower()
    if column:
        found = [at for at, name in enumerate(names) if name == wanted]
        if not found and column.isdecimal() and 1 <= int(column) <= len(header):
            found = [int(column) - 1]
    else:
        own = CALLED_NAMES if called else CALLING_NAMES
        found = [at for at, name in enumerate(names) if name in own]
        found = found or [at for at, name in enumerate(names) if name in NAMES]
    if len(found) == 1:
        return found[0]
    if any(not re.search("[a-z]", name) for name in names):
        raise ListingError("the file begins without a header row of column names")
    there = ", ".join(name.strip()[:40] for name in header[:20])
    problem = f"no column {column!r}" if column else "no one column of numbers"
    raise ListingError(f"the header has {problem} among {there}: name the one to read")


def cells(
    part: Bytes, starts: Places, ends: Places, *, delimiter: str, column: int
) -> tuple[Places, Places, Mask] | None:
    """Where in each of a part's lines the cell of a column is, and which lines have one.

    None where the rows need the `csv` module to be told apart: quotes that are not around whole
    cells, or are doubled, or hold a line break; carriage returns alone; lines of great length.
    """
    returns = np.flatnonzero(part == RETURN)
    if (part[returns + 1] != NEWLINE).any() or (ends - starts > csv.field_size_limit()).any():
        return None
    places = np.flatnonzero(part == ord(delimiter))
    quotes = np.flatnonzero(part == QUOTE)
    if len(quotes):
        if len(quotes) % 2:
            return None
        opening, closing = quotes[::2], quotes[1::2]
        before = np.concatenate(([NEWLINE], part))[opening]
        after = part[closing + 1]
        beside = np.frombuffer(f"{delimiter}\n\r".encode(), np.uint8)
        row = np.searchsorted(starts, quotes, side="right")
        if (row[::2] != row[1::2]).any() or not (
            np.isin(before, beside[:2]).all() and np.isin(after, beside).all()
        ):
            return None
        opened = np.searchsorted(opening, places) - np.searchsorted(closing, places)
        places = places[opened == 0]
    # One more on each side, for rows that have none.
    fence = np.concatenate(([-1], places, [len(part)]))
    first = np.searchsorted(fence, starts)
    has = np.searchsorted(fence, ends) - first >= column
    at = np.where(has, first + column, 0)
    begins = np.where(has, fence[at - 1] + 1, starts) if column else starts
    stops = np.where(has, np.minimum(fence[at], ends), starts)
    quoted = (stops - begins >= 2) & (part[begins] == QUOTE)
    return begins + quoted, stops - quoted, has
