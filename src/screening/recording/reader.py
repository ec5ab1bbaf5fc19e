"""What the decision log says: by decision id, by number for who holds the keys, in order."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from consent.keyring import Keyring
from screening.recording.decision import COLUMNS
from screening.recording.segments import FOLDER, Segment, lines_of, segments

Decision = dict[str, Any]
"""A record of kind `call`: the fields of `screening.recording.decision.COLUMNS`."""

DECISION_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_BLANK: Final = {"VARCHAR": "", "BIGINT": 0, "INTEGER": 0, "DOUBLE": 0.0, "BOOLEAN": False}
_EMPTY: Final = {
    **{each.name: _BLANK.get(each.type, [] if "[]" in each.type else None) for each in COLUMNS},
    "attempt": 1,
    "facts_us": None,
}
"""What a record leaves out."""

_CALL: Final = b'"kind":"call"'
_HELD_BACK_SECONDS: Final = 300.0
"""A call is written seconds after its instant at most; a clock may have been put right."""


class DecisionLog:
    """The log of a state folder, read while it is written. Raises OSError and LogError."""

    def __init__(self, state_folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.folder: Final = state_folder / FOLDER
        self._clock = clock

    def find(self, decision_id: str, *, days: float | None = None) -> list[Decision]:
        """Every attempt of a decision, oldest first; of the last `days`, or of all there is."""
        needle = f'"id":"{decision_id}"'.encode()
        return list(self._matching([needle], days=days))

    def of_number(
        self,
        value: int,
        keyring: Keyring,
        *,
        sides: tuple[str, ...] = ("calling", "called"),
        days: float | None = None,
    ) -> Iterator[Decision]:
        """The calls of a number (E.164 digits) under every token key, oldest first."""
        return self.of_tokens(keyring.tokens(value), sides=sides, days=days)

    def of_tokens(
        self,
        tokens: list[str],
        *,
        sides: tuple[str, ...] = ("calling", "called"),
        days: float | None = None,
    ) -> Iterator[Decision]:
        """The calls of whom one of these tokens stands for."""
        needles = [f'"{side}":"{token}"'.encode() for side in sides for token in tokens]
        return self._matching(needles, days=days)

    def decisions(self, *, days: float | None = None) -> Iterator[Decision]:
        """Every call, oldest first."""
        return self._matching([_CALL], days=days)

    def tail(self, count: int) -> list[Decision]:
        """The newest calls, oldest of them first."""
        found: list[Decision] = []
        for segment in reversed(segments(self.folder)):
            lines = [line for line in lines_of([segment]) if _CALL in line.body][-count:]
            found = [{**_EMPTY, **line.document()} for line in lines] + found
            if len(found) >= count:
                return found[-count:]
        return found

    def _matching(self, needles: list[bytes], *, days: float | None) -> Iterator[Decision]:
        since = 0.0 if days is None else self._clock() - days * 86_400.0
        # One search in C for all: a line costs less than its own parsing.
        search = re.compile(b"|".join(re.escape(needle) for needle in needles)).search
        for line in lines_of(self._segments(since)):
            if search(line.body) and _CALL in line.body:
                document = line.document()
                if document["instant"] >= since:
                    yield {**_EMPTY, **document, "hash": line.hash.hex()}

    def _segments(self, since: float) -> Iterator[Segment]:
        """Those that may hold calls from then on."""
        for each in segments(self.folder):
            if each.modified >= since - _HELD_BACK_SECONDS:
                yield each
