"""What became of a call: the word of a switch, or of its call detail records (CDR), once it ended.

Signals alone rest on it: shares answered and shorter than six seconds. No verdict waits for it, so
it is handed to the recorder and not acknowledged beyond that.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from consent.entity import Entity
from consent.number import parse_number
from screening.decision_id import decision_id

EntityOf = Callable[[int], Entity | None]

_ID_LIMIT: Final = 64
_SECONDS_LIMIT: Final = 7 * 86_400.0
_FIRST_ERRORS: Final = 100

FIELDS: Final = {
    "decision_id": "The decision's id, where the switch kept it; else `call_id` tells the call.",
    "call_id": "As in the question.",
    "calling": "As in the question. Required.",
    "called": "As in the question. Required.",
    "trunk": "As in the question; counts from clients that may assert it.",
    "answered": "Whether it was answered. Required.",
    "seconds": "How long it was answered for; 0 when absent.",
}
"""The fields of a call's end, by what they mean."""


class MalformedEnd(ValueError):
    """A call's end that cannot be read: `field` names where."""

    def __init__(self, field_: str, message: str) -> None:
        super().__init__(message)
        self.field = field_


@dataclass(slots=True)
class EndReport:
    """Ends that were handed over, and lines that were not, the first of them with the reason."""

    taken: int = 0
    rejected: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)

    def reject(self, line: int, reason: str) -> None:
        self.rejected += 1
        if len(self.errors) < _FIRST_ERRORS:
            self.errors.append({"line": line, "error": reason})


class EndReader:
    """Reads ends for the recorder. `region` is the country of national digits, `key` that of
    decision ids; `entity_of` names who answers for a calling number."""

    def __init__(self, *, region: str, key: bytes, entity_of: Callable[[], EntityOf]) -> None:
        self._region = region
        self._key = key
        self._entity_of = entity_of

    def read(self, fields: Mapping[str, Any], *, trusts_trunk: bool) -> dict[str, Any]:
        """One end as the recorder takes it. Raises MalformedEnd; unknown fields are passed over."""
        calling = parse_number(_text(fields, "calling"), region=self._region)
        called = parse_number(_text(fields, "called"), region=self._region)
        answered = fields.get("answered")
        if not isinstance(answered, bool):
            raise MalformedEnd("answered", "`answered` is absent or not a boolean")
        seconds = fields.get("seconds", 0) or 0
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise MalformedEnd("seconds", "`seconds` is not a number")
        if not 0 <= seconds <= _SECONDS_LIMIT:
            raise MalformedEnd("seconds", f"`seconds` is not from 0 to {_SECONDS_LIMIT:.0f}")
        said, call_id = _text(fields, "decision_id"), _text(fields, "call_id")
        if len(said) > _ID_LIMIT:
            raise MalformedEnd("decision_id", f"`decision_id` is longer than {_ID_LIMIT}")
        if not said and call_id:
            said = decision_id(
                call_id=call_id, calling=calling.text, called=called.text, key=self._key
            )
        entity = self._entity_of()(calling.value) if calling.value else None
        return {
            # Without either an end cannot be told from a second word of it, and counts.
            "id": said,
            "calling": calling.value,
            "called": called.value,
            "entity": entity.id if entity else 0,
            "trunk": _text(fields, "trunk")[:_ID_LIMIT] if trusts_trunk else "",
            "answered": answered,
            "seconds": float(seconds),
        }

    def read_lines(
        self, lines: Iterable[bytes], report: EndReport, *, trusts_trunk: bool
    ) -> Iterator[dict[str, Any]]:
        """The ends of NDJSON; a bad line stops no other and is in the report."""
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
                if not isinstance(fields, dict):
                    raise MalformedEnd("", "expected a JSON object")
                end = self.read(fields, trusts_trunk=trusts_trunk)
            except MalformedEnd as broken:
                report.reject(number, str(broken))
            except ValueError:
                report.reject(number, "is not JSON")
            else:
                report.taken += 1
                yield end


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        if name in ("calling", "called"):
            raise MalformedEnd(name, f"`{name}` is absent, expected a number")
        return ""
    if not isinstance(value, str):
        raise MalformedEnd(name, f"`{name}` is not a string")
    return value
