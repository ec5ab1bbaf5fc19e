"""A worker's way to the recorder: a bounded buffer, sent in batches, that never waits.

Invariants:
- `observe` costs a call one tuple, and every so often writes down those that wait; nothing is
  hashed or looked up here;
- what does not fit (a recorder that is slow or gone) is dropped and counted, and the count goes
  with the next batch, so that the log itself says what it lacks;
- what waits longer than a tick does so as bytes: twenty thousand calls held as objects were looked
  through by the garbage collector, 15 ms of every caller's time;
- a batch is one message: the recorder gets it whole or not at all.
"""

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from consent.conduct import NOTHING
from rules.verdict import Action, Verdict
from screening.screener import Decision, Question

SOCKET: Final = "recorder.sock"

EVERY_SECONDS: Final = 0.005
"""A worker that is killed takes the calls of this time with it. At 20 ms a call's strings had left
the processor's caches by the time they were written: handing it over took twice as long."""

MOST_WAITING: Final = 20_000
_BATCH_CALLS: Final = 200
_PART_CALLS: Final = 32
"""Calls that are written down at once, while what they are made of is in the processor's caches."""

_BATCH_PARTS: Final = _BATCH_CALLS // _PART_CALLS

_BATCH_BYTES: Final = 160_000
"""What a socket's buffer takes in one piece on a kernel with Linux's defaults (212,992 bytes)."""

_LONGEST_TEXT: Final = 128
_SEND_BYTES: Final = 1 << 20
_RETRY_SECONDS: Final = 0.25
_AT_ONCE: Final = 8
"""Batches sent in one turn of the loop: calls come first."""

OWN: Final = (
    "id", "at", "call_id", "calling", "called", "diverted_from", "decided_s", "facts_s", "consent",
    "signals",
)  # fmt: skip
"""The places of a call's tuple that are its own."""

SHARED: Final = (
    "verdict", "lists", "calling_class", "calling_country", "calling_status", "called_class",
    "called_country", "category", "category_basis", "entity", "attestation", "verstat", "vouched",
    "trunk", "route", "side", "mode", "emergency", "replay", "zone", "transport",
)  # fmt: skip
"""The places that follow, whose values many calls share; the first two are places in the batch."""

_NO_LISTS: Final[tuple[tuple[str, int], ...]] = ()


