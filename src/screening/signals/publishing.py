"""How what was counted comes to the rules: in the index and in a file of the workers.

Invariant: what a party's windows hold is gathered within `EVERY_SECONDS` of an event, and again as
they slide, and written within the turn that follows (within five while workers shed calls); that
it is all there is said only once it is.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from consent.index import ConductStore, IndexUnavailable
from consent.index.layout import shard_of
from screening.signals.counting import Counting
from screening.signals.party import Key, Party
from screening.signals.tally import CALLING
from screening.signals.view import FILE, place, write
from screening.signals.windows import packed

EVERY_SECONDS: Final = 0.4
_SIGNALS_WITHIN_SECONDS: Final = 0.22
_CALLS_WITHIN_SECONDS: Final = 0.14
"""Over which many are written: one after the other within a turn, with the one before within a
second."""

_GIVES_WAY: Final = 5
"""Times as long, while workers say that calls went unscreened: they need the server, and the core
that they may share with it."""

_GIVES_WAY_SECONDS: Final = 2.0
"""For which the last such word holds."""

BEAT_SECONDS: Final = 1.0
MOST_AT_ONCE: Final = 8_000
"""Parties published in one turn; those that changed first go first."""

PUBLISHED_FROM: Final = 2
"""A calling number is in the index from its second event on; before that it reads as nothing."""

RENEWED_SECONDS: Final = 12 * 3600.0
"""A number that keeps calling gets a new time to live in the index so often."""

_NEVER: Final = (None, False)


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
        self._gives_way_until = 0.0
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
            for number, party in tally.tables[CALLING].items():
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
            value = packed(party.at(now))
            if party.kind == CALLING:
                renewed = not party.told or now - party.told > RENEWED_SECONDS
                if renewed or value is None:
                    party.told = now if value else 0.0
                # What waits still may have been the one that renews.
                number = int(party.key)
                renewed |= self._signals.get(number, _NEVER)[1]
                self._signals[number] = value, renewed
            else:
                file_changed |= self._put(party.kind, place(party.key), value)
            soon = party.next_change(now)
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
            if kind == CALLING:
                self._signals[key] = None, False  # type: ignore[index]
            elif self._put(kind, place(key), None):
                self._wrote = 0.0

    def give_way(self) -> None:
        """Workers cannot keep up: write slower for a while."""
        self._gives_way_until = self._clock() + _GIVES_WAY_SECONDS

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
                    within_s = _SIGNALS_WITHIN_SECONDS * self._times_as_long()
                    self._to_index().write_signals(signals, within_s=within_s)
                    signals = {}
                if rang:
                    within_s = _CALLS_WITHIN_SECONDS * self._times_as_long()
                    self._to_index().write_calls(rang, within_s=within_s)
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
                    self._signals = {key: (value, True) for key, (value, _) in waiting.items()}
                    self._rang = (rang + self._rang)[-100_000:]
                if self._ending:
                    return
                time.sleep(EVERY_SECONDS)

    def _times_as_long(self) -> int:
        """As usual writing may take; not at all once it is to end."""
        if self._ending:
            return 0
        return _GIVES_WAY if self._clock() < self._gives_way_until else 1

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
