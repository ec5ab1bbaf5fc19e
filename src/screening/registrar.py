"""The registrar: takes down what subscribers decide, in the ledger and then in the index.

Invariants:
- what is said to be recorded is committed to the ledger, and what is said to be in force has been
  acknowledged by the index, which every worker reads for every call;
- between the two nothing is lost: the index follows the ledger by sequence, so whoever brings it
  up next, here or elsewhere, brings up what a crash or an outage left behind.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from consent.event import Event
from consent.index import IndexLost, IndexStore, IndexUnavailable
from consent.projection import catch_up
from consent.record import Once, RecordError, RecordUnavailable
from screening.state import State

ANSWER_SECONDS: Final = 1.0
"""How long an index server may take to answer before a decision is left pending."""

ASKED_AGAIN_SECONDS: Final = 0.5
"""After a failure the index is left alone for this long: meanwhile decisions are pending."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of decisions: committed, with their sequences; `in_force` or still pending.

    Pending ones are in force as soon as the index is back, without a person.
    """

    events: list[Event]
    in_force: bool

    @property
    def sequence(self) -> int:
        """That of the newest event, 0 for none."""
        return self.events[-1].sequence if self.events else 0


class Registrar:
    """One writer of decisions. Threads share it; it blocks."""

    def __init__(self, state: State, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._clock = clock
        self._settling = threading.Lock()
        self._index = contextlib.ExitStack()
        self._store: IndexStore | None = None
        self._applied = 0
        self._failed_at = float("-inf")
        self.failure = ""
        """Why decisions are pending, "" while the index takes them."""

    def take(
        self,
        events: Iterable[Event],
        *,
        actor: str,
        once: Once | None = None,
        unchanged: Mapping[int, int] | None = None,
    ) -> Taken:
        """Commit decisions together, then bring them into force: see `Ledger.append`.

        Raises what that raises, and then nothing has been done.
        """
        record = self._state.record()
        kept = record.ledger.append(events, actor=actor, once=once, unchanged=unchanged)
        return Taken(kept, not kept or self.in_force(kept[-1].sequence))

    def in_force(self, sequence: int) -> bool:
        """Whether the index has the ledger through a sequence: it is brought up to it first."""
        asked = self._clock()
        # Whoever waits here meanwhile finds it done: one look serves all who committed before it.
        with self._settling:
            if self._applied >= sequence:
                return True
            if self._failed_at >= asked - ASKED_AGAIN_SECONDS:
                return False
            try:
                self._settle()
            except (IndexUnavailable, RecordUnavailable, RecordError) as gone:
                self._close()
                self._failed_at = self._clock()
                self.failure = str(gone)
                return False
            self.failure = ""
            return self._applied >= sequence

    def close(self) -> None:
        """Let go of the index."""
        with self._settling:
            self._close()

    def _settle(self) -> None:
        try:
            self._follow()
        except IndexLost:
            # Perhaps it was rebuilt meanwhile, and is another one.
            self._close()
            self._follow()

    def _follow(self) -> None:
        if self._store is None:
            opened = self._state.index(timeout_s=ANSWER_SECONDS)
            self._store = self._index.enter_context(opened)
        self._applied = catch_up(self._state.record(), self._store)

    def _close(self) -> None:
        self._store = None
        self._index.close()
