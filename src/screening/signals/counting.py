"""What the recorder counts of every call.

Invariants:
- a call counts once, whatever is asked about it again; an emergency call, what a safeguard passed
  and a replay count for nobody, and what a shadow rule would have done counts for nothing;
- the end of a call counts once, by the same key.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import zstandard

from consent.category import NOT_COMMERCIAL
from consent.conduct import BLOCK as NUMBERS
from consent.durable import written_whole
from consent.keyring import Keyring, KeyringError
from rules.safeguard import RULESET as SAFEGUARD
from screening.decision_id import RecentCalls
from screening.logs import log_where
from screening.recording.outbox import OWN, SHARED
from screening.signals.tally import BLOCK, CALLING, ENTITY, TRUNK, Tally
from screening.signals.windows import (
    ANSWERED,
    ATTEMPT,
    COMPLAINT,
    ENDED,
    REFUSED,
    SHORT,
    Called,
)

log = logging.getLogger(__name__)

SHORT_SECONDS: Final = 6.0

KEPT: Final = "signals.kept"
KEPT_SECONDS: Final = 30.0
"""A recorder that is killed forgets the events of this time."""

_PLACES: Final = OWN + SHARED
_ID: Final = _PLACES.index("id")
_AT: Final = _PLACES.index("at")
_CALL_ID: Final = _PLACES.index("call_id")
_CALLING: Final = _PLACES.index("calling")
_CALLED: Final = _PLACES.index("called")
_ENTITY: Final = _PLACES.index("entity")
_TRUNK: Final = _PLACES.index("trunk")
_CATEGORY: Final = _PLACES.index("category")
_EMERGENCY: Final = _PLACES.index("emergency")
_REPLAY: Final = _PLACES.index("replay")
_AAD: Final = b"signals"


class Counting:
    """The conduct of all parties, counted from what workers hand over. Of one thread."""

    def __init__(
        self, *, tally: Tally | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.tally: Final = tally or Tally()
        self.counted = 0
        self.ends = 0
        self.rang: list[tuple[int, int, float, str]] = []
        """Commercial calls that were let through and are not written yet."""
        self._ended = RecentCalls(capacity=200_000, horizon_seconds=86_400.0)
        self._clock = clock

    def call(self, call: list[Any], verdict: Mapping[str, Any]) -> None:
        """Count a call that was asked about for the first time."""
        if call[_EMERGENCY] or call[_REPLAY] or verdict["ruleset"] == SAFEGUARD:
            return
        self.counted += 1
        refused = verdict["action"] == "block"
        bits = ATTEMPT | REFUSED if refused else ATTEMPT
        called, entity = call[_CALLED], call[_ENTITY]
        self._add(call[_CALLING], entity, call[_TRUNK], bits, called)
        if entity and called and not refused and call[_CATEGORY] not in NOT_COMMERCIAL:
            asked_again = call[_ID] if call[_CALL_ID] else ""
            self.rang.append((called, entity, call[_AT], asked_again))

    def end(self, end: Mapping[str, Any]) -> bool:
        """Count the end of a call, the first time that it is told; whether it was."""
        if end["id"] and self._ended.attempt(end["id"], self._clock()) > 1:
            return False
        self.ends += 1
        bits = ENDED
        if end["answered"]:
            bits |= ANSWERED | (SHORT if end["seconds"] < SHORT_SECONDS else 0)
        self._add(end["calling"], end["entity"], end["trunk"], bits, end["called"])
        return True

    def complaint(self, complaint: Mapping[str, Any]) -> None:
        """Count a complaint that was not made before."""
        self._add(complaint["calling"], complaint["entity"], complaint["trunk"], COMPLAINT, 0)

    def _add(self, calling: int, entity: int, trunk: str, bits: int, called: Called) -> None:
        now, tally = self._clock(), self.tally
        if calling:
            tally.add(CALLING, calling, now, bits, called)
            tally.add(BLOCK, calling // NUMBERS, now, bits, called)
        if entity:
            tally.add(ENTITY, entity, now, bits, called)
        if trunk:
            tally.add(TRUNK, trunk, now, bits, called)

    def keep(self, path: Path, keyring: Keyring, *, wall: float) -> None:
        """Write what is counted, sealed, for the next start. Raises OSError."""
        state = {"boot": _boot(), "wall": wall, **self.tally.state(self._clock())}
        plain = zstandard.ZstdCompressor(level=1).compress(orjson.dumps(state, default=_bytes))
        with written_whole(path) as file:
            file.write(keyring.encrypt(plain, _AAD))

    def restore(self, path: Path, keyring: Keyring, *, wall: float) -> bool:
        """Take in what was kept; False where there is nothing that can be read.

        How long ago that was is told by the clock that no step moves, as long as the machine has
        not been started anew since.
        """
        try:
            plain = zstandard.ZstdDecompressor().decompress(
                keyring.decrypt(path.read_bytes(), _AAD), max_output_size=1 << 32
            )
            state = orjson.loads(plain)
            now = self._clock()
            same = state["boot"] == _boot()
            since = now - state["now"] if same else wall - state["wall"]
            self.tally.restore(state, now=now, seconds_since=since)
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError, KeyringError, zstandard.ZstdError) as bad:
            log_where(log, "the signals kept before are not taken in", bad)
            return False
        return True


def _bytes(value: object) -> list[int]:
    if isinstance(value, bytes | bytearray):
        return list(value)
    raise TypeError


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
