"""How one peer wants refusals told, where it reads codes in its own way: by cause, or all alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rules.rule import SipAnswer
from rules.sip import faults
from rules.verdict import Cause

EVERY: Final = "block"
"""The name of the answer to whatever cause has none of its own."""

_KINDS: Final = {"code": int, "phrase": str, "reason": str, "q850": int, "headers": dict}


@dataclass(frozen=True, slots=True)
class SipProfile:
    """Answers by cause, before those of the rule sets; `block` is for every other cause."""

    answers: Mapping[str, SipAnswer]

    def answer(self, cause: Cause) -> SipAnswer | None:
        """How this peer is told, None where as the rule set says."""
        return self.answers.get(cause) or self.answers.get(EVERY)


def read_profile(table: object, where: str) -> SipProfile | None:
    """The profile in a table of a client, None for an empty one. Raises ValueError."""
    if not isinstance(table, dict):
        raise ValueError(f"{where} is {table!r}, expected a table of answers by cause")
    return SipProfile({name: _answer(name, each, f"{where}.{name}")
                       for name, each in table.items()}) if table else None  # fmt: skip


def _answer(name: str, table: Any, where: str) -> SipAnswer:
    if name != EVERY and name not in tuple(Cause):
        raise ValueError(f"{where}: {name!r} is neither a cause nor {EVERY!r}")
    if not isinstance(table, dict):
        raise ValueError(f"{where} is {table!r}, expected a table with code and phrase")
    for field, value in table.items():
        kind = _KINDS.get(field)
        if kind is None or type(value) is not kind:
            expected = f"expected {', '.join(_KINDS)}" if kind is None else f"no {kind.__name__}"
            raise ValueError(f"{where}.{field} is {value!r}, {expected}")
    headers = table.get("headers", {})
    texts = [table.get("phrase", ""), table.get("reason", ""), *headers.values()]
    if not all(isinstance(each, str) for each in texts):
        raise ValueError(f"{where}.headers: expected texts")
    if any("{" in each.replace("{id}", "") for each in texts):
        raise ValueError(f"{where}: {{id}} is all that is filled in")
    made = SipAnswer(
        table.get("code", 0), texts[0], texts[1], table.get("q850", 21), tuple(headers.items())
    )
    if not 300 <= made.code <= 699:
        raise ValueError(f"{where}.code is {made.code}, expected 300 to 699")
    if not 1 <= made.q850 <= 127:
        raise ValueError(f"{where}.q850 is {made.q850}, expected 1 to 127")
    for path, message in faults(
        code=made.code, phrase=made.phrase, reason=made.reason, headers=headers, redress=""
    ):
        raise ValueError(f"{'.'.join((where, *path))}: {message}")
    return made
