"""The keeper of the index: it follows the record and comes back after a loss without a person."""

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from consent.index import IndexLost, IndexStore, IndexUnavailable
from consent.projection import catch_up_beside, follow
from consent.record import Record, RecordError, RecordUnavailable
from screening.embedded import EmbeddedServerError
from screening.state import State

log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 1.0
"""How long a server may take to answer: a frozen one must not hold up what follows it."""

OPENED_SECONDS: Final = 10.0
"""How long an index server goes by what it was when it was opened: it may be given settings later
that it must not have."""

REVIVE_SECONDS: Final = 5.0
"""From one attempt to start the embedded server anew to the next: its data may be beyond use."""

REMAINS_SECONDS: Final = 300.0
"""For so long whoever rebuilt the index may take to remove the one before."""

GONE: Final = (IndexUnavailable, RecordUnavailable, RecordError)


class Keeper:
    """Brings the index up to the record, one step at a time; `epoch` is the index's last seen.

    `applied` is the sequence of the ledger through which every shard of it was seen complete.
    `gone` says that the last step found the index or the record gone: look again soon.

    A rebuild runs in a process of its own: a nation's registry would hold up calls for minutes.
    """

    def __init__(self, state: State, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._clock = clock
        self._remains, self._remains_since = "", 0.0
        self._running: set[asyncio.subprocess.Process] = set()
        self._alone = threading.Lock()
        self._opened = contextlib.ExitStack()
        self._store: IndexStore | None = None
        self._open_until = 0.0
        self.epoch = ""
        self.applied = 0
        self.gone = False
        self._revive_after = 0.0

    async def look(self, *, within_seconds: float) -> None:
        """Follow the record once if the index answers in time; a start does not wait for it."""
        with contextlib.suppress(*GONE, TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(self._follow), within_seconds)

    async def step(self, *, rebuild: bool = True) -> str:
        """One look; the answer is what is wrong, "" for nothing. `rebuild` what was lost."""
        self.gone = False
        try:
            await asyncio.to_thread(self._follow)
        except IndexLost as lost:
            if not rebuild:
                return f"{lost}; another worker rebuilds it"
            log.warning("%s; rebuilding it", lost)
            return await self.run("index", "rebuild", "--if-lost")
        except GONE as gone:
            self.gone = True
            return await self._revived(str(gone))
        if rebuild and self._remains and self._clock() - self._remains_since >= REMAINS_SECONDS:
            self._remains = ""
            return await self.run("index", "tidy")
        return ""

    async def _revived(self, failure: str) -> str:
        """What is wrong after the embedded server was started anew, if it had ended."""
        server = self._state.embedded
        now = time.monotonic()
        if server is None or now < self._revive_after:
            return failure
        self._revive_after = now + REVIVE_SECONDS
        try:
            if await asyncio.to_thread(server.revive):
                log.warning("%s; the embedded server had ended and was started anew", failure)
        except EmbeddedServerError as dead:
            return str(dead)
        return failure

    def _follow(self) -> None:
        with self._alone:
            record = self._state.record()
            try:
                store = self._index(record)
                applied = follow(record, store)
                catch_up_beside(record, store)
            except BaseException:
                self._close()
                raise
        self.epoch, self.applied = store.attached, applied
        remains = record.indexes.remains()
        if remains != self._remains:
            self._remains, self._remains_since = remains, self._clock()
        record.ledger.finish_erasures(applied)

    def _index(self, record: Record) -> IndexStore:
        """The index in force, which stays open: to open it asks each server what it is."""
        store = self._store
        now = time.monotonic()
        if (
            store is None
            or now >= self._open_until
            or store.attached != record.indexes.epochs().in_force
        ):
            self._close()
            store = self._store = self._opened.enter_context(
                self._state.index(timeout_s=ANSWER_SECONDS)
            )
            self._open_until = now + OPENED_SECONDS
        return store

    def _close(self) -> None:
        self._store = None
        self._opened.close()

    async def run(self, *words: str) -> str:
        """Run a command of ours on the same state, apart; the answer is what went wrong or ""."""
        code, _, errors = await self._ended(*words)
        if code:
            return f"screening {' '.join(words)} ended with {code}: {errors.strip()[-500:]}"
        return ""

    async def ask(self, *words: str) -> tuple[str, str]:
        """Run a command of ours so, and give what it printed and what it complained of."""
        return (await self._ended(*words))[1:]

    async def _ended(self, *words: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "screening", *words,
            env={**os.environ, **self._state.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        self._running.add(process)
        printed, errors = await process.communicate()
        self._running.discard(process)
        code = process.returncode or 0
        return code, printed.decode("utf-8", "replace"), errors.decode("utf-8", "replace")

    async def stop(self) -> None:
        """End what still runs apart; the next start begins it anew."""
        for process in tuple(self._running):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        with self._alone:
            self._close()
