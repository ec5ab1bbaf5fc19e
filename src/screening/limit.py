"""How much one asker may take in a time: what tells of subscribers is an oracle, too."""

import math
import threading
import time
from collections.abc import Callable
from typing import Final

MOST_ASKERS: Final = 10_000


class Limit:
    """A bucket for each asker that holds `most` and fills up within `seconds`. Threads share it."""

    def __init__(
        self, most: int, *, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most: Final = most
        self._rate = most / seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._full_at: dict[str, float] = {}
        """When each bucket is full again: one that is forgotten is full."""

    def take(self, asker: str, count: int = 1) -> int:
        """Take out `count`, or nothing: the seconds after which they are there, 0 if taken."""
        with self._lock:
            now = self._clock()
            filled = max(self._full_at.get(asker, now), now) + count / self._rate
            excess = filled - now - self.most / self._rate
            if excess > 1e-9:
                return math.ceil(excess)
            if len(self._full_at) >= MOST_ASKERS:
                self._full_at = {who: at for who, at in self._full_at.items() if at > now}
            self._full_at[asker] = filled
            return 0