class Outbox:
    """The calls of one worker on their way to the recorder at `folder`. Of one event loop."""

    def __init__(
        self,
        folder: Path,
        *,
        instance: str,
        rules: Callable[[], str] = str,
        most_waiting: int = MOST_WAITING,
        every_seconds: float = EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped: Counter[str] = Counter()
        """Calls that were not handed over, by reason: "full", "unwritable", "shed"."""
        self.sent = 0
        self._folder = folder
        self._instance = instance
        self._rules = rules
        self._most = most_waiting
        self._every = every_seconds
        self._clock = clock
        self._waiting: list[tuple[Any, ...]] = []
        self._parts: list[tuple[bytes, int]] = []
        """Calls that are written down, each with how many they are."""
        self._written = 0
        """Calls in these."""
        self._verdicts: dict[int, int] = {}
        self._said: list[tuple[Verdict, dict[str, Any]]] = []
        """The verdicts of the calls that wait, and how they are written, each once."""
        self._lists: dict[int, int] = {}
        self._read: list[tuple[tuple[str, int], ...]] = []
        """The lists that were read for the calls that wait."""
        self._told: list[tuple[str, dict[str, Any]]] = []
        self._packed: deque[tuple[bytes, int, int]] = deque()
        """Batches, each with how many calls are in it, and how much else."""
        self._packed_calls = self._packed_told = 0
        self._lost = 0
        """Calls dropped since a batch last said so."""
        self._socket: socket.socket | None = None
        self._connect_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Calls that wait for the recorder."""
        return len(self._waiting) + self._written + self._packed_calls

    def observe(
        self, question: Question, decision: Decision, elapsed: float, transport: str
    ) -> None:
        """Take a call that was answered. Called for every one, in the loop that answers."""
        waiting = self._waiting
        if len(waiting) + self._written + self._packed_calls >= self._most:
            self.dropped["full"] += 1
            self._lost += 1
            return
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._every, self._tick)
        call, verdict, facts = question.call, decision.verdict, decision.facts
        place = self._verdicts.get(id(verdict))
        if place is None:
            place = self._verdicts[id(verdict)] = len(self._said)
            self._said.append((verdict, _written(decision)))
        if facts is None:
            read, consent, zone, signals = _NO_LISTS, None, "", None
        else:
            read, consent, zone = facts.generations, facts.consent, facts.profile.zone
            signals = None if facts.signals is NOTHING else facts.signals
        lists = self._lists.get(id(read))
        if lists is None:
            lists = self._lists[id(read)] = len(self._read)
            self._read.append(read)
        calling, called = call.calling, call.called
        waiting.append(
            (
                decision.decision_id,
                call.at,
                call.call_id,
                calling[0],
                called[0],
                call.diverted_from[0],
                elapsed,
                decision.facts_seconds,
                0 if consent is None else consent.sequence,
                signals,
                place,
                lists,
                calling[2],
                calling[3],
                call.calling_status,
                called[2],
                called[3],
                call.category,
                call.category_basis,
                call.entity_id,
                call.attestation,
                call.verstat,
                call.vouched,
                call.trunk,
                call.route,
                call.side,
                call.mode,
                question.emergency,
                question.replay,
                zone,
                transport,
            )
        )
        if len(waiting) >= _PART_CALLS:
            self._write_part()

    def missed(self, calls: int) -> None:
        """Calls that were answered unscreened: the log shall say that it lacks them."""
        self.dropped["shed"] += calls
        self._lost += calls

    def tell(self, kind: str, told: list[dict[str, Any]]) -> bool:
        """Hand over what is no call: "ends", "complaints"; bounded and sent as calls are.

        False where there is no room: none of it was taken, and it is counted as dropped.
        """
        if len(self._told) + self._packed_told + len(told) > self._most:
            self.dropped["full"] += len(told)
            return False
        self._told.extend((kind, each) for each in told)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every, self._tick)
        return True

    def close(self) -> None:
        """Send what waits, if the recorder takes it at once, and hang up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._connect_at = 0.0
        self._send(at_once=1 << 30)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # Sending

    def _tick(self) -> None:
        self._timer = None
        self._send(at_once=_AT_ONCE)
        if self._waiting or self._parts or self._packed or self._told:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._every, self._tick)

    def _send(self, *, at_once: int) -> None:
        """Pack what waits, and hand over of it what the recorder takes."""
        for _ in range(at_once):
            if not self._pack():
                break
        link = self._connected()
        for _ in range(at_once):
            if link is None or not self._packed:
                return
            message, calls, told = self._packed[0]
            if not self._put(link, message, calls):
                return
            self._packed.popleft()
            self._packed_calls -= calls
            self._packed_told -= told

    def _connected(self) -> socket.socket | None:
        if self._socket is None and self._clock() >= self._connect_at:
            self._connect_at = self._clock() + _RETRY_SECONDS
            self._socket = connect(self._folder)
        return self._socket

    def _write_part(self) -> None:
        """Write down the calls that wait."""
        calls = self._waiting
        self._parts.append((_dumped(calls), len(calls)))
        self._written += len(calls)
        calls.clear()

    def _pack(self) -> bool:
        """Make the next batch of what waits."""
        if self._waiting:
            self._write_part()
        told, self._told = self._told[:_BATCH_CALLS], self._told[_BATCH_CALLS:]
        parts, self._parts = self._parts[:_BATCH_PARTS], self._parts[_BATCH_PARTS:]
        if not parts and not told:
            return False
        calls = sum(count for _, count in parts)
        self._written -= calls
        written = [part for part, _ in parts]
        batch = {
            "instance": self._instance,
            "rules": self._rules(),
            "lost": self._lost,
            "verdicts": [written for _, written in self._said],
            "lists": self._read,
            "told": told,
        }
        if not self._parts:
            self._verdicts.clear()
            self._said = []
            self._lists.clear()
            self._read = []
        self._lost = 0
        head = orjson.dumps(batch)[:-1]
        message = b'%b,"calls":[%b]}' % (head, b",".join(written))
        if len(message) > _BATCH_BYTES:
            # Only callers that send long texts come to it; they must not cost others the record.
            short = [_shortened(call) for part in written for call in orjson.loads(b"[%b]" % part)]
            message = b'%b,"calls":[%b]}' % (head, _dumped(short))
        self._packed.append((message, calls, len(told)))
        self._packed_calls += calls
        self._packed_told += len(told)
        return True

    def _put(self, link: socket.socket, message: bytes, calls: int) -> bool:
        """Whether a message with so many calls has gone out, or never will."""
        try:
            link.send(message)
        except BlockingIOError:
            return False
        except OSError as refused:
            if refused.errno == errno.EMSGSIZE:
                self.dropped["unwritable"] += calls
                self._lost += calls
                return True
            link.close()
            self._socket = None
            return False
        self.sent += calls
        return True


def connect(folder: Path) -> socket.socket | None:
    """A connection to the recorder of a state folder, None where none listens."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        link.setblocking(False)
        with short_path(folder / SOCKET) as path:
            link.connect(path)
    except OSError:
        link.close()
        return None
    return link


@contextlib.contextmanager
def short_path(path: Path) -> Any:
    """The path by its opened folder: a socket's address holds 107 bytes, a state folder's may not
    fit."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _dumped(calls: Sequence[Sequence[Any]]) -> bytes:
    """The calls as the members of a JSON array."""
    try:
        return orjson.dumps(calls)[1:-1]
    except TypeError:
        # A text that is no Unicode, of one call: what cannot be written of it is replaced.
        return orjson.dumps([_shortened(call) for call in calls])[1:-1]


def _shortened(call: Sequence[Any]) -> list[Any]:
    return [
        part[:_LONGEST_TEXT].encode("utf-8", "replace").decode() if type(part) is str else part
        for part in call
    ]


def _written(decision: Decision) -> dict[str, Any]:
    """A verdict as the record has it; the same for every call that it was given for."""
    verdict, ruleset = decision.verdict, decision.ruleset
    sip = None
    if verdict.action is Action.BLOCK and ruleset is not None:
        sip = ruleset.answer(verdict.cause)
    return {
        "action": verdict.action.word,
        "cause": str(verdict.cause),
        "rule": verdict.rule,
        "ruleset": verdict.ruleset,
        "degraded": verdict.degraded,
        "internal_error": decision.internal_error,
        "errors": list(verdict.errors),
        "shadow": [{"rule": hit.rule, "action": hit.action.word} for hit in verdict.shadow],
        "label": dict(verdict.label) if verdict.label else None,
        "sip": sip.code if sip else 0,
        "phrase": sip.phrase if sip else "",
        "q850": sip.q850 if sip else 0,
        "redress": ruleset.redress if ruleset is not None else "",
    }
