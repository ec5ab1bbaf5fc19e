"""What the recorder counts of every call, and how it comes to the rules.

Invariants:
- a call counts once, whatever is asked about it again; an emergency call, what a safeguard passed
  and a replay count for nobody, and what a shadow rule would have done counts for nothing;
- the end of a call counts once, by the same key;
- what a party's windows hold is published within `EVERY_SECONDS` of an event, and again as they
  slide; that it is all there is said only once it is.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import zstandard

from consent.category import NOT_COMMERCIAL
from consent.conduct import BLOCK, NOTHING, pack
from consent.durable import written_whole
from consent.index import ConductStore, IndexUnavailable
from consent.index.layout import shard_of
from consent.keyring import Keyring, KeyringError
from rules.safeguard import RULESET as SAFEGUARD
from screening.decision_id import RecentCalls
from screening.logs import log_where
from screening.recording.outbox import OWN, SHARED
from screening.signals import tally as kinds
from screening.signals.tally import Tally
from screening.signals.view import FILE, place, write
from screening.signals.windows import (
    ANSWERED,
    ATTEMPT,
    COMPLAINT,
    ENDED,
    REFUSED,
    SHORT,
    Key,
    Party,
    next_change,
    values,
)

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 0.25
BEAT_SECONDS: Final = 1.0
SHORT_SECONDS: Final = 6.0
MOST_AT_ONCE: Final = 5_000
"""Parties published in one turn; those that changed first go first."""

PUBLISHED_FROM: Final = 2
"""A calling number is in the index from its second event on; before that it reads as nothing."""

RENEWED_SECONDS: Final = 12 * 3600.0
"""A number that keeps calling gets a new time to live in the index so often."""

KEPT: Final = "signals.kept"
KEPT_SECONDS: Final = 30.0
"""A recorder that is killed forgets the events of this time."""

_NEVER: Final = (None, False)
_PLACE: Final = {name: at for at, name in enumerate(OWN + SHARED)}
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

    def _add(self, calling: int, entity: int, trunk: str, bits: int, called: int) -> None:
        now, add = self._clock(), self.tally.add
        if calling:
            add(kinds.CALLING, calling, now, bits, called)
            add(kinds.BLOCK, calling // BLOCK, now, bits, called)
        if entity:
            add(kinds.ENTITY, entity, now, bits, called)
        if trunk:
            add(kinds.TRUNK, trunk, now, bits, called)

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


_EMERGENCY, _REPLAY = _PLACE["emergency"], _PLACE["replay"]
_ID, _CALL_ID = _PLACE["id"], _PLACE["call_id"]
_AT, _CALLING, _CALLED = _PLACE["at"], _PLACE["calling"], _PLACE["called"]
_ENTITY, _TRUNK, _CATEGORY = _PLACE["entity"], _PLACE["trunk"], _PLACE["category"]


def _bytes(value: object) -> list[int]:
    if isinstance(value, bytes | bytearray):
        return list(value)
    raise TypeError


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Publisher:
    """Brings what was counted to the index and to the workers' file.

    `turn` belongs to the thread that counts and only gathers; the servers are written to by a
    thread of its own.
    """

    def __init__(
        self,
        folder: Path,
        counting: Counting,
        *,
        url: str,
        node: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.failure = ""
        self._folder = folder
        self._counting = counting
        self._store = ConductStore(url, node=node) if url else None
        self._clock = clock
        self._wall = wall
        self._due: dict[int, list[Party]] = {}
        """Parties that slide, by when they do, in turns."""
        self._looked = int(clock() / EVERY_SECONDS)
        self._file: dict[str, dict[int, bytes]] = {"entity": {}, "block": {}, "trunk": {}}
        self._signals: dict[int, tuple[bytes | None, bool]] = {}
        self._rang: list[tuple[int, int, float, str]] = []
        self._lost: set[int] = set()
        self._repairing: set[int] = set()
        self._repaired: set[int] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ending = False
        self._begun = not url
        """Whether the index was reached, or found gone: only then do workers hear of anything."""
        self._wrote = 0.0
        self._publishing = threading.Thread(target=self._run, name="signals", daemon=True)

    def start(self) -> None:
        """Begin to write to the index."""
        if self._store is not None:
            self._publishing.start()

    def stop(self) -> None:
        """Write what waits and end."""
        self.turn()
        self._ending = True
        self._wake.set()
        if self._publishing.is_alive():
            self._publishing.join(5)

    def turn(self) -> None:
        """Gather what has changed, or slides, and write the workers' file."""
        now, tally = self._clock(), self._counting.tally
        changed = tally.changed
        while self._looked < int(now / EVERY_SECONDS) and len(changed) < MOST_AT_ONCE:
            for party in self._due.pop(self._looked, ()):
                if 0 < party.due <= now and not party.waits:
                    tally.change(party)
            self._looked += 1
        with self._lock:
            file_changed = self._gather(now)
            rang, self._counting.rang = self._counting.rang, []
            self._rang = (self._rang + rang)[-100_000:]
            lost, self._lost = self._lost, set()
            # Those that were emptied, and have all that they lacked in what waits by now.
            if not changed:
                self._repaired |= self._repairing
                self._repairing = set()
        if lost:
            self._repairing |= lost
            for number, party in tally.tables[kinds.CALLING].items():
                if party.told and shard_of(int(number)) in lost:
                    party.told = 0.0
                    if not party.waits:
                        tally.change(party)
        if self._begun:
            self._write_file(changed=file_changed, now=now)
        self._wake.set()

    def _gather(self, now: float) -> bool:
        changed, file_changed = self._counting.tally.changed, False
        parties = changed[:MOST_AT_ONCE]
        del changed[:MOST_AT_ONCE]
        for party in parties:
            party.waits = False
            if party.forgotten:
                continue
            if party.rings is None and not party.told and len(party.events) < PUBLISHED_FROM:
                continue
            held = values(party.at(now))
            packed = pack(held) if held != NOTHING else None
            if party.kind == kinds.CALLING:
                renewed = not party.told or now - party.told > RENEWED_SECONDS
                if renewed or packed is None:
                    party.told = now if packed else 0.0
                # What waits still may have been the one that renews.
                number = int(party.key)
                renewed |= self._signals.get(number, _NEVER)[1]
                self._signals[number] = packed, renewed
            else:
                file_changed |= self._put(party.kind, place(party.key), packed)
            soon = next_change(party, now)
            party.due = now + soon if soon else 0.0
            if soon:
                self._due.setdefault(int(party.due / EVERY_SECONDS), []).append(party)
        return file_changed

    def _put(self, kind: str, at: int, packed: bytes | None) -> bool:
        table = self._file[kind]
        if table.get(at) == packed:
            return False
        if packed is None:
            del table[at]
        else:
            table[at] = packed
        return True

    def _write_file(self, *, changed: bool, now: float) -> None:
        try:
            if changed or not self._wrote:
                self._prune()
                write(self._folder, self._file)
                self._wrote = now
            else:
                os.utime(self._folder / FILE)
            self.failure = ""
        except OSError as error:
            self._wrote = 0.0
            self.failure = f"signals are not published: {error.strerror or error}"

    def _prune(self) -> None:
        """Leave out what the tally has forgotten."""
        for kind, table in self._file.items():
            known = self._counting.tally.tables[kind]
            if len(table) > len(known):
                places = {place(key) for key, _ in known.items()}
                self._file[kind] = {at: each for at, each in table.items() if at in places}

    def forget(self, kind: str, key: Key) -> None:
        """Publish that nothing is held of a party any more."""
        with self._lock:
            if kind == kinds.CALLING:
                self._signals[key] = None, False  # type: ignore[index]
            elif self._put(kind, place(key), None):
                self._wrote = 0.0

    # In the thread that writes to the index

    def _run(self) -> None:
        beat = 0.0
        whole: set[int] = set()
        while not self._ending or self._signals or self._rang:
            self._wake.wait(EVERY_SECONDS)
            self._wake.clear()
            with self._lock:
                signals, self._signals = self._signals, {}
                rang, self._rang = self._rang, []
                repaired, self._repaired = self._repaired, set()
            try:
                if signals:
                    self._to_index().write_signals(signals)
                    signals = {}
                if rang:
                    self._to_index().write_calls(rang)
                    rang = []
                whole |= repaired
                if self._clock() - beat >= BEAT_SECONDS and self._beat(whole):
                    beat = self._clock()
                    self._begun = True
                self.failure = ""
            except IndexUnavailable as gone:
                self.failure = f"signals are not published: {gone}"
                self._begun = True
                with self._lock:
                    # The server may have lost all of them by then.
                    waiting = {**signals, **self._signals}
                    self._signals = {key: (packed, True) for key, (packed, _) in waiting.items()}
                    self._rang = (rang + self._rang)[-100_000:]
                if self._ending:
                    return
                time.sleep(EVERY_SECONDS)

    def _to_index(self) -> ConductStore:
        if self._store is None:
            raise IndexUnavailable("no index server")
        return self._store

    def _beat(self, whole: set[int]) -> bool:
        """Say that all is there; False where a server was emptied: all is to be written first."""
        store = self._to_index()
        lost = set(store.lost())
        if lost <= whole:
            store.beat(self._wall())
            whole.clear()
            return True
        with self._lock:
            self._lost |= lost - whole
        return False
