"""The id of a decision: what a caller can quote, a switch can deduplicate by, and nobody can
turn back into a number."""

import base64
import secrets
from hashlib import blake2b
from typing import Final

_CROCKFORD: Final = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
)


def decision_id(*, call_id: str, calling: str, called: str, key: bytes) -> str:
    """26 characters of Crockford base32: a keyed hash of the call, random without `call_id`.

    The same call asked again, by a fork, a retransmission or another node with the same key, has
    the same id. Valid as the `id` of a 603+ Reason (at most 64 of `[A-Za-z0-9_-]`).
    """
    if call_id:
        # The lengths keep ("a", "bc") and ("ab", "c") apart.
        text = f"{len(call_id)}:{call_id}{len(calling)}:{calling}{called}"
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=key).digest()
    else:
        digest = secrets.token_bytes(16)
    return base64.b32encode(digest).translate(_CROCKFORD)[:26].decode("ascii")


class RecentCalls:
    """Which call keys were decided lately, so that counters count a call once.

    Two generations of ids: the young one is filled until it holds `capacity` ids or is
    `horizon_seconds` old, then becomes the old one. Memory is bounded whatever is asked, and an
    id is remembered for at least one horizon unless more than `capacity` calls came in it.
    """

    __slots__ = ("_born", "_capacity", "_horizon", "_old", "_young")

    def __init__(self, *, capacity: int = 100_000, horizon_seconds: float = 180.0) -> None:
        self._capacity = capacity
        self._horizon = horizon_seconds
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._born = 0.0

    def attempt(self, identity: str, now: float) -> int:
        """The how-manieth question about this call this is, from 1; `now` is monotonic seconds."""
        if len(self._young) >= self._capacity or now - self._born > self._horizon:
            self._old = self._young
            self._young = {}
            self._born = now
        attempt = self._young.get(identity) or self._old.get(identity, 0)
        attempt += 1
        self._young[identity] = attempt
        return attempt
