"""Change lists: numbers added to a registry and removed from it, each with its date.

    212,5550101,2026-11-22,A        of the FTC's registry: area code, number, date, A or D
    +442079460001,2026-11-22,D      of any other, in the spellings of the list itself

The last date decides where a number comes more than once, and the last line within a date.
"""

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from consent.listing import (
    Form,
    ListingError,
    Readable,
    Reason,
    Rejected,
    Values,
    read_listing,
    whole_lines,
)
from consent.listing.form import Mask, Places
from consent.listing.gather import Gathered, Gathering, sorted_unique

_LINE: Final = re.compile(
    r"""["']?([0-9]{3},[0-9]{7}|\+?[0-9][0-9 ().\-/]*)["']?\s*,\s*
        ["']?([0-9]{4}-?[0-9]{2}-?[0-9]{2})([0-9T:. ]*)(?:Z|\+00:?00)?["']?\s*,\s*
        ["']?([AD])["']?""",
    re.ASCII | re.VERBOSE,
)
"""Number, date, time of day (UTC) if any, and what happened."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Numbers to add and to remove, sorted, none in both; `rejected` counts lines not read."""

    added: Values
    removed: Values
    rejected: int = 0

    def then(self, later: "Changes") -> "Changes":
        """These changes and later ones as one."""
        added = self.added[~_held(later.removed, self.added)[1]]
        removed = self.removed[~_held(later.added, self.removed)[1]]
        return Changes(
            sorted_unique(np.concatenate([added, later.added])),
            sorted_unique(np.concatenate([removed, later.removed])),
            self.rejected + later.rejected,
        )

    def applied(self, before: Gathered, gathering: Gathering) -> "Applied":
        """The numbers of a list after the changes; `gathering` is an empty one to hold them."""
        taken = known = 0
        for part in before.parts():
            _, there = _held(part, self.added)
            places, gone = _held(part, self.removed)
            known += int(there.sum())
            taken += int(gone.sum())
            gathering.add(np.delete(part, places[gone]))
        gathering.add(self.added)
        return Applied(gathering.finish(), len(self.added) - known, taken)


@dataclass(frozen=True, slots=True)
class Applied:
    """A list after changes: how many numbers are new in it, and how many have gone."""

    gathered: Gathered
    added: int
    removed: int


def read_changes(
    source: Readable, form: Form, *, reject: Callable[[Rejected], None] | None = None
) -> Changes:
    """Reads a change list to a list that is read by `form`.

    Raises ListingError for a file that is no change list, and whatever the stream raises.
    """
    tell = reject or (lambda _: None)
    last: dict[str, tuple[str, int, bool]] = {}
    rejected = line = 0
    for part in whole_lines(source):
        for raw in part.decode("utf-8", "replace").removesuffix("\n").split("\n"):
            line += 1
            text = raw.strip()
            found = _LINE.fullmatch(text)
            if found:
                number, day, time, what = found.groups()
                at = re.sub("[^0-9]", "", day + time).ljust(14, "0")
                number = number.replace(",", "").strip()
                last[number] = max(last.get(number, ("", 0, False)), (at, line, what == "A"))
            elif text and text[0] != "#" and (line > 1 or any(map(str.isdigit, text))):
                rejected += 1
                tell(Rejected(line, Reason.FORM, text))
    if not last:
        raise ListingError(
            f"of {line} lines none is a change: expected a number, a date and A or D on each"
        )
    read = []
    for wanted in (True, False):
        some = [(number, at) for number, (_, at, adds) in last.items() if adds is wanted]
        numbers, refused = _numbers(some, form, tell)
        rejected += refused
        read.append(numbers)
    added, removed = read
    if both := int(_held(added, removed)[1].sum()):
        raise ListingError(f"{both} numbers are added in one spelling and removed in another")
    return Changes(added, removed, rejected)


def _numbers(
    spelled: Iterable[tuple[str, int]], form: Form, tell: Callable[[Rejected], None]
) -> tuple[Values, int]:
    """The values of numbers as spelled on their lines, and how many are none."""
    texts = [text for text, _ in spelled]
    lines = [line for _, line in spelled]
    listing = read_listing(
        io.BytesIO("\n".join(texts).encode()),
        Form("numbers", region=form.region, called=form.called),
        reject=lambda each: tell(each._replace(line=lines[each.line - 1])),
    )
    return listing.numbers, listing.rejected


def _held(part: Values, few: Values) -> tuple[Places, Mask]:
    """Where a few numbers would stand in a part, and which of them do."""
    places = np.searchsorted(part, few)
    held = np.zeros(len(few), np.bool_)
    within = places < len(part)
    held[within] = part[places[within]] == few[within]
    return places, held
