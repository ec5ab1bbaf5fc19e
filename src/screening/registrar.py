"""The registrar: takes down what subscribers decide, in the ledger and then in the index.

Invariants:
- what is said to be recorded is committed to the ledger, and what is said to be in force has been
  acknowledged by the shards of its numbers, which every worker reads for every call;
- between the two nothing is lost: the index follows the ledger by sequence, so whoever brings it
  up next, here or elsewhere, brings up what a crash or an outage left behind.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from consent.event import Event
from consent.index import IndexBehind, IndexLost, IndexUnavailable
from consent.projection import Following
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
        self._opened: dict[str, tuple[Following, contextlib.ExitStack]] = {}
        """By epoch: the index in force, and the one beside it while there is one."""
        self._asked: deque[Event] = deque()
        """Committed, and not yet brought into force by whoever holds `_settling`."""
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
        return Taken(kept, not kept or self._brought(kept))

    def in_force(self, sequence: int) -> bool:
        """Whether the index has the ledger through a sequence: it is brought up to it first."""
        return self._settled(lambda following: following.bring_all(sequence))

    def _brought(self, kept: list[Event]) -> bool:
        """Whether the index has these events: they are brought into it first."""
        self._asked.extend(kept)

        def bring(following: Following) -> None:
            # Whoever waits meanwhile finds it done: one exchange serves all who have committed.
            if not following.has(kept):
                asked = [self._asked.popleft() for _ in range(len(self._asked))]
                following.bring([*kept, *asked])

        return self._settled(bring)

    def _settled(self, bring: Callable[[Following], None]) -> bool:
        asked = self._clock()
        with self._settling:
            if self._failed_at >= asked - ASKED_AGAIN_SECONDS:
                self._asked.clear()
                return False
            try:
                self._settle(bring)
            except (IndexUnavailable, RecordUnavailable, RecordError) as gone:
                self._close()
                self._asked.clear()
                self._failed_at = self._clock()
                self.failure = str(gone)
                return False
            self.failure = ""
            return True

    def close(self) -> None:
        """Let go of the index."""
        with self._settling:
            self._close()

    def _settle(self, bring: Callable[[Following], None]) -> None:
        try:
            self._bring_both(bring)
        except (IndexLost, IndexBehind):
            # Perhaps it was rebuilt meanwhile and is another one, or has to be read anew.
            self._close()
            self._bring_both(bring)

    def _bring_both(self, bring: Callable[[Following], None]) -> None:
        # Read after the commit: whoever makes an index looks for what was committed before.
        epochs = self._state.record().indexes.epochs()
        for epoch in self._opened.keys() - {epochs.in_force, epochs.beside}:
            self._let_go(epoch)
        bring(self._following(epochs.in_force))
        if epochs.beside:
            try:
                bring(self._following(epochs.beside))
            except IndexLost:
                # What comes into force is found whole before; so this will not, or was in force.
                self._let_go(epochs.beside)

    def _following(self, epoch: str) -> Following:
        if epoch not in self._opened:
            with contextlib.ExitStack() as opened:
                store = opened.enter_context(self._state.index(timeout_s=ANSWER_SECONDS))
                epoch = epoch or store.attached
                if epoch != store.attached:
                    store = opened.enter_context(store.beside(epoch))
                following = Following(self._state.record(), store)
                self._opened[epoch] = following, opened.pop_all()
        return self._opened[epoch][0]

    def _close(self) -> None:
        for epoch in list(self._opened):
            self._let_go(epoch)

    def _let_go(self, epoch: str) -> None:
        if epoch in self._opened:
            _, opened = self._opened.pop(epoch)
            opened.close()
