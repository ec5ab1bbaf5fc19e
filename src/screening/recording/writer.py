"""The thread that writes the log, so that a slow disk holds up neither calls nor counting.

Invariants: what waits is bounded in bytes, and what does not fit is counted and named in the log
when it can be written again; a record is written at most `EVERY_SECONDS` after it came here, and
on disk at most `SYNC_SECONDS` and one fsync later, while the disk keeps up.
"""

import logging
import threading
import time
from collections import Counter
from typing import Final

from screening.recording.segments import Log, compress

log = logging.getLogger(__name__)

SYNC_SECONDS: Final = 0.2
MOST_BYTES: Final = 64 << 20
EVERY_SECONDS: Final = 0.02
"""What comes in this time is written at once: two threads that take turns for every batch spend as
much on that as on writing."""

_COMPRESS_PAUSE_SECONDS: Final = 1.0
_AT_ONCE: Final = 2_000


class Writer:
    """Writes what it is given to a log, in order, behind the process that gives it."""

    def __init__(self, kept: Log, *, most_bytes: int = MOST_BYTES) -> None:
        self.written = 0
        self.lost: Counter[str] = Counter()
        """Calls that are not in the log, by reason: "behind", "disk", "outbox"."""
        self.failure = ""
        """Why the last write failed, "" when it did not."""
        self.waiting_bytes = 0
        self.log_bytes = 0
        """What the log takes on disk, as of the last second."""
        self._log = kept
        self._most = most_bytes
        self._queue: list[bytes] = []
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._unnamed: Counter[str] = Counter()
        """What is lost and not yet handed to the log."""
        self._threads = [
            threading.Thread(target=self._run, name="log", daemon=True),
            threading.Thread(target=self._compress, name="compress", daemon=True),
        ]

    def start(self) -> None:
        """Begin to write."""
        for thread in self._threads:
            thread.start()

    def put(self, records: list[bytes]) -> None:
        """Hand records over; never waits."""
        size = sum(map(len, records))
        if self.waiting_bytes + size > self._most:
            self.lose("behind", len(records))
            return
        with self._lock:
            self.waiting_bytes += size
            self._queue += records

    def lose(self, reason: str, calls: int) -> None:
        """Count calls that will not be in the log."""
        with self._lock:
            self.lost[reason] += calls
            self._unnamed[reason] += calls

    def stop(self) -> None:
        """Write what waits and end."""
        self._ending.set()
        self._threads[0].join()

    def _run(self) -> None:
        synced = time.monotonic()
        while True:
            ending = self._ending.wait(EVERY_SECONDS)
            while self._queue:
                self._append()
            now = time.monotonic()
            if now - synced >= SYNC_SECONDS or ending:
                synced = now
                self._guarded(self._log.sync)
            if ending:
                self._guarded(self._log.close)
                return

    def _append(self) -> None:
        with self._lock:
            records = self._queue[:_AT_ONCE]
            del self._queue[:_AT_ONCE]
            self.waiting_bytes -= sum(map(len, records))
            unnamed, self._unnamed = self._unnamed, Counter()
        for reason, count in unnamed.items():
            self._log.lost[reason] = self._log.lost.get(reason, 0) + count
        try:
            self._log.append(records)
        except OSError as error:
            self._failed(error)
            self.lose("disk", len(records))
            return
        self.failure = ""
        self.written += len(records)

    def _guarded(self, step: object) -> None:
        try:
            step()  # type: ignore[operator]
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        failure = f"decisions are not recorded: {error.strerror or error}"
        if failure != self.failure:
            log.error("%s", failure)
        self.failure = failure

    def _compress(self) -> None:
        while not self._ending.wait(_COMPRESS_PAUSE_SECONDS):
            there = self._log.segments()
            self.log_bytes = sum(each.size for each in there)
            for segment in self._log.uncompressed(there):
                if self._ending.is_set():
                    return
                try:
                    compress(segment)
                except OSError as error:
                    self._failed(error)
                    break
