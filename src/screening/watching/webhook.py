"""Tells warnings to a webhook: signed, tried again with growing pauses, none lost by a restart.

What waits is in the record (`consent.record.warnings`). A receiver checks `Screening-Signature`,
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
from collections.abc import Callable, Mapping
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson

from consent.record import RecordError, RecordUnavailable, Warned
from consent.record.warnings import Warnings

log = logging.getLogger(__name__)

SIGNATURE: Final = "Screening-Signature"
FIRST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 3_600.0
GIVE_UP_SECONDS: Final = 3 * 86_400.0
TIMEOUT_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 1.0


def signature(body: bytes, *, secret: bytes, at: int) -> str:
    """The header's value."""
    digest = hmac.digest(secret, b"%d." % at + body, hashlib.sha256)
    return f"t={at},v1={digest.hex()}"


def pause(attempts: int, chance: float) -> float:
    """Seconds until the next attempt, after so many: up to twice as long each time, `chance` from
    0 to 1 of it (full jitter), so that receivers which come back are not called by all at once."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempts, 20))
    return 1.0 + chance * longest


def body_of(warned: Warned) -> bytes:
    """What is sent: the warning as `GET /v1/warnings` has it."""
    return orjson.dumps(shown(warned), option=orjson.OPT_SORT_KEYS)


def shown(warned: Warned) -> dict[str, Any]:
    """A warning for people and programs, without any number."""
    return {
        "id": warned.id,
        "kind": warned.kind,
        "party": warned.party,
        "since": warned.since,
        "at": warned.at,
        "about": dict(warned.about),
        "rule": warned.rule,
        "state": warned.state,
        "reason": warned.reason,
        "decided": warned.decided,
        "decided_by": warned.decided_by,
    }


class Telling:
    """Tells a webhook in a thread of its own: a receiver that hangs holds up nobody who watches."""

    def __init__(self, webhook: "Webhook", warnings: Callable[[], Warnings]) -> None:
        self._webhook = webhook
        self._warnings = warnings
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
            # While the record is gone nothing is found either, which the watch says of itself.
            with contextlib.suppress(RecordUnavailable, RecordError):
                self._webhook.tell(self._warnings())
            self._ending.wait(LOOK_SECONDS)


class Webhook:
    """One receiver. Raises ValueError for a URL that is none."""

    def __init__(
        self,
        url: str,
        *,
        secret: bytes,
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
        self._clock = clock
        self._chance = chance

    def tell(self, warnings: Warnings) -> int:
        """Send what is due; how many were taken. Raises RecordUnavailable."""
        self.given_up += warnings.bound()
        taken = 0
        for each in warnings.due():
            failure = self._send(body_of(each), {"Idempotency-Key": each.id})
            if failure != self.failure and failure:
                log.warning("the webhook does not take warnings: %s", failure)
            self.failure = failure
            now = self._clock()
            if not failure:
                warnings.told(each.id)
                self.sent += 1
                taken += 1
                continue
            self.failed += 1
            if now - each.at > GIVE_UP_SECONDS:
                warnings.told(each.id)
                self.given_up += 1
            else:
                warnings.later(each.id, now + pause(each.attempts, self._chance()))
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
