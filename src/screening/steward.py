"""Which worker of a node does what must be done once, and not once a worker."""

import fcntl
import os
from pathlib import Path
from typing import Final

FILE: Final = "steward.lock"


class Steward:
    """One worker's candidacy. Whoever asks first holds it, until its process is gone.

    Ask `holds` at each step of such a duty, not once: another worker may have died meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock: int | None = None

    def holds(self) -> bool:
        """Whether the duties of the node are this worker's."""
        if self._lock is None:
            lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                return False
            self._lock = lock
        return True

    def leave(self) -> None:
        """Let another worker have them."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
