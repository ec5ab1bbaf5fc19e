"""Tells a webhook what waits in the record: signed, tried again with growing pauses, none lost by a
restart. A receiver checks `Screening-Signature`,
which is `t=<epoch seconds>,v1=<hex>`: HMAC-SHA256 of `<t>.<body>` under the shared secret; it
refuses a `t` that is old, and takes an `Idempotency-Key` once.
"""

import contextlib
import hashlib
import hmac
import http.client
import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Generic, Protocol, Self, TypeVar
from urllib.parse import urlsplit

from consent.record import RecordError, RecordUnavailable

log = logging.getLogger(__name__)

SIGNATURE: Final = "Screening-Signature"
FIRST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 3_600.0
GIVE_UP_SECONDS: Final = 3 * 86_400.0
TIMEOUT_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 1.0
LEAST_SECRET: Final = 16


def signature(body: bytes, *, secret: bytes, at: int) -> str:
    """The header's value."""
    digest = hmac.digest(secret, b"%d." % at + body, hashlib.sha256)
    return f"t={at},v1={digest.hex()}"


def pause(attempts: int, chance: float) -> float:
    """Seconds until the next attempt, after so many: up to twice as long each time, `chance` from
    0 to 1 of it (full jitter), so that receivers which come back are not called by all at once."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempts, 20))
    return 1.0 + chance * longest


class Waiting(Protocol):
    """What is to be told; `at` is since when, epoch seconds."""

    @property
    def key(self) -> str:
        """By which a receiver knows what it has taken."""

    @property
    def at(self) -> float: ...
    @property
    def attempts(self) -> int: ...


W = TypeVar("W", bound=Waiting)


class Queue(Protocol[W]):
    """What waits, in the record. Every method may raise RecordUnavailable."""

    def bound(self) -> int:
        """Give up the oldest of too many; how many those were."""

    def due(self) -> Sequence[W]:
        """What is to be told now."""

    def told(self, each: W, /) -> None:
        """It was taken."""

    def later(self, each: W, at: float, /, *, failure: str) -> None:
        """It was not: again at an instant."""

    def give_up(self, each: W, /, *, failure: str) -> None:
        """It was not, and never will be."""


class Telling(Generic[W]):
    """Tells a webhook in a thread of its own: a receiver that hangs holds up nobody else.

    `queue` gives None while another process tells it.
    """

    def __init__(self, webhook: "Webhook[W]", queue: Callable[[], Queue[W] | None]) -> None:
        self._webhook = webhook
        self._queue = queue
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(TIMEOUT_SECONDS)

    def _run(self) -> None:
        while not self._ending.is_set():
            # That the record is gone is said by who else needs it.
            with contextlib.suppress(RecordUnavailable, RecordError):
                queue = self._queue()
                if queue is not None:
                    self._webhook.tell(queue)
            self._ending.wait(LOOK_SECONDS)


class Webhook(Generic[W]):
    """One receiver; `body` is what it gets of each. Raises ValueError for a URL that is none."""

    def __init__(
        self,
        url: str,
        *,
        secret: bytes,
        body: Callable[[W], bytes],
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the webhook {url!r} is no http or https URL")
        self.sent = 0
        self.failed = 0
        self.given_up = 0
        self.failure = ""
        """Why the last attempt failed, "" when it did not."""
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secret = secret
        self._body = body
        self._clock = clock
        self._chance = chance

    @classmethod
    def signed_by(cls, url: str, file: Path | None, *, body: Callable[[W], bytes]) -> Self:
        """A receiver whose secret is in a file. Raises ValueError where there is none, or a short
        one, and OSError."""
        if file is None:
            raise ValueError(f"the webhook {url!r} needs a file with its secret")
        secret = file.read_bytes().strip()
        if len(secret) < LEAST_SECRET:
            raise ValueError(f"{file}: expected a secret of {LEAST_SECRET} bytes or more")
        return cls(url, secret=secret, body=body)

    def tell(self, queue: Queue[W]) -> int:
        """Send what is due; how many were taken. Raises RecordUnavailable."""
        self.given_up += queue.bound()
        taken = 0
        for each in queue.due():
            failure = self._send(self._body(each), {"Idempotency-Key": each.key})
            if failure != self.failure and failure:
                log.warning("the webhook does not take what it is told: %s", failure)
            self.failure = failure
            now = self._clock()
            if not failure:
                queue.told(each)
                self.sent += 1
                taken += 1
                continue
            self.failed += 1
            if now - each.at > GIVE_UP_SECONDS:
                queue.give_up(each, failure=failure)
                self.given_up += 1
            else:
                queue.later(each, now + pause(each.attempts, self._chance()), failure=failure)
        return taken

    def _send(self, body: bytes, headers: Mapping[str, str]) -> str:
        """ "" when it was taken, else why not."""
        if self._secure:
            context = ssl.create_default_context()
            link: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_SECONDS, context=context
            )
        else:
            link = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)
        signed = signature(body, secret=self._secret, at=int(self._clock()))
        try:
            link.request(
                "POST",
                self._target,
                body,
                {**headers, "Content-Type": "application/json", SIGNATURE: signed},
            )
            status = link.getresponse().status
        except (OSError, http.client.HTTPException) as gone:
            return f"{type(gone).__name__}: {gone}"
        finally:
            link.close()
        return "" if 200 <= status < 300 else f"status {status}"
