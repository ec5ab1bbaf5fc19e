"""Washing: what calls to some numbers would come to, asked before they are dialled.

Each number is decided by the rules in force as a call of the entity, from its own number, would
be: so it is refused where the call would be blocked, and nowhere else. It is an oracle on the
registry as well: hence the limit, the account of it, and the honey numbers, which nobody has and
no campaign's list should hold.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Final

import orjson

from consent.facts import ConsentState
from consent.number import Number, NumberClass, parse_number
from consent.record import Entity, Record, RecordError
from screening.screener import Decision, Question, Screener
from screening.state import State

MOST_NUMBERS: Final = 10_000
"""In one request: its answer is held until it is whole."""

AT_ONCE: Final = 16
"""Numbers decided together: a call that comes in meanwhile waits for no more than these."""


TOKENS_KEPT: Final = 100
PASSED: Final = "TN-Validation-Passed"


class Answer(StrEnum):
    """What a number is to the entity that asks; `unknown` while its facts cannot be read."""

    CALLABLE = "callable"
    REFUSED = "refused"
    CONSENTED = "consented"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Washed:
    """One number as it was sent, and what was found; `error` where it is no number."""

    called: str
    answer: Answer | None
    cause: str = ""
    error: str = ""

    def text(self) -> bytes:
        """The line of the answer."""
        said = {"called": self.called}
        if self.answer is None:
            return orjson.dumps(said | {"error": self.error}, option=orjson.OPT_APPEND_NEWLINE)
        said |= {"answer": self.answer, "cause": self.cause}
        return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)


def counts_of(washed: Iterable[Washed]) -> dict[str, int]:
    """How many of each answer, for the account."""
    found = Counter(str(each.answer or "no_number") for each in washed)
    return dict(sorted(found.items()))


def read_lines(text: bytes) -> list[str]:
    """The numbers of NDJSON: a text, bare digits, or an object with `called`, each a line.

    Raises RecordError that names the line.
    """
    found: list[str] = []
    for n, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if not word:
            continue
        if len(found) >= MOST_NUMBERS:
            raise RecordError(f"expected at most {MOST_NUMBERS:,} numbers", field="body")
        try:
            said = orjson.loads(word) if word[:1] in b'"{' else word.decode()
        except ValueError:
            said = None
        if isinstance(said, dict):
            said = said.get("called")
        if not isinstance(said, str):
            raise RecordError(
                f'line {n}: expected "NUMBER" or {{"called": "NUMBER"}}', field=f"line {n}"
            )
        found.append(said)
    return found


def calling_of(record: Record, name: str, calling: str, *, region: str) -> tuple[Entity, int]:
    """The entity that would call, and its number: the one asked for, else its first.

    Raises RecordError where it is none, suspended, or not the number's.
    """
    entity = record.entities.named(name)
    if entity.status != "active":
        raise RecordError(f"entity {name!r} is {entity.status}: it may not call", field="entity")
    spans = [(one, one) for one in entity.numbers] + list(entity.ranges)
    if not spans:
        raise RecordError(f"entity {name!r} has no calling number to call from", field="entity")
    if not calling:
        return entity, spans[0][0]
    value = parse_number(calling, region=region).value
    if not any(low <= value <= high for low, high in spans):
        raise RecordError(f"calling is no number of entity {name!r}", field="calling")
    return entity, value


async def wash(
    screener: Screener,
    numbers: Sequence[str],
    *,
    calling: int,
    category: str,
    region: str,
    at: float,
    mode: str = "voice",
) -> list[Washed]:
    """What calls of this category to these numbers would come to at an instant."""
    source = parse_number(f"+{calling}")
    parsed = [parse_number(each, region=region) for each in numbers]
    washed: list[Washed] = []
    for first in range(0, len(parsed), AT_ONCE):
        some = parsed[first : first + AT_ONCE]
        questions = [_question(each, source, category, region, at, mode) for each in some]
        decisions = await asyncio.gather(*(_decided(screener, each) for each in questions))
        for sent, number, decision in zip(numbers[first:], some, decisions, strict=False):
            washed.append(_washed(sent, number, decision, category, at, mode))
        await asyncio.sleep(0)
    return washed


async def _decided(screener: Screener, question: Question) -> Decision:
    decided: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
    screener.screen(question, arrived=monotonic(), done=decided.set_result)
    return await decided


def _question(
    called: Number, calling: Number, category: str, region: str, at: float, mode: str
) -> Question:
    question = Question()
    call = question.call
    call.called = call.dialled = called
    call.calling = calling
    call.purpose = category
    call.region = region
    call.at = at
    call.mode = mode
    # The entity asks with its own key: it is who it says.
    call.vouched, call.attestation, call.verstat = True, "A", PASSED
    return question


def _washed(
    sent: str, number: Number, decision: Decision, category: str, at: float, mode: str
) -> Washed:
    verdict, facts = decision.verdict, decision.facts
    if number.kind is not NumberClass.SUBSCRIBER:
        return Washed(sent, None, error=f"is {number.kind}, expected a subscriber's number")
    if decision.internal_error or verdict.degraded or (facts is not None and not facts.known):
        return Washed(sent, Answer.UNKNOWN)
    if verdict.action.word == "block":
        return Washed(sent, Answer.REFUSED, verdict.cause)
    if facts is not None and ConsentState.GRANTED is facts.consent_state(
        at, category, mode=mode, country=number.country
    ):
        return Washed(sent, Answer.CONSENTED, "consented")
    return Washed(sent, Answer.CALLABLE, verdict.cause)


def account(
    state: State,
    actor: str,
    entity: str,
    category: str,
    counts: Mapping[str, int],
    caught: Sequence[int],
) -> None:
    """Keep who washed how much, and which honey numbers, by their tokens. Raises
    RecordUnavailable: what cannot be kept is not answered."""
    audit = state.record().audit
    said = {"category": category, **counts}
    audit.append("wash", subject=entity, actor=actor, detail=said)
    if caught:
        tokens = sorted({state.keyring.token(each) for each in caught})[:TOKENS_KEPT]
        detail = {"count": len(caught), "tokens": tokens}
        audit.append("wash.honey", subject=entity, actor=actor, detail=detail)


class Honey:
    """The numbers that nobody should ever wash; taken in anew when their file changes."""

    def __init__(self, path: Path, *, region: str) -> None:
        self._path = path
        self._region = region
        self._seen: object = None
        self._numbers: frozenset[int] = frozenset()

    def among(self, numbers: Iterable[str]) -> list[int]:
        """Those of some numbers that are honey. Raises OSError where the file cannot be read."""
        try:
            about = self._path.stat()
            seen = (about.st_mtime_ns, about.st_size, about.st_ino)
        except FileNotFoundError:
            return []
        if seen != self._seen:
            lines = self._path.read_text("utf-8").splitlines()
            words = (line.partition("#")[0].strip() for line in lines)
            values = (parse_number(word, region=self._region).value for word in words if word)
            self._numbers, self._seen = frozenset(values), seen
        found = (parse_number(each, region=self._region).value for each in numbers)
        return [value for value in found if value in self._numbers and value]
