"""Where the ledger's chain has come to, signed, and kept where its database cannot reach.

A checkpoint is signed every `SIGN_SECONDS` in which the ledger went on, by whoever serves, and by
whoever appends the last of so many events. Each node writes all of them, whoever signed, to its
log and to a file of lines that is only ever added to.
"""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from consent.durable import sync_folder
from consent.record import Checkpoint, Record
from screening.state import State

log = logging.getLogger(__name__)

SIGN_SECONDS: Final = 10.0
LINE_BYTES: Final = 1024
"""More than any line has."""


class Checkpoints:
    """Signs and writes the checkpoints of one node's record; belongs to one thread at a time."""

    def __init__(self, state: State, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._clock = clock
        self._signed_at = float("-inf")
        self._path = state.settings.checkpoints

    def step(self, *, sign: bool = False) -> None:
        """Sign if it is time, or now with `sign`; write what the file does not have yet.

        Raises RecordUnavailable, RecordError, and OSError where the file cannot be written.
        """
        record = self._state.record()
        if sign or self._clock() - self._signed_at >= SIGN_SECONDS:
            record.ledger.checkpoint()
            self._signed_at = self._clock()
        write_new(record, self._path)


def write_new(record: Record, path: Path) -> None:
    """Add the checkpoints of the record that a file does not have, and tell the log of them."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = not path.exists()
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        last, whole = _end(fd)
        ledger = record.ledger.id()
        after = last.sequence if last is not None and last.ledger == ledger else 0
        lines = [each.line() for each in record.ledger.checkpoints(after)]
        if not lines:
            return
        text = "".join(f"{line}\n" for line in lines)
        # A line that a crash broke off stays as it is: the file is only added to.
        _write(fd, (text if whole else f"\n{text}").encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    if new:
        sync_folder(path.parent)
    for line in lines:
        log.info("checkpoint of the ledger: %s", line)


def read_checkpoints(path: Path) -> Iterator[tuple[int, Checkpoint | None]]:
    """The lines of a file with their numbers; None for one that is no checkpoint.

    A line of a log is read too: the checkpoint stands at its end. Raises OSError.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _parse(line)


def _parse(line: bytes) -> Checkpoint | None:
    try:
        return Checkpoint.parse(line[line.find(b"{") :])
    except ValueError:
        return None


def _end(fd: int) -> tuple[Checkpoint | None, bool]:
    """The last checkpoint of a file, and whether its last line is whole."""
    size = os.fstat(fd).st_size
    tail = os.pread(fd, 8 * LINE_BYTES, max(0, size - 8 * LINE_BYTES))
    found = [each for line in tail.splitlines() if (each := _parse(line)) is not None]
    return found[-1] if found else None, not tail or tail.endswith(b"\n")


def _write(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]
